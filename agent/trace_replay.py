"""Replay: a recorded run once more, offline: its seed, its sampling, its date and its searches; and the same ids."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from ..engine.errors import LonghandError
from ..engine.sampler import SamplingParams
from .agent import Agent
from .budget import Budget
from .events import Finished, Token
from .prompt import TEMPLATE_VERSION
from .search import SearchError, SearchResult
from .trace_file import Trace

if TYPE_CHECKING:
    from ..engine.engine import Engine


class TraceSearch:
    """Answers with a trace's own searches, each query in its order; never touches the network. A query that the trace
    does not have next to its name is an error that says so."""

    name = "replay"

    def __init__(self, trace: Trace, searches: list[dict[str, Any]] | None = None) -> None:
        self._where = trace.path
        self._takes: dict[str, deque[dict[str, Any]]] = {}
        for take in trace.searches if searches is None else searches:
            if made(take):
                self._takes.setdefault(_normalised(take["query"]), deque()).append(take)

    def search(self, query: str) -> list[SearchResult]:
        takes = self._takes.get(_normalised(query))
        if not takes:
            raise SearchError(f'no search for "{query}" was recorded in {self._where}')
        take = takes.popleft()
        if take["error"] is not None:
            raise SearchError(take["error"])
        return results_of(take)


def made(take: dict[str, Any]) -> bool:
    """Whether a search was made for a call: neither a notice of the agent's own nor a repetition."""
    return bool(take["query"]) and not take["repeated"] and (take["notice"] is None or take["error"] is not None)


def results_of(take: dict[str, Any]) -> list[SearchResult]:
    return [SearchResult(result["title"], result["url"], result["content"]) for result in take["results"]]


def _normalised(query: str) -> str:
    return " ".join(query.split())


def agent_of(trace: Trace, engine: Engine, search: Any) -> Agent:
    """An agent as the trace's was. LonghandError for a header that makes none, or another version of the template."""
    header = trace.header
    if header["template"] != TEMPLATE_VERSION:
        raise LonghandError(f"{trace.path}: recorded with version {header['template']} of the prompt's template; "
                            f"this Longhand has {TEMPLATE_VERSION}")  # fmt: skip
    try:
        budget, sampling = Budget(**header["budget"]), SamplingParams(**header["sampling"])
        today = date.fromisoformat(header["today"])
    except (TypeError, ValueError) as error:
        raise LonghandError(f"{trace.path}: line 1 is damaged: {error}") from None
    return Agent(engine, search, budget, sampling, header["seed"], today)


@dataclass(frozen=True)
class Replayed:
    """What came of a replay. `position`: the first that differs, None if none does."""

    position: int | None
    recorded: int  # ids
    replayed: int
    recomputed: int
    was: tuple[int, str] | None = None  # id and source that were recorded there; None behind the end
    now: tuple[int, str] | None = None


def replay(trace: Trace, engine: Engine) -> Replayed:
    """Run the trace's questions again and compare ids and sources. A trace without its end (killed or interrupted) is
    followed as far as it goes. The engine must be that of the trace (`check_identity`)."""
    ids, sources = trace.whole_ids("replayed"), trace.sources
    agent = agent_of(trace, engine, TraceSearch(trace))
    ends = [outcome.get("finish_reason") for outcome in trace.outcomes]
    session = None
    for number, question in enumerate(trace.questions):
        ended = number < len(ends) and ends[number] not in ("interrupted", None)
        events = agent.run(question, session)
        session = agent.session
        assert session is not None
        try:
            for event in events:
                if isinstance(event, Finished) or (not ended and len(session) >= len(ids)):
                    break
                if isinstance(event, Token) and len(session) > len(ids):
                    break  # already longer than what was recorded
        except SearchError:
            break  # it ends the run; what was fed before it is compared
    assert session is not None
    whole = bool(ends) and len(ends) == len(trace.questions) and ends[-1] not in ("interrupted", None)
    was = list(zip(ids, sources, strict=True))
    now = list(zip(session.ids, session.sources, strict=True))
    now = now if whole else now[: len(was)]
    length = min(len(was), len(now))
    position = next((n for n in range(length) if was[n] != now[n]), None if len(was) == len(now) else length)
    if position is None:
        return Replayed(None, len(was), len(now), session.recomputed)
    at = [pairs[position] if position < len(pairs) else None for pairs in (was, now)]
    return Replayed(position, len(was), len(now), session.recomputed, at[0], at[1])
