"""Events: what `Agent.run` yields while a question is answered, and the answer at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .search import SearchResult

if TYPE_CHECKING:
    from ..engine.session import TurnStats


@dataclass(frozen=True)
class Token:
    """A sampled id. `text` is what it completes (often empty inside a character); `part` is thinking, call or answer.
    Control ids carry no text."""

    id: int
    text: str
    logprob: float
    part: str


@dataclass(frozen=True)
class ToolCall:
    """The model asks for searches. `text` is the span as it wrote it; `error` says why it could not be run."""

    text: str
    queries: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True)
class ToolResponse:
    """What was appended for one call. `results` is empty when `notice` says why; `cut` tells that the context left no
    room for all of it; `ids` counts what was fed, frames included; `error` is what the search said that failed."""

    query: str
    results: tuple[SearchResult, ...]
    notice: str | None
    repeated: bool  # answered from this run's own results
    cut: bool
    ids: int
    error: str | None = None


@dataclass(frozen=True)
class Forced:
    """Words put in the model's mouth. `reason`: thinking (budget), context, loop or searches."""

    text: str
    reason: str


@dataclass(frozen=True)
class Finished:
    """The last event."""

    answer: Answer


@dataclass(frozen=True)
class Citation:
    """A link of the answer whose url a search of this run returned."""

    title: str
    url: str


@dataclass(frozen=True)
class Unsupported:
    """Something in the answer that its sources do not hold. `kind`: url (no search returned it), sentence (words or
    numbers that the cited result lacks), uncited (no source at all), question (the cited result does not speak of what
    was asked)."""

    kind: str
    text: str
    url: str | None
    reason: str


@dataclass(frozen=True)
class Answer:
    """The outcome of one question."""

    text: str
    citations: list[Citation]
    unsupported: list[Unsupported]
    searches: list[tuple[str, list[SearchResult]]]
    turns: list[TurnStats]  # of this question
    recomputed: int
    finish_reason: str  # stop | length | context | loop | searches | interrupted
    trace: list[dict[str, Any]] = field(repr=False)  # spans of the whole session, see trace.py


Event = Token | ToolCall | ToolResponse | Forced | Finished
