"""Replaying a run with tools in five ways of keeping, or losing, its cache.

A plan is a run that has been: what was fed before each turn, and what the model sampled in it. Every mode is given the
same ids turn by turn; nothing is sampled anew, so that times and counts compare. At the start of a turn:

append       what was fed is appended to the session. Computed: the fed ids and the one that was pending.
re-encode    a new session for each turn, over all ids so far.
re-tokenize  all ids so far are decoded and encoded again, as a server does that is given text; what the cache has of
             them, up to the first id that differs, is kept.
re-template  the history is rendered as chat templates do it, without the thinking and with a new assistant's turn
             behind each tool response, and encoded; again the common prefix is kept.
notebook     as the notebook that the project comes from: the tool response alone is encoded and handed to transformers'
             `generate` with the cache. transformers 4.47.1, which its cells install, takes these ids for the whole
             conversation and leaves out as many at their front as are cached; what remains is appended. The id that
             generation stopped on was never forwarded, and is not now. A response that is not longer than the cache
             leaves nothing to forward: an IndexError, and the run ends. (Measured with that version. 5.23 differs for
             such responses: see benchmarks/notebook.py, which runs the real `generate`.)
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..engine.compare import divergence
from ..engine.engine import Engine
from ..engine.errors import LonghandError
from ..engine.session import Session

REPEATS = 3  # of an append, of which the fastest counts
MODES = ("append", "re-encode", "re-tokenize", "re-template", "notebook")
NOTEBOOK_ENDS = "the response is not longer than the cache, and transformers 4.47.1 raises IndexError"
NOTEBOOK_STOPS = (  # what the notebook searches the text of all ids for, after each id
    re.compile(r"<tool_call>.*?</tool_call>\s*$", re.DOTALL),
    re.compile(r"<\|im_end\|>\s*$"),
)


@dataclass(frozen=True)
class Turn:
    """What was fed before a turn, and what the model sampled in it."""

    fed: tuple[int, ...]
    sampled: tuple[int, ...]


@dataclass(frozen=True)
class Measured:
    """One turn in one mode. Counts are ids."""

    mode: str
    turn: int
    length: int  # ids of the conversation when the turn starts to sample
    computed: int
    reused: int
    seconds: float  # to the logits of the first id
    drift: int | None  # the first id that differs from the run's; None where all are the same
    divergence: float  # KL(append || this) in nats, of the first id's distribution
    same_first: bool  # the likeliest first id is the same
    lost: int = 0  # ids that were fed and never reach the model
    error: str = ""  # why the run ends before this turn samples; then nothing was computed


@dataclass
class Replay:
    """A session that is led along a plan: made to hold given ids, and told what was sampled."""

    engine: Engine
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = self.engine.session()

    def start(self, ids: Sequence[int], fresh: bool = False) -> tuple[Any, int, int, float]:
        """Make the session hold `ids`, keeping what its cache has of them; with `fresh`, nothing. Returns the logits
        behind them, ids computed and reused, and seconds."""
        started = time.perf_counter()
        if fresh:
            self.session = self.engine.session()
        common = common_prefix(self.session.ids, ids)
        if common < len(self.session):
            self.session.rewind(common)
        reused = self.session.cached
        self.session.feed(ids[common:])
        logits = self.session.logits()
        return logits, self.session.cached - reused, reused, time.perf_counter() - started

    def sample(self, ids: Sequence[int], forget_last: bool = False) -> None:
        """As if these had been sampled: all but the last are in the cache, and the last is pending or forgotten."""
        if len(ids) > 1:
            self.session.feed(ids[:-1], source="sampled")
            self.session.logits()
        if not forget_last:
            self.session.feed(ids[-1:], source="sampled")


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading ids are equal."""
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def replay(engine: Engine, plan: Sequence[Turn], modes: Sequence[str] = MODES) -> list[Measured]:
    """Every turn of the plan in every mode, turn by turn and mode by mode, so that noise meets all alike."""
    for mode in modes:
        if mode not in MODES:
            raise LonghandError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    longest = sum(len(turn.fed) + len(turn.sampled) for turn in plan)
    if longest > engine.new_cache().max_context:
        raise LonghandError(f"the run has {longest} ids, and max_context is {engine.max_context}: use shorter turns")
    replays = {mode: Replay(engine) for mode in dict.fromkeys(("append", *modes))}
    found: list[Measured] = []
    history: list[int] = []
    for number, turn in enumerate(plan, 1):
        history += turn.fed
        first: Any = None
        for mode, run in list(replays.items()):
            started = time.perf_counter()
            ids, lost = _ids_of(mode, engine, plan[:number], history, run.session)
            if lost and len(ids) == len(run.session):
                held = len(ids)
                found.append(Measured(mode, number, held, 0, held, 0.0, common_prefix(ids, history), 0.0, False, lost,
                                      NOTEBOOK_ENDS))  # fmt: skip
                del replays[mode]
                continue
            logits, computed, reused, _ = run.start(ids, fresh=mode == "re-encode")
            seconds = time.perf_counter() - started  # with the way through text, where there is one
            first = logits if first is None else first
            drift = common_prefix(ids, history) if ids != history else None
            apart, same = divergence(first, logits)
            if mode in modes:
                found.append(Measured(mode, number, len(ids), computed, reused, seconds, drift, apart, same, lost))
            if mode != "re-encode":
                run.sample(turn.sampled, forget_last=mode == "notebook")
        history += turn.sampled
    return found


def _ids_of(
    mode: str, engine: Engine, plan: Sequence[Turn], history: list[int], session: Session
) -> tuple[list[int], int]:
    """What the session is to hold when the plan's last turn begins to sample, and how many fed ids it never gets."""
    if mode in ("append", "re-encode"):
        return history, 0
    tokenizer, lost = engine.tokenizer, 0
    if mode == "notebook":
        held = list(session.ids)  # all of them cached
        response = tokenizer.encode(tokenizer.decode(plan[-1].fed))
        lost = min(len(held), len(response))
        ids = held + response[lost:]
    else:
        ids = tokenizer.encode(tokenizer.decode(history) if mode == "re-tokenize" else templated(engine, plan))
    if len(ids) > session.max_context:
        raise LonghandError(f"{mode}: {len(ids)} ids do not fit in max_context {session.max_context}")
    return ids, lost


THINKING = re.compile(r"(?:^|<think>).*?(?:</think>|(?=<tool_call>)|$)", re.DOTALL)


def templated(engine: Engine, plan: Sequence[Turn]) -> str:
    """The run as text, as a template renders a history of messages: each assistant's turn without its thinking and
    ended, each tool response in a turn of its own, and the start of a new thought at the end."""
    decode = engine.tokenizer.decode
    text = decode(plan[0].fed)
    opening = "<|im_start|>assistant\n<think>\n"
    for before, after in pairwise(plan):
        said = THINKING.sub("", decode(before.sampled), count=1).strip()
        text = text.removesuffix("<think>\n") + said.removesuffix("<|im_end|>") + "<|im_end|>\n"
        text += "<|im_start|>user\n" + decode(after.fed).strip() + "<|im_end|>\n" + opening
    return text


def plan_of(spans: Sequence[tuple[str, Sequence[int]]]) -> list[Turn]:
    """A plan from a session's spans (source, ids) in order: a turn is what was fed, then what was sampled."""
    plan: list[Turn] = []
    fed: list[int] = []
    for source, ids in spans:
        if source != "sampled":
            fed += ids
        elif fed:
            plan.append(Turn(tuple(fed), tuple(ids)))
            fed = []
        else:  # sampled on behind a turn that was ended: the same turn
            last = plan.pop()
            plan.append(Turn(last.fed, last.sampled + tuple(ids)))
    if not plan:
        raise LonghandError("the run has no turn in which anything was sampled")
    return plan


def made_up(engine: Engine, text: str, turns: int, prompt: int, thinking: int, response: int) -> list[Turn]:
    """A plan of given lengths in ids, from a text that is repeated as needed: a prompt, then per turn some thinking
    with a tool call at its end and a tool response."""
    encode = engine.tokenizer.encode
    head, start = encode("<|im_start|>user\n"), encode("<|im_end|>\n<|im_start|>assistant\n<think>\n")
    call = encode('<tool_call>\n{"action": "web_search", "action_input": {"query": "a query"}}\n</tool_call>')
    before, after = encode("\n<tool_response>\n"), encode("\n</tool_response>\n")
    least = max(len(head + start), len(call), len(before + after)) + 1
    if min(prompt, thinking, response) < least or turns < 1:
        raise LonghandError(f"a made-up run needs a turn, and lengths of at least {least} ids")
    words = _endless(engine.tokenizer.encode_literal(text))

    def take(count: int) -> list[int]:
        return [next(words) for _ in range(count)]

    plan = []
    for number in range(turns):
        frame = (head, start) if number == 0 else (before, after)
        fed = frame[0] + take((response if number else prompt) - len(frame[0]) - len(frame[1])) + frame[1]
        plan.append(Turn(tuple(fed), tuple(take(thinking - len(call)) + call)))
    return plan


def _endless(ids: list[int]) -> Iterator[int]:
    while True:
        yield from ids


def sweep(engine: Engine, text: str, prefixes: Sequence[int], appended: int = 64) -> list[dict[str, float]]:
    """Seconds to append ids to a prefix that is cached, and to compute prefix and ids anew, for growing prefixes."""
    words, kept = _endless(engine.tokenizer.encode_literal(text)), Replay(engine)
    ids = [next(words)]
    kept.start(ids)  # the first call of all makes room
    found = []
    for prefix in sorted(prefixes):
        ids += [next(words) for _ in range(prefix - len(ids))]
        longer = ids + [next(words) for _ in range(appended)]
        runs = []
        for _ in range(REPEATS):
            kept.start(ids)
            runs.append(kept.start(longer))
        _, computed, reused, append = min(runs, key=lambda run: run[3])
        fresh = Replay(engine).start(longer, fresh=True)
        found.append({"prefix": len(ids), "appended": appended, "computed": computed, "reused": reused,
                      "append_seconds": append, "reencode_seconds": fresh[3]})  # fmt: skip
    return found


def stop_checks(engine: Engine, text: str, lengths: Sequence[int]) -> list[dict[str, float]]:
    """Seconds that looking for the end of a call takes over a whole turn of so many ids: by comparing each id, and as
    notebooks do it, by decoding all ids after each and searching the text for a pattern."""
    words, stops = _endless(engine.tokenizer.encode_literal(text)), frozenset(engine.control.stops)
    found = []
    for length in lengths:
        ids = [next(words) for _ in range(length)]
        started = time.perf_counter()
        hits = sum(token_id in stops for token_id in ids)
        by_id = time.perf_counter() - started
        started = time.perf_counter()
        for end in range(1, length + 1):
            said = engine.tokenizer.decode(ids[:end])
            hits += any(pattern.search(said) for pattern in NOTEBOOK_STOPS)
        by_text = time.perf_counter() - started
        found.append({"ids": length, "by_id_seconds": by_id, "by_text_seconds": by_text, "hits": hits})
    return found
