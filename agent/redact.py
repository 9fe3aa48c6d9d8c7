"""Redaction: a secret that was loaded is replaced by value wherever text leaves the program, and JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

SECRET_NAMES = ("TAVILY_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # environment variables whose values are secret
MIN_SECRET = 8  # characters: a shorter value is no key, and would strike harmless text


def secret_values() -> list[str]:
    """The secrets that are set now, longest first."""
    values = {os.environ.get(name, "").strip() for name in SECRET_NAMES}
    return sorted((value for value in values if len(value) >= MIN_SECRET), key=len, reverse=True)


def redact(text: str, secrets: Iterable[str] | None = None) -> str:
    """The text with every secret's value replaced; by default those of SECRET_NAMES that are set."""
    values = secret_values() if secrets is None else secrets
    for value in map(str.strip, values):
        if len(value) >= MIN_SECRET:
            text = text.replace(value, "[redacted]").replace(json.dumps(value)[1:-1], "[redacted]")
    return text


def redact_all(value: Any) -> Any:
    """The same of every string in a JSON value, keys included."""
    if isinstance(value, dict):
        return {redact(key): redact_all(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(inner) for inner in value]
    return redact(value) if isinstance(value, str) else value


def json_line(value: Any) -> str:
    """JSON with its characters as they are and secrets redacted; only lone surrogates, which UTF-8 cannot carry, are
    escaped."""
    text = json.dumps(redact_all(value), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


class RedactedStream:
    """Redacts text that arrives in pieces: what may be the beginning of a secret is held back until it is none."""

    def __init__(self) -> None:
        self.held = ""

    def push(self, text: str) -> str:
        """What can be shown by now."""
        text = redact(self.held + text)
        hold = max((_overlap(text, secret) for secret in secret_values()), default=0)
        self.held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def flush(self) -> str:
        """What was held back."""
        held, self.held = self.held, ""
        return held


def _overlap(text: str, secret: str) -> int:
    """Characters at the end of the text that a secret begins with."""
    return next((n for n in range(min(len(secret) - 1, len(text)), 0, -1) if secret.startswith(text[-n:])), 0)
