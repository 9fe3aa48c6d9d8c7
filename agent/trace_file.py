"""Reading traces: a JSONL file of format longhand-trace-2 (see trace.py), checked and as objects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import LonghandError
from .search import SearchResult
from .trace import TRACE_FORMAT

SOURCES = ("prompt", "sampled", "tool", "forced")
OLD_FORMATS = ("longhand-trace-1",)
TEXTS = ("question", "name", "rope", "model", "quantization", "tokenizer", "dtype", "search", "today", "device")
STATS = ("fed", "computed", "reused", "sampled", "prefill_seconds", "decode_seconds")


@dataclass(frozen=True)
class Span:
    """Ids of one source. What a span of its source does not have is None or empty."""

    turn: int
    source: str
    start: int
    ids: list[int]
    text: str
    cached: int
    computed: int
    seconds: float
    logprobs: list[float | None] = field(default_factory=list)
    parts: list[tuple[str, int, int]] = field(default_factory=list)
    search: dict[str, Any] | None = None
    question: str | None = None
    reason: str | None = None
    stats: dict[str, Any] | None = None
    logits: list[dict[str, Any]] = field(default_factory=list)
    redacted: int = 0

    @property
    def size(self) -> int:
        return len(self.ids) + self.redacted

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Trace:
    """A trace as it was read. `torn`: its last line was cut off."""

    path: Path
    header: dict[str, Any]
    spans: list[Span]
    outcomes: list[dict[str, Any]]
    torn: bool

    @property
    def ids(self) -> list[int]:
        return [token_id for span in self.spans for token_id in span.ids]

    @property
    def sources(self) -> list[str]:
        return [span.source for span in self.spans for _ in span.ids]

    @property
    def turns(self) -> list[list[Span]]:
        """The spans of each turn, in order."""
        found: dict[int, list[Span]] = {}
        for span in self.spans:
            found.setdefault(span.turn, []).append(span)
        return list(found.values())

    @property
    def stats(self) -> list[tuple[int, dict[str, Any]]]:
        """The number of each turn that was computed in this run, and its statistics."""
        return [(span.turn, span.stats) for span in self.spans if span.stats]

    @property
    def questions(self) -> list[str]:
        return [span.question for span in self.spans if span.question is not None]

    @property
    def searches(self) -> list[dict[str, Any]]:
        """What was asked and came back, in order, notices and repetitions included."""
        return [span.search for span in self.spans if span.search is not None]

    @property
    def recomputed(self) -> int:
        """Ids computed more often than once: of all spans, computed less what was in the cache in the end."""
        done = [span for span in self.spans if span.computed]
        if not done:
            return 0
        cached = max(span.cached + span.computed for span in done)
        return done[0].cached + sum(span.computed for span in done) - cached

    @property
    def state(self) -> str:
        """One line about an end that is not the run's own; empty for a whole trace."""
        said = []
        if self.torn:
            said.append("the last line is cut off and was passed over")
        if len(self.outcomes) < max(len(self.questions), 1):
            said.append("no outcome: the run goes on, or was killed")
        return "; ".join(said)

    def whole_ids(self, verb: str) -> list[int]:
        """The ids; LonghandError where a span was redacted or there is none."""
        if any(span.redacted for span in self.spans):
            raise LonghandError(f"{self.path}: a span that held a secret was redacted; such a trace cannot be {verb}")
        if not self.spans:
            raise LonghandError(f"{self.path}: holds no span yet; there is nothing to be {verb}")
        return self.ids


def made(search: dict[str, Any]) -> bool:
    """Whether a search was made for a call: neither a notice of the agent's own nor a repetition."""
    asked = bool(search["query"]) and not search["repeated"]
    return asked and (search["notice"] is None or search["error"] is not None)


def read_trace(path: Path) -> Trace:
    """Read and check a trace. A torn last line is passed over and told; LonghandError names the file, and the line,
    for anything else that is not one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LonghandError(f"{path}: cannot be read ({error.strerror})") from None
    lines = data.split(b"\n")  # a whole file ends with a newline
    last, rows, torn = len(lines), [], False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):  # UnicodeDecodeError is one
            if number == last and number > 1:
                torn = True
                break
            raise LonghandError(f"{path}: line {number} is damaged: not JSON") from None
        rows.append((number, row))
    if not rows:
        raise LonghandError(f"{path}: is empty; a trace begins with a header")
    header = _header(path, rows[0][1])
    spans: list[Span] = []
    outcomes: list[dict[str, Any]] = []
    for number, row in rows[1:]:
        try:
            if row["type"] == "span":
                spans.append(_span(row, spans[-1] if spans else None, header["vocab"]))
            elif row["type"] == "outcome":
                outcomes.append(_outcome(row))
            else:
                raise ValueError(f"type {row['type']!r} is not one of span, outcome")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise LonghandError(f"{path}: line {number} is damaged: {what}") from None
    return Trace(path, header, spans, outcomes, torn)


def _header(path: Path, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or row.get("type") != "header":
        raise LonghandError(f"{path}: not a Longhand trace; it begins with no header")
    if row.get("format") in OLD_FORMATS:
        raise LonghandError(f"{path}: written by an older Longhand ({row['format']}, which kept neither turns nor "
                            f"logits); this one reads {TRACE_FORMAT}: record the run again")  # fmt: skip
    if row.get("format") != TRACE_FORMAT:
        raise LonghandError(f"{path}: format {row.get('format')!r} is not known; this Longhand reads {TRACE_FORMAT}")
    numbers = ("vocab", "max_context", "template", "seed")
    for name, kind in [*((name, str) for name in TEXTS), *((name, int) for name in numbers), ("sampling", dict),
                       ("budget", dict)]:  # fmt: skip
        if not isinstance(row.get(name), kind):
            raise LonghandError(f"{path}: line 1 is damaged: the header's {name} is not there or not a {kind.__name__}")
    fork = row.get("fork", {"name": "", "ids": 0, "seconds": 0})
    if not isinstance(fork, dict) or not isinstance(fork.get("name"), str) or not isinstance(fork.get("ids"), int) \
            or not _is_amount(fork.get("seconds")):  # fmt: skip
        raise LonghandError(f"{path}: line 1 is damaged: the header's fork has no name, ids and seconds")
    return row


def _span(row: dict[str, Any], before: Span | None, vocab: int) -> Span:
    values = {name: row[name] for name in Span.__dataclass_fields__ if name in row}
    missing = [name for name in ("turn", "source", "start", "ids", "text", "cached", "computed") if name not in values]
    if missing:
        raise KeyError(missing[0])
    values["parts"] = [(str(name), int(ids), int(size)) for name, ids, size in values.get("parts", [])]
    span = Span(**values)
    for name in ("turn", "start", "cached", "computed", "redacted"):
        if not isinstance(getattr(span, name), int) or getattr(span, name) < 0:
            raise ValueError(f"{name} is not a number of ids")
    if not _is_amount(span.seconds) or not isinstance(span.text, str):
        raise ValueError("seconds or text are not what they should be")
    if span.source not in SOURCES:
        raise ValueError(f"source {span.source!r} is not one of {', '.join(SOURCES)}")
    if not isinstance(span.ids, list) or any(type(i) is not int or not 0 <= i < vocab for i in span.ids):
        raise ValueError("ids are not ids of the model's vocabulary")
    start = before.end if before else 0
    if span.start != start or span.cached > span.end:
        raise ValueError(f"starts at {span.start}, with {span.cached} cached, where {start} ids come before")
    if span.logprobs and len(span.logprobs) != len(span.ids):
        raise ValueError(f"{len(span.logprobs)} log-probabilities for {len(span.ids)} ids")
    if any(not isinstance(row, dict) or not isinstance(row.get("position"), int) or not 0 < row["position"] <= span.end
           for row in span.logits):  # fmt: skip
        raise ValueError("logits without a position of the run")
    _check_notes(span)
    return span


def _check_notes(span: Span) -> None:
    """Raises for notes that readers could not use."""
    for text in (span.question, span.reason):
        if text is not None and not isinstance(text, str):
            raise ValueError("question or reason is no text")
    if span.stats is not None and not all(_is_amount(span.stats[name]) for name in STATS):
        raise ValueError("stats are not numbers from 0 on")
    if span.search is not None:
        if not isinstance(span.search["query"], str):
            raise ValueError("a search without a query")
        for result in span.search["results"]:
            SearchResult.from_dict(result)
        if not all(isinstance(span.search[name], bool) for name in ("repeated", "cut")):
            raise ValueError("a search's repeated or cut is not true or false")
        for name in ("error", "notice"):
            if span.search[name] is not None and not isinstance(span.search[name], str):
                raise ValueError(f"a search's {name} is no text")


def _outcome(row: dict[str, Any]) -> dict[str, Any]:
    if "error" in row:
        _texts(row, ("error",))
        return row
    _texts(row, ("answer", "finish_reason"))
    for citation in row["citations"]:
        _texts(citation, ("title", "url"))
    for item in row["unsupported"]:
        _texts(item, ("kind", "text", "reason"))
        if item["url"] is not None:
            _texts(item, ("url",))
    return row


def _is_amount(value: object) -> bool:
    """Whether a count or seconds can be shown; the largest are a century of seconds, and more ids than there are."""
    return isinstance(value, int | float) and 0 <= value < 1e15


def _texts(value: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if not isinstance(value[name], str):
            raise ValueError(f"{name} is no text")
