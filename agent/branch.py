"""What-if on the ledger: one prefix, computed once, and several ways on from a fork of it. Each pays only for what is
new: the tables show what it computed, and that nothing was computed twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import LonghandError
from ..engine.session import Session, TurnStats
from .agent import Agent, Run
from .ask import watch
from .events import Answer, Forced
from .redact import redact
from .search import Search, SearchError, SearchResult, normalised
from .trace import Recorder
from .trace_file import Trace
from .trace_fork import OTHER_QUERY, Fork, Record, before, recorded
from .trace_replay import retrace


@dataclass(frozen=True)
class Branch:
    """One way on."""

    name: str
    seed: int
    answer: Answer
    trace: Path | None = None


@dataclass(frozen=True)
class Response:
    """What a branch is told in place of what was recorded. `query`: the model's own, or another put in its place."""

    name: str
    results: tuple[SearchResult, ...]
    query: str | None = None


def fork_samples(
    agent: Agent, question: str, count: int, record: Record | None = None
) -> tuple[TurnStats, Iterator[Branch]]:
    """The statistics of the prefix, which ends behind the prompt, and so many answers from forks of it; the n-th has
    the agent's seed plus n, so that the first is the answer that the agent alone gives. `record` makes what writes the
    n-th one's trace."""
    agent.run(question)
    run = agent.current
    assert run is not None
    prefix = compute(run.session)
    return prefix, (_sample(agent, run, n, prefix, record) for n in range(count))


def _sample(agent: Agent, run: Run, n: int, prefix: TurnStats, record: Record | None) -> Branch:
    seed, name = agent.seed + n, f"sample {n + 1}"
    twin = twin_of(agent, seed).resume(run, run.session.fork(seed))
    recorder = None if record is None else record(n + 1)
    with recorded(recorder, twin):
        if recorder is not None:
            recorder.begin(twin.agent, run.question, Fork(name, prefix.prefill_seconds))
        return Branch(name, seed, watch(twin.events(), None, recorder), None if recorder is None else recorder.path)


def branch(
    trace: Trace, agent: Agent, turn: int, responses: Sequence[Response], record: Record | None = None
) -> tuple[TurnStats, Iterator[Branch]]:
    """From a trace: the statistics of its ids up to the tool boundary where `turn` begins, and the answers that follow
    when other responses are fed there. `record` as for samples. Raises LonghandError for a turn that no tool response
    begins."""
    tool = next((span for span in trace.spans if span.turn == turn and span.source == "tool"), None)
    if tool is None or tool.search is None:
        turns = sorted({span.turn for span in trace.spans if span.source == "tool"})
        known = f"there is one before turn {', '.join(map(str, turns))}" if turns else "the run made no search"
        raise LonghandError(f"{trace.path}: no tool response begins turn {turn}; {known}")
    trace.whole_ids("branched")
    run = retrace(trace, agent, tool.start)
    if responses[0].query is not None and run.call_start is not None:  # another call: the recorded one goes too
        run = retrace(trace, agent, run.call_start)
    prefix = compute(run.session)
    boundary = Boundary(trace, run, tool.search["query"], prefix.prefill_seconds)
    return prefix, (_respond(boundary, response, record and record(n)) for n, response in enumerate(responses, 1))


@dataclass(frozen=True)
class Boundary:
    """Where branches begin: a run that was led there, and what was asked there."""

    trace: Trace
    run: Run
    asked: str
    seconds: float  # of computing what comes before


def _respond(boundary: Boundary, response: Response, recorder: Recorder | None) -> Branch:
    run, agent = boundary.run, boundary.run.agent
    twin = twin_of(agent, agent.seed).resume(run, run.session.fork())
    query = boundary.asked if response.query is None else response.query
    with recorded(recorder, twin):
        if recorder is not None:
            known = before(boundary.trace, len(run.session))
            recorder.begin(twin.agent, run.question, Fork(response.name, boundary.seconds, known))
        if response.query is not None:
            call = json.dumps({"action": "web_search", "action_input": {"query": query}}, ensure_ascii=False)
            ids = twin.tokenizer.encode("<tool_call>\n")
            ids += twin.tokenizer.encode_literal(call) + twin.tokenizer.encode("\n</tool_call>")
            twin.session.feed(ids, source="forced")
            if recorder is not None:
                recorder.see(Forced(call, OTHER_QUERY))
        twin.rounds += 1
        twin.found(query, response.results)
        told = twin.feed_response(query, response.results, None)
        if twin.full:
            raise LonghandError("context full: the response does not fit behind the prefix")
        if recorder is not None:
            recorder.see(told)
        twin.call_start, twin.segment_start = None, len(twin.session)
        answer = watch(twin.events(), None, recorder)
        return Branch(response.name, twin.session.seed, answer, None if recorder is None else recorder.path)


def twin_of(agent: Agent, seed: int) -> Agent:
    return Agent(agent.engine, agent.search, agent.budget, agent.sampling, seed, agent.today)


def compute(session: Session) -> TurnStats:
    """Compute what is pending, as a turn of its own that samples nothing."""
    for _ in session.generate(max_tokens=0):
        pass
    return session.turns[-1]


def read_response(path: Path) -> Response:
    """What a person wrote to be fed: a JSON list of {title, url, content}, a line of a cassette, or plain text, which
    becomes one result under the file's name. LonghandError where it is neither."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise LonghandError(f"--response-file {path}: cannot be read ({why})") from None
    if not text.strip():
        raise LonghandError(f"--response-file {path}: is empty")
    if text.lstrip()[0] not in "[{":
        return Response(path.name, (SearchResult(redact(path.stem), redact(path.name), redact(text.strip())),))
    try:
        value = json.loads(text)
        results = value["results"] if isinstance(value, dict) else value
        given = [SearchResult.from_dict(result) for result in results]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise LonghandError(f"--response-file {path}: wants a JSON list of title, url and content, a line of a "
                            "cassette, or plain text") from None  # fmt: skip
    return Response(path.name, tuple(result.redacted() for result in given))


def searched_response(search: Search, query: str) -> Response:
    """What another query finds."""
    query = normalised(query)
    if not query:
        raise LonghandError("--query is empty")
    try:
        return Response(f'query "{query}"', tuple(search.search(query)), query)
    except SearchError as error:
        raise LonghandError(f"the search failed: {error}") from None
