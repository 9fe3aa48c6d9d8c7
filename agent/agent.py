"""Agent: the loop of one question. The session only grows; every decision is taken on ids."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from copy import copy
from datetime import date

from ..engine.engine import Engine
from ..engine.errors import LonghandError
from ..engine.sampler import SamplingParams
from ..engine.session import Session
from . import prompt
from .budget import Budget
from .calls import Call, MalformedCallError, parse_calls
from .citations import check_answer
from .events import Answer, Event, Finished, Forced, Token, ToolCall, ToolResponse
from .search import Search, SearchError, SearchResult, normalised, search_within, wider_query
from .trace import spans

MAX_QUESTION = 20_000  # characters: longer is a pasted document, not a question
EXTRA_ROUNDS = 4  # corrections, notices and repeated queries that a run may have besides its searches
MAX_CALL = 1024  # ids: what has no </tool_call> by then is no call, and budgets count again
MAX_CLOSINGS = 2  # times that a run's thinking is closed for the model, should it open it again


class Agent:
    """Answers questions with a model that searches. One agent runs one question at a time.

    `search` is where queries go. `today` fixes the date in the prompt. After a run, `session` is the question's
    session; give it to `run` again for a follow-up over the same cache.
    """

    def __init__(
        self, engine: Engine, search: Search, budget: Budget | None = None, sampling: SamplingParams | None = None,
        seed: int = 0, today: date | None = None,
    ):  # fmt: skip
        self.engine, self.search = engine, search
        self.budget = budget or Budget()
        self.sampling = sampling or SamplingParams()
        self.seed, self.today = seed, today
        self.session: Session | None = None
        self._run: Run | None = None
        self._known: dict[str, tuple[SearchResult, ...]] = {}  # normalized query -> results, per session

    def ask(self, question: str, session: Session | None = None) -> Answer:
        """Run a question to its end and return the answer."""
        for event in self.run(question, session):
            if isinstance(event, Finished):
                return event.answer
        raise AssertionError("a run ends with Finished")

    def run(self, question: str, session: Session | None = None) -> Iterator[Event]:
        """Events of one question; the last is `Finished`. With a session: a follow-up in it. The question is fed when
        this returns; what it yields then may be watched by a `Recorder` (trace.py).

        Raises LonghandError for a question that is empty, too long or does not fit the context, and SearchError when
        no search can succeed (a refused key).
        """
        question = check_question(question)
        self._run = None
        if session is None or session is not self.session:
            self._known = {}
        if session is None:
            session = self.engine.session(self.seed)
        tokenizer = self.engine.tokenizer
        if len(session) == 0:
            opening = prompt.opening_ids(tokenizer, self.today or date.today(), self.budget.searches)
            ids = opening + prompt.question_ids(tokenizer, question)
        else:
            ended = session.ids[-1] == self.engine.control.im_end
            ids = prompt.follow_up_ids(tokenizer, question, ended)
        room = session.max_context - len(session) - self.budget.reserve(session.max_context)
        if len(ids) > room:
            raise LonghandError(
                f"context full: the question takes {len(ids)} ids and {max(room, 0)} are left of max_context "
                f"{session.max_context}; ask a shorter question, start anew, or raise max_context"
            )
        self.session = session
        session.feed(ids, source="prompt")
        run = self._run = Run(self, session, question)
        return run.events()

    def resume(self, run: Run, session: Session) -> Run:
        """Another agent's run, or this one's, gone on with over a fork of its session: what it has found and spent so
        far counts here too."""
        twin = copy(run)
        self.session, self._known, self._run = session, dict(run.agent._known), twin
        twin.agent, twin.session, twin.searches = self, session, list(run.searches)
        twin.first_turn = len(session.turns)
        return twin

    @property
    def current(self) -> Run | None:
        """The run that `run` began last."""
        return self._run

    def interrupted(self) -> Answer | None:
        """The answer with what there is, after a run was abandoned (Ctrl-C); None if no question was begun."""
        return None if self._run is None else self._run.answer("interrupted")


def check_question(question: str) -> str:
    """The question without outer white space; LonghandError if it is empty or too long."""
    question = question.strip()
    if not question:
        raise LonghandError("the question is empty")
    if len(question) > MAX_QUESTION:
        raise LonghandError(f"the question has {len(question):,} characters; at most {MAX_QUESTION:,} are accepted")
    return question


def limit_notice(searches: int) -> str:
    """What the model reads when it may not search any more."""
    return (
        f"The limit of {searches} searches is reached; no more searches can be made. "
        "Give your final answer now, from what you have found."
    )


def query_key(query: str) -> str:
    """What makes two queries the same."""
    return normalised(query.casefold())


class Run:
    """The state of one question while it is answered."""

    def __init__(self, agent: Agent, session: Session, question: str):
        self.agent, self.session, self.question = agent, session, question
        self.control, self.tokenizer = agent.engine.control, agent.engine.tokenizer
        self.first_turn = len(session.turns)
        self.thinking = True  # the prompt ends with <think>
        self.thought = self.answered = 0  # sampled ids of either kind
        self.call_start: int | None = None  # index of the <tool_call> that is open
        self.segment_start = len(session)  # index behind the last </think> or response: where the answer begins
        self.searches: list[tuple[str, list[SearchResult]]] = []
        self.rounds = 0  # calls, of every kind
        self.refusals = 0
        self.closings = 0
        self.full = False  # a response found no room

    def events(self) -> Iterator[Event]:
        while True:
            reason = yield from self.generate()
            if reason == "call":
                yield from self.respond()
                if self.refusals > 2:
                    reason = "searches"
                elif self.full:
                    reason = "context"
                else:
                    continue
            if self.thinking and reason in ("thinking", "context", "loop"):
                forced = self.close_thinking(reason)
                if forced is not None:
                    yield forced
                    continue
            yield Finished(self.answer("length" if reason in ("answer", "thinking") else reason))
            return

    def generate(self) -> Generator[Event, None, str]:
        """Sample until a call is complete, the turn ends, or a budget is spent; returns which."""
        session, budget = self.session, self.agent.budget
        reserve = budget.reserve(session.max_context)
        stream = self.tokenizer.stream()
        tokens = session.generate(max_tokens=session.max_context, stop=self.control.stops, sampling=self.agent.sampling)
        try:
            if (spent := self.spent()) is not None:
                return spent
            for token in tokens:
                part = self.observe(token.id)
                # A control id carries no text, but ends a character that was left half-way.
                text = stream.flush() if token.id in self.tokenizer.added else stream.push(token.id)
                yield Token(token.id, text, token.logprob, part)
                if token.id == self.control.tool_call_end:
                    return "call"
                if session.finish_reason is not None:
                    return session.finish_reason
                if self.thinking and self.call_start is None and session.max_context - len(session) <= reserve:
                    return "context"
                if (spent := self.spent()) is not None:
                    return spent
            return session.finish_reason or "context"
        finally:
            tokens.close()  # type: ignore[attr-defined]

    def spent(self) -> str | None:
        """Which budget is used up: thinking, answer or none. A call is never cut in two, unless it does not end."""
        budget = self.agent.budget
        if self.call_start is not None:
            if len(self.session) - self.call_start <= MAX_CALL:
                return None
            self.call_start = None
        if self.thinking:
            return "thinking" if budget.thinking is not None and self.thought >= budget.thinking else None
        return "answer" if budget.answer is not None and self.answered >= budget.answer else None

    def observe(self, token_id: int) -> str:
        """Follow a sampled id through thinking, call and answer; returns the part that it belongs to."""
        control, here = self.control, len(self.session) - 1
        part = "call" if self.call_start is not None else "thinking" if self.thinking else "answer"
        if self.thinking:
            self.thought += 1
        else:
            self.answered += 1
        if token_id == control.think_end:  # also leaves a call that was begun and forgotten
            self.thinking, self.call_start, self.segment_start = False, None, here + 1
        elif token_id == control.think:
            self.thinking, self.call_start = True, None
        elif token_id == control.tool_call and self.call_start is None:
            self.call_start, part = here, "call"
        return part

    def respond(self) -> Iterator[Event]:
        """Run the call that has just been completed and feed its responses. Until then it stays open, so that a run
        that ends in here does not take it for an answer."""
        start, end = self.call_start, len(self.session) - 1  # of <tool_call> and </tool_call>
        try:
            if start is None:
                raise MalformedCallError("The tool call has no beginning: write <tool_call> before it.")
            text = self.tokenizer.decode(self.session.ids[start + 1 : end])
            calls = parse_calls(text)
        except MalformedCallError as error:
            text = self.tokenizer.decode(self.session.ids[(end if start is None else start + 1) : end])
            yield ToolCall(text, (), str(error))
            self.rounds += 1
            self.refusals += self.rounds > self.agent.budget.searches + EXTRA_ROUNDS
            yield self.feed_response("", (), str(error))
        else:
            yield ToolCall(text, tuple(call.query for call in calls))
            # A block of many calls is answered in order up to the first that is refused.
            for call in calls:
                refused = self.refusals
                yield self.search(call)
                if self.refusals > refused or self.full:
                    break
        if self.refusals > 2 or self.full:
            return
        self.call_start, self.segment_start = None, len(self.session)
        if self.refusals > 1 and self.thinking and (forced := self.close_thinking("searches")) is not None:
            yield forced

    def search(self, call: Call) -> ToolResponse:
        """Answer one call: from this run's results, by a search, or with a notice."""
        agent, known = self.agent, self.agent._known
        key = query_key(call.query)
        self.rounds += 1
        tired = self.rounds > agent.budget.searches + EXTRA_ROUNDS
        if key in known and not tired:
            return self.feed_response(call.query, known[key], None, repeated=True)
        if tired or len(self.searches) >= agent.budget.searches:
            self.refusals += 1
            return self.feed_response(call.query, (), limit_notice(agent.budget.searches))
        try:
            wider = wider_query(call.query, [query for query, _ in self.searches])
            results = tuple(search_within(agent.search, call.query, wider))
        except SearchError as error:
            self.searches.append((call.query, []))
            if error.fatal:
                raise
            return self.feed_response(call.query, (), f"The search failed: {error}", error=str(error))
        self.found(call.query, results)
        return self.feed_response(call.query, results, None)

    def found(self, query: str, results: Sequence[SearchResult]) -> None:
        """Note a search that has been made."""
        self.searches.append((query, list(results)))
        self.agent._known[query_key(query)] = tuple(results)

    def feed_response(
        self, query: str, results: Sequence[SearchResult], notice: str | None, repeated: bool = False,
        error: str | None = None,
    ) -> ToolResponse:  # fmt: skip
        """Feed one framed response. What the context has no room for is cut off its end, id by id; the closing tag and
        room for the answer are kept."""
        session = self.session
        text = prompt.response_text(results) if notice is None else prompt.notice_text(notice)
        head, tail = prompt.response_frame(self.tokenizer)
        body = self.tokenizer.encode_literal(text)
        reserve = self.agent.budget.reserve(session.max_context)
        room = max(session.max_context - len(session) - len(head) - len(tail) - reserve, 0)
        ids = head + body[:room] + tail
        self.full = len(session) + len(ids) >= session.max_context  # not even the frame fits: nothing is fed
        if not self.full:
            session.feed(ids, source="tool")
        return ToolResponse(query, tuple(results), notice, repeated, len(body) > room, 0 if self.full else len(ids),
                            error)  # fmt: skip

    def close_thinking(self, reason: str) -> Forced | None:
        """End the thinking for the model, if there is room for it and it has not been done too often; None if not."""
        text = "\n</think>\n\n"
        ids = self.tokenizer.encode(text)
        if self.closings == MAX_CLOSINGS or len(self.session) + len(ids) >= self.session.max_context:
            return None
        self.closings += 1
        self.session.feed(ids, source="forced")
        self.call_start, self.thinking, self.segment_start = None, False, len(self.session)
        return Forced(text, reason)

    def answer(self, reason: str) -> Answer:
        """The answer with what there is: the text behind the last </think> or response, up to a call that got none;
        where the model never closed its thinking, what it said last."""
        session = self.session
        end = self.call_start if self.call_start is not None else len(session)
        ids = [i for i in session.ids[self.segment_start : end] if i not in self.tokenizer.added]
        text = self.tokenizer.decode(ids).strip()
        results = [result for known in self.agent._known.values() for result in known]
        last = self.searches[-1] if self.searches else None
        facts = bool(self.searches) or reason == "loop"  # what repeats itself is no chat, whatever was asked
        citations, unsupported = check_answer(self.question, text, results, facts, last)
        return Answer(
            text, citations, unsupported, list(self.searches), session.turns[self.first_turn :], session.recomputed,
            reason, spans(session),
        )  # fmt: skip
