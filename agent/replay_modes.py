"""Replaying a run with tools in four ways of keeping, or losing, its cache.

A plan is a run that has been: what was fed before each turn, and what the model sampled in it. Every mode is given the
same ids turn by turn; nothing is sampled anew, so that times and counts compare. At the start of a turn:

append       what was fed is appended to the session. Computed: the fed ids and the one that was pending.
re-encode    a new session for each turn, over all ids so far.
re-tokenize  all ids so far are decoded and encoded again, as a server does that is given text; what the cache has of
             them, up to the first id that differs, is kept.
re-template  the history is rendered as chat templates do it, without the thinking and with a new assistant's turn
             behind each tool response, and encoded; again the common prefix is kept.
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
MODES = ("append", "re-encode", "re-tokenize", "re-template")


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
    drift: int | None  # the first id that differs from the run's, in re-tokenize and re-template
    divergence: float  # KL(append || this) in nats, of the first id's distribution
    same_first: bool  # the likeliest first id is the same


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

    def sample(self, ids: Sequence[int]) -> None:
        """As if these had been sampled: all but the last are in the cache."""
        if len(ids) > 1:
            self.session.feed(ids[:-1], source="sampled")
            self.session.logits()
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
    for number, turn in enumerate(plan):
        history += turn.fed
        first: Any = None
        for mode, run in replays.items():
            started = time.perf_counter()
            ids = _ids_of(mode, engine, plan[: number + 1], history, run.session)
            logits, computed, reused, _ = run.start(ids, fresh=mode == "re-encode")
            seconds = time.perf_counter() - started  # with the way through text, where there is one
            first = logits if first is None else first
            drift = common_prefix(ids, history) if ids != history else None
            apart, same = divergence(first, logits)
            if mode in modes:
                found.append(Measured(mode, number + 1, len(ids), computed, reused, seconds, drift, apart, same))
            if mode != "re-encode":
                run.sample(turn.sampled)
        history += turn.sampled
    return found


def _ids_of(mode: str, engine: Engine, plan: Sequence[Turn], history: list[int], session: Session) -> list[int]:
    if mode in ("append", "re-encode"):
        return history
    tokenizer = engine.tokenizer
    text = tokenizer.decode(history) if mode == "re-tokenize" else templated(engine, plan)
    ids = tokenizer.encode(text)
    if len(ids) > session.max_context:
        raise LonghandError(f"{mode}: {len(ids)} ids do not fit in max_context {session.max_context}")
    return ids


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
    pattern = re.compile(r"<tool_call>.*?</tool_call>", re.DOTALL)
    found = []
    for length in lengths:
        ids = [next(words) for _ in range(length)]
        started = time.perf_counter()
        hits = sum(token_id in stops for token_id in ids)
        by_id = time.perf_counter() - started
        started = time.perf_counter()
        for end in range(1, length + 1):
            hits += pattern.search(engine.tokenizer.decode(ids[:end])) is not None
        by_text = time.perf_counter() - started
        found.append({"ids": length, "by_id_seconds": by_id, "by_text_seconds": by_text, "hits": hits})
    return found
