"""Traces: a run as JSON lines. The first line is a header, then one line per span of ids with one source, then the
outcome. Every line goes through `redact`, so that no secret is ever written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import LonghandError
from ..engine.session import Session

if TYPE_CHECKING:
    from .events import Answer

TRACE_FORMAT = "longhand-trace-1"
SECRET_NAMES = ("TAVILY_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # environment variables whose values are secret


def spans(session: Session) -> list[dict[str, Any]]:
    """The session's ids in runs of one source: {"source", "start", "ids", "text"}, in order, nothing left out."""
    ids, sources = session.ids, session.sources
    found: list[dict[str, Any]] = []
    start = 0
    for end in range(1, len(ids) + 1):
        if end == len(ids) or sources[end] != sources[start]:
            part = list(ids[start:end])
            text = session.engine.tokenizer.decode(part)
            found.append({"source": sources[start], "start": start, "ids": part, "text": text})
            start = end
    return found


def redact(text: str, secrets: Iterable[str] | None = None) -> str:
    """The text with every secret's value replaced; by default those of SECRET_NAMES that are set."""
    values = [os.environ.get(name, "") for name in SECRET_NAMES] if secrets is None else secrets
    for value in values:
        if len(value) >= 8:
            text = text.replace(value, "[redacted]").replace(json.dumps(value)[1:-1], "[redacted]")
    return text


def write_trace(path: Path, header: dict[str, Any], answer: Answer) -> None:
    """Write header, spans and outcome to a JSONL file, beside and renamed."""
    outcome = {
        "type": "outcome", "answer": answer.text, "finish_reason": answer.finish_reason,
        "recomputed": answer.recomputed, "turns": [vars(turn) for turn in answer.turns],
        "searches": [{"query": q, "results": [r.as_dict() for r in results]} for q, results in answer.searches],
    }  # fmt: skip
    rows = [{"type": "header", "format": TRACE_FORMAT, **header}, *({"type": "span", **span} for span in answer.trace),
            outcome]  # fmt: skip
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(redact(json.dumps(row, ensure_ascii=False)) + "\n")
        partial.replace(path)
    except OSError as error:
        raise LonghandError(f"{path}: the trace cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)
