"""TraceLines: the file of a trace, one JSON object a line, flushed as it is written, with no secret in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ..engine.errors import LonghandError
from .redact import json_line, redact, secret_values


class TraceLines:
    """Writes lines from `open` on. Raises LonghandError where the file cannot be written."""

    def __init__(self, path: Path):
        self.path = path
        self._file: TextIO | None = None
        self._tail = ""  # text before the next span: a secret may begin in it

    def open(self) -> None:
        try:
            self._file = self.path.open("w", encoding="utf-8")
        except OSError as error:
            raise LonghandError(f"{self.path}: the trace cannot be written ({error.strerror})") from None

    def span(self, row: dict[str, Any]) -> None:
        """A span's line. Where its text holds a secret, or the end of one that began in the span before, it has no
        ids, which would spell it out."""
        text = row["text"]
        seen = self._tail + text
        if redact(text) != text or redact(seen) != redact(self._tail) + text:
            row = row | {"ids": [], "redacted": len(row["ids"]), "logprobs": [], "parts": [], "logits": []}
            if redact(text) == text:
                row["text"] = "[redacted]"
        longest = max(map(len, secret_values()), default=0)
        self._tail = text[-longest:] if longest and len(text) >= longest else seen[-longest:] if longest else ""
        self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        assert self._file is not None
        line = json_line(row)
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise LonghandError(f"{self.path}: the trace cannot be written ({error.strerror})") from None

    def close(self) -> None:
        """Harmless when done twice."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
