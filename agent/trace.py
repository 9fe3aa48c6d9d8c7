"""Traces: a run as JSON lines, written while it happens. Format "longhand-trace-2".

Each line is one JSON object, flushed as soon as it is known; a run that is killed leaves every line up to its last
span, and at most a torn last one, which readers pass over.

    header   first. `question`, `name` (of the model, as it was asked for), the engine's identity (`rope`, `model`: the
             checkpoint's fingerprint, `quantization`, `tokenizer`: its hash, `dtype`), `vocab`, `max_context`,
             `search`, `template` (version), `today` (the date in the prompt), `sampling`, `budget`, `seed`, `device`,
             `kernels` (level of the CPU kernels, or null), `options` (of loading, where the command line did it), and
             versions: `longhand`, `torch`. Of one of several ways on from a prefix (`ask --samples`, `trace branch`)
             also `fork`: {name, ids, seconds}: its first `ids` were computed once for all of them, in so many seconds.
    span     a run of ids of one source, in order and without a gap:
             `turn`      from 1: the feed and generate that computed them
             `source`    prompt | sampled | tool | forced
             `start`     index of the first id; `ids`; `text`: those ids decoded
             `cached`    ids that were in the cache when they were computed: what was reused
             `computed`  ids that were forwarded for them. The first fed span of a turn includes the one id that was
                         pending; of a sampled span the last id stays pending. Of all spans: the session's cached,
                         less the ids of a fork, whose spans have 0 here and no stats or logits: they are all reused
             `seconds`   of that. Where one pass computed several spans, its seconds are shared out by ids
             `logprobs`  sampled only: log-probability per id under the model, null where it is not known
             `parts`     sampled only: [["thinking", ids, characters], ["call", ...], ["answer", ...], ...], of `text`
             `search`    tool only: {query, results, error, notice, repeated, cut}
             `question`  prompt only
             `reason`    forced only: thinking | context | loop | searches (why the thinking was closed) | another query
             `stats`     on a turn's last span: fed, computed, reused, sampled, prefill_seconds, decode_seconds
             `logits`    on a turn's last span: the rows behind what was fed and behind the last id forwarded, as the
                         run had them (see trace_logits.py); `longhand trace verify` computes them anew
             `redacted`  instead of ids, which would spell it out: how many there are in a span that held a secret.
                         Such a trace can be read, not verified, replayed or exported.
    outcome  last, per question: `answer`, `citations`, `unsupported`, `finish_reason`, `recomputed`, `turns`,
             `searches`; or `error`, where a run ended with one.

One file holds one session. Of several samples or branches each has a file of its own: FILE, then FILE with -2, -3, ...
behind its name, and each is a whole trace: it begins with the spans of the prefix.

Every string goes through `redact`. "longhand-trace-1" was written at the end of a run and had neither turns nor logits:
it is refused with one line that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .events import Event, Finished, Forced, Token, ToolResponse
from .trace_lines import TraceLines

if TYPE_CHECKING:
    from ..engine.session import Session, TurnStats
    from .agent import Agent
    from .events import Answer
    from .trace_file import Span
    from .trace_fork import Fork

TRACE_FORMAT = "longhand-trace-2"
SPAN_NOTES = ("logprobs", "parts", "search", "question", "reason")


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


def trace_header(agent: Agent, question: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a trace must say for its run to be understood and repeated. Call it when the question has been fed."""
    from datetime import date
    from importlib.metadata import version

    from .. import __version__
    from .prompt import TEMPLATE_VERSION

    engine, session = agent.engine, agent.session
    return {
        "question": question, "name": engine.name, **engine.identity, "vocab": engine.config.vocab_size,
        "max_context": engine.max_context if session is None else session.max_context, "search": agent.search.name,
        "template": TEMPLATE_VERSION, "today": str(agent.today or date.today()), "sampling": vars(agent.sampling),
        "budget": vars(agent.budget), "seed": agent.seed if session is None else session.seed,
        "device": str(engine.device), "kernels": getattr(getattr(engine.decoder, "ops", None), "level", None),
        "options": options, "longhand": __version__, "torch": version("torch"),
    }  # fmt: skip


class Recorder:
    """Writes the trace of one session, span by span, from the events of its runs.

    `begin` once the question is fed, `see` each event, then `finish` with the answer; `close` ends the file. Raises
    LonghandError where it cannot be written. The file is opened by the first `begin`, so that what is refused before
    leaves nothing, and a trace that was there is kept.
    """

    def __init__(self, path: Path, options: dict[str, Any] | None = None):
        """options: how the model was loaded, for the header."""
        self.path, self.options = path, options
        self._lines = TraceLines(path)
        self._session: Session | None = None
        self._written = 0  # ids in spans that are written
        self._seen = 0  # ids that an event has told of
        self._asked = False  # a question has begun and has no outcome
        self._fed: list[dict[str, Any]] = []  # spans that wait for their computation: source, start, end, notes
        self._turns = 0  # finished ones that are written
        self._earlier = 0  # turns of the trace that the session itself has not had
        self._pass: TurnStats | None = None  # the open turn, once its pending ids are computed
        self._passed = 0  # ids that it computed before the first was sampled
        self._logprobs: list[float | None] = []
        self._parts: list[list[Any]] = []
        self._rows: list[dict[str, Any]] = []

    def begin(self, agent: Agent, question: str, fork: Fork | None = None) -> None:
        """A question has been fed to the agent's session, which is the same for all questions of a trace. With `fork`,
        the session is one: what it holds by now was computed before."""
        session = agent.session
        assert session is not None
        if self._session is None:
            self._lines.open()
            self._session = session
            self._turns = len(session.turns)
            header = {"type": "header", "format": TRACE_FORMAT, **trace_header(agent, question, self.options)}
            if fork is not None:
                header["fork"] = {"name": fork.name, "ids": session.cached, "seconds": round(fork.seconds, 6)}
            self._lines.write(header)
            for row in fork.before if fork is not None else ():
                self._before(row)
        self._feed({"question": question})
        self._asked = True

    def _before(self, row: Span | dict[str, Any]) -> None:
        """Part of what a fork found in its cache: a span, noted as reused, or the outcome of an earlier question."""
        if isinstance(row, dict):
            self._lines.write(row)
            return
        notes = {name: value for name in SPAN_NOTES if (value := getattr(row, name))}
        if row.parts:
            notes["parts"] = self._part_sizes([(name, ids) for name, ids, _ in row.parts], row.start)
        self._earlier = row.turn - 1
        self._span(row.source, row.start, row.end, 0, 0.0, notes, row.end)
        self._earlier += row.source == "sampled"
        self._seen = row.end

    def see(self, event: Event) -> None:
        """Follow a run. Call it with every event, as soon as it comes."""
        if isinstance(event, Token):
            self._token(event)
            return
        self._end_turn()
        if isinstance(event, ToolResponse):
            self._feed({"search": {
                "query": event.query, "results": [result.as_dict() for result in event.results], "error": event.error,
                "notice": event.notice, "repeated": event.repeated, "cut": event.cut,
            }})  # fmt: skip
        elif isinstance(event, Forced):
            self._feed({"reason": event.reason})
        elif isinstance(event, Finished):
            self.finish(event.answer)

    def finish(self, answer: Answer) -> None:
        """The outcome of a question, also of one that was interrupted."""
        if not self._asked:
            return
        self._asked = False
        self._feed({})  # what Ctrl-C struck before an event told of it
        self._end_turn()
        if self._fed:
            self._computed(ended=True)
        self._lines.write({
            "type": "outcome", "answer": answer.text, "finish_reason": answer.finish_reason,
            "recomputed": answer.recomputed, "citations": [vars(citation) for citation in answer.citations],
            "unsupported": [vars(item) for item in answer.unsupported], "turns": [vars(t) for t in answer.turns],
            "searches": [{"query": q, "results": [r.as_dict() for r in results]} for q, results in answer.searches],
        })  # fmt: skip

    def fail(self, error: Exception) -> None:
        """The run ended with an error instead of an answer. A question that was refused has not begun: nothing is
        written of it."""
        if not self._asked:
            return
        self._asked = False
        self._feed({})
        self._end_turn()
        if self._fed:
            self._computed(ended=True)
        self._lines.write({"type": "outcome", "error": " ".join(str(error).split())})

    def close(self) -> None:
        """End the file; harmless when done twice."""
        self._lines.close()

    def _token(self, token: Token) -> None:
        session = self._session
        assert session is not None
        if not self._logprobs:
            self._computed()
        self._logprobs.append(round(token.logprob, 6))
        if self._parts and self._parts[-1][0] == token.part:
            self._parts[-1][1] += 1
        else:
            self._parts.append([token.part, 1])
        self._seen = len(session)

    def _feed(self, notes: dict[str, Any]) -> None:
        """Note what the session has grown by; it is written when it has been computed."""
        session = self._session
        assert session is not None
        sources = session.sources
        start = self._seen
        for end in range(start + 1, len(session) + 1):
            if end == len(session) or sources[end] != sources[start]:
                if sources[start] == "sampled":  # Ctrl-C struck between an id and the event that tells of it
                    if not self._logprobs:
                        self._computed()
                    self._logprobs.extend([None] * (end - start))
                else:
                    self._fed.append({"source": sources[start], "start": start, "end": end, "notes": notes})
                start = end
        self._seen = len(session)

    def _computed(self, ended: bool = False) -> None:
        """The pass over what was fed is over: write its spans. `ended`: nothing was sampled behind them."""
        session = self._session
        assert session is not None
        turns = session.turns
        turn = self._pass = turns[self._turns] if len(turns) > self._turns else None
        computed = self._passed = turn.computed if turn else 0
        cached = session.cached - computed
        for number, span in enumerate(self._fed, 1):
            part = max(min(span["end"], session.cached) - cached, 0)  # of the first: with what was pending
            seconds = turn.prefill_seconds * part / computed if turn and computed else 0.0
            notes = span["notes"]
            held = min(cached, span["end"])
            if ended and turn and number == len(self._fed):
                notes = {**notes, "stats": vars(turn)}
            self._span(span["source"], span["start"], span["end"], part, seconds, notes, held)
            cached += part
        self._fed = []
        self._row()

    def _row(self) -> None:
        """Keep the logits that the session has now, once per position."""
        from .trace_logits import as_row, pack

        session = self._session
        assert session is not None
        logits = session.last_logits
        if logits is not None and not (self._rows and self._rows[-1]["position"] == session.cached):
            self._rows.append(pack(as_row(logits), session.cached))

    def _end_turn(self) -> None:
        """Write the sampled span that is complete, with the statistics of its turn."""
        session = self._session
        assert session is not None
        if not self._logprobs:
            return
        self._row()
        turn, start = self._pass, self._written
        if turn is None and len(session.turns) > self._turns:  # of a fork: nothing was pending when it began
            turn = session.turns[self._turns]
        stats = vars(turn) | {"sampled": len(self._logprobs)} if turn else None
        notes = {"logprobs": self._logprobs, "parts": self._part_sizes(self._parts, start), "stats": stats,
                 "logits": self._rows}  # fmt: skip
        computed, seconds = (turn.computed - self._passed, turn.decode_seconds) if turn else (0, 0.0)
        self._span("sampled", start, start + len(self._logprobs), computed, seconds, notes, start)
        self._turns += 1
        self._pass, self._logprobs, self._parts, self._rows = None, [], [], []

    def _part_sizes(self, parts: Iterable[Sequence[Any]], start: int) -> list[list[Any]]:
        """Thinking, call and answer of a sampled span (name and ids of each): ids and characters of each."""
        session = self._session
        assert session is not None
        sizes = []
        for name, count in parts:
            text = session.engine.tokenizer.decode(session.ids[start : start + count])
            sizes.append([name, count, len(text)])
            start += count
        return sizes

    def _span(
        self, source: str, start: int, end: int, computed: int, seconds: float, notes: dict[str, Any],
        cached: int,
    ) -> None:  # fmt: skip
        session = self._session
        assert session is not None
        ids = list(session.ids[start:end])
        text = session.engine.tokenizer.decode(ids)
        turn = self._earlier + self._turns + 1
        self._lines.span({
            "type": "span", "turn": turn, "source": source, "start": start, "ids": ids, "text": text, "cached": cached,
            "computed": computed, "seconds": round(seconds, 6), **notes,
        })  # fmt: skip
        self._written = end
