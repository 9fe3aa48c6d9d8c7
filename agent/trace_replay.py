"""Replay: a recorded run once more, offline: its seed, its sampling, its date and its searches; and the same ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from ..engine.errors import LonghandError
from ..engine.sampler import SamplingParams
from .agent import Agent, Run
from .budget import Budget
from .events import Event, Finished, Token
from .prompt import TEMPLATE_VERSION
from .search import SearchError, SearchResult, normalised
from .trace_file import Span, Trace, made
from .trace_fork import OTHER_QUERY

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.session import Session


class TraceSearch:
    """Answers with a trace's own searches, each query in its order; never touches the network. A query that the trace
    does not have next to its name is an error that says so."""

    name = "replay"

    def __init__(self, trace: Trace, searches: list[dict[str, Any]] | None = None) -> None:
        self._where = trace.path
        self._takes: dict[str, deque[dict[str, Any]]] = {}
        for take in trace.searches if searches is None else searches:
            if made(take):
                self._takes.setdefault(normalised(take["query"]), deque()).append(take)

    def search(self, query: str) -> list[SearchResult]:
        takes = self._takes.get(normalised(query))
        if not takes:
            raise SearchError(f'no search for "{query}" was recorded in {self._where}')
        take = takes.popleft()
        if take["error"] is not None:
            raise SearchError(take["error"])
        return results_of(take)


def results_of(take: dict[str, Any]) -> list[SearchResult]:
    return [SearchResult.from_dict(result) for result in take["results"]]


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
    """Run the trace's questions again and compare ids and sources. A question without its end (killed or interrupted)
    is followed as far as it went. The engine must be that of the trace (`check_identity`)."""
    ids, sources = trace.whole_ids("replayed"), trace.sources
    agent = agent_of(trace, engine, TraceSearch(trace))
    ends = [outcome.get("finish_reason") for outcome in trace.outcomes]
    starts = [span.start for span in trace.spans if span.question is not None]
    limits = [*starts[1:], len(ids)]
    session = None
    for number, session, events in _runs(trace, agent):
        ended = number < len(ends) and ends[number] not in ("interrupted", None)
        try:
            for event in events if ended or len(session) < limits[number] else ():
                if isinstance(event, Finished) or (not ended and len(session) >= limits[number]):
                    break
                if isinstance(event, Token) and len(session) > len(ids):
                    break  # already longer than what was recorded
        except SearchError:
            break  # it ends the run; what was fed before it is compared
        events.close()  # type: ignore[attr-defined]  # its session can be asked again
    if session is None:
        raise LonghandError(f"{trace.path}: holds no question; there is nothing to be replayed")
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


def _runs(trace: Trace, agent: Agent) -> Iterator[tuple[int, Session, Iterator[Event]]]:
    """The number of each question, its session and its events. A fork goes on from where the model sampled first:
    what was put in the place of its own words before that, it would not say again."""
    if "fork" in trace.header:
        known = trace.header["fork"]["ids"]
        sampled = (span.start for span in trace.spans if span.source == "sampled" and span.start >= known)
        start = next(sampled, len(trace.ids))
        run = retrace(trace, agent, start)
        yield len(trace.questions) - 1, run.session, run.events()
        return
    session = None
    for number, question in enumerate(trace.questions):
        events = agent.run(question, session)
        session = agent.session
        assert session is not None
        yield number, session, events


def retrace(trace: Trace, agent: Agent, end: int) -> Run:
    """A run in the state that the trace's had behind its first `end` ids, on a new session; nothing is computed yet."""
    session = agent.engine.session(agent.seed)
    run = Run(agent, session, trace.header["question"])
    for span in trace.spans:
        if span.start >= end:
            break
        if span.source == "prompt":
            session.feed(span.ids, source="prompt")
            run = Run(agent, session, span.question or trace.header["question"])
        elif span.source == "sampled":
            for token_id in span.ids[: end - span.start]:
                session.feed([token_id], source="sampled")
                run.observe(token_id)
        else:
            session.feed(span.ids, source=span.source)
            _follow(run, span)
    return run


def _follow(run: Run, span: Span) -> None:
    """What a tool's response, or words put in the model's mouth, do to a run."""
    run.call_start, run.segment_start = None, len(run.session)
    if span.source == "forced":
        if span.reason != OTHER_QUERY:
            run.thinking, run.closings = False, run.closings + 1
    elif span.search is not None:
        take = span.search
        run.rounds += 1
        if take["error"] is not None:
            run.searches.append((take["query"], []))
        elif made(take):
            run.found(take["query"], results_of(take))
        elif take["notice"] is not None and take["query"]:
            run.refusals += 1
