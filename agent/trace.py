"""Traces: a run as JSON lines. The first line is a header, then one line per span of ids with one source, then the
outcome. Every text goes through `redact`, so that no secret is ever written; a span that held one keeps no ids, which
would spell it out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import LonghandError

if TYPE_CHECKING:
    from ..engine.session import Session
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
    for value in map(str.strip, values):
        if len(value) >= 8:
            text = text.replace(value, "[redacted]").replace(json.dumps(value)[1:-1], "[redacted]")
    return text


def json_line(value: Any) -> str:
    """JSON with its characters as they are; only lone surrogates, which UTF-8 cannot carry, are escaped."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def write_trace(path: Path, header: dict[str, Any], answer: Answer) -> None:
    """Write header, spans and outcome to a JSONL file, beside and renamed."""
    outcome = {
        "type": "outcome", "answer": answer.text, "finish_reason": answer.finish_reason,
        "recomputed": answer.recomputed, "turns": [vars(turn) for turn in answer.turns],
        "searches": [{"query": q, "results": [r.as_dict() for r in results]} for q, results in answer.searches],
    }  # fmt: skip
    spans = ({"type": "span", **span} if redact(span["text"]) == span["text"] else
             {"type": "span", **span, "ids": [], "redacted": len(span["ids"])} for span in answer.trace)  # fmt: skip
    rows = [{"type": "header", "format": TRACE_FORMAT, **header}, *spans, outcome]
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json_line(_redacted(row)) + "\n")
        partial.replace(path)
    except OSError as error:
        raise LonghandError(f"{path}: the trace cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):
            partial.unlink()


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return redact(value) if isinstance(value, str) else value
