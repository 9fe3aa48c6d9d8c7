"""Session: one growing list of ids, and a cache that always holds a prefix of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .cache import KVCache
from .errors import LonghandError
from .graph import GraphDecoder
from .loops import LoopDetector
from .sampler import Sampler, SamplingParams
from .store import save_session

if TYPE_CHECKING:
    from .engine import Engine

SOURCES = ("prompt", "sampled", "tool", "forced")
PREFILL_CHUNK = 512  # ids forwarded at once: bounds the workspace, whatever is fed


@dataclass(frozen=True)
class Token:
    """A sampled id and its log-probability under the model (see `Sampler.sample`)."""

    id: int
    logprob: float


@dataclass
class TurnStats:
    """One feed + generate. Counts are ids; seconds are wall time."""

    fed: int = 0
    computed: int = 0  # forwarded
    reused: int = 0  # already cached when the turn began
    sampled: int = 0
    prefill_seconds: float = 0.0  # the pass over the pending ids
    decode_seconds: float = 0.0  # everything after it, pauses of the caller left out


class Session:
    """A conversation as ids. Invariants, after every public call, also after an exception, Ctrl-C or a generator that
    was abandoned half-way:

    1. `cached <= len(ids)`, and the cache holds exactly the keys and values of `ids[:cached]`.
    2. No id is forwarded twice unless `rewind` gave it back: without rewinds, `computed` of all turns sums to `cached`.
    3. Feeding in pieces equals feeding at once.
    4. `rewind(n)` and the same ids give the same logits; `fork` never disturbs its parent.
    5. The ids kept are the ids sampled; nothing is ever decoded and encoded again.
    6. An id that the tokenizer does not define is neither fed nor sampled.
    """

    def __init__(self, engine: Engine, seed: int = 0):
        self.engine = engine
        self.finish_reason: str | None = None  # stop | length | context | loop, of the last finished generate
        self._ids: list[int] = []
        self._sources: list[str] = []
        self._cache: KVCache = engine.new_cache()
        self._graphs = GraphDecoder.of(engine.decoder, self._cache, engine.undefined)  # None: launched one by one
        self._ahead: Tensor | None = None  # logits of the first pending id, forwarded while the caller had the turn
        self._sampler = Sampler(seed, engine.undefined)
        self._logits: Tensor | None = None  # of the position behind the last cached id, while nothing is pending
        self._turns: list[TurnStats] = []
        self._open: TurnStats | None = None  # collects what is fed and computed until a generate ends it
        self._forwarded = 0  # ids that went through the decoder, counted where they do
        self._given_back = 0  # cached ids that rewind dropped
        self._generating = False

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids, oldest first."""
        return tuple(self._ids)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where each id came from: prompt, sampled, tool or forced."""
        return tuple(self._sources[: len(self._ids)])

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def seed(self) -> int:
        return self._sampler.seed

    @property
    def cached(self) -> int:
        """How many leading ids have keys and values."""
        return self._cache.position

    @property
    def pending(self) -> tuple[int, ...]:
        """The ids behind `cached`: what the next forward computes."""
        return tuple(self._ids[self.cached :])

    @property
    def max_context(self) -> int:
        return self._cache.max_context

    @property
    def last_logits(self) -> Tensor | None:
        """Float32 [vocab] for position `cached`, as the last forward gave them; computes nothing, also while a generate
        is running. None before the first forward and behind a rewind. Read only."""
        return self._logits

    @property
    def turns(self) -> list[TurnStats]:
        """Statistics per turn, in order; includes a turn that has computed something and is not finished."""
        return self._turns + ([self._open] if self._open and self._open.computed else [])

    @property
    def recomputed(self) -> int:
        """Ids that were forwarded although they were cached and not given back. Always 0; counted to prove it."""
        return self._forwarded - self._given_back - self.cached

    def feed(self, ids: Iterable[int], source: str = "prompt") -> None:
        """Append ids; nothing is computed yet. LonghandError for an id that the tokenizer does not define, a source
        that does not exist, or ids that do not fit in max_context; then nothing is appended."""
        self._refuse_while_generating("feed")
        new = [int(token_id) for token_id in ids]
        if source not in SOURCES:
            raise LonghandError(f"source {source!r} is not one of {', '.join(SOURCES)}")
        for token_id in new:
            if not self.engine.defines(token_id):
                raise LonghandError(f"id {token_id} is not defined by the tokenizer and cannot be fed")
        if len(self._ids) + len(new) > self.max_context:
            raise LonghandError(
                f"context full: {len(self._ids)} ids and {len(new)} more do not fit in max_context {self.max_context}"
            )
        self._append(new, source)
        self._turn().fed += len(new)

    def logits(self) -> Tensor:
        """Float32 [vocab] for the next position; forwards what is pending."""
        self._refuse_while_generating("logits")
        turn = self._turn()
        return self._forward(turn).clone()

    def generate(
        self,
        max_tokens: int = 256,
        stop: Iterable[int] | None = None,
        sampling: SamplingParams | None = None,
        loop_detector: LoopDetector | None = None,
    ) -> Iterator[Token]:
        """Forward all pending ids, then sample id after id and yield each.

        Ends after an id of `stop` (default: the control ids that end a turn), after `max_tokens`, when the context is
        full, or when the sampled ids repeat themselves; `finish_reason` says which. The last id is pending then. The
        generator may be abandoned at any id; what was yielded is kept.
        """
        self._refuse_while_generating("generate")
        if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 0:
            raise LonghandError(f"max_tokens must be a whole number, 0 or more, not {max_tokens!r}")
        if not self._ids:
            raise LonghandError("nothing to generate from: feed ids first")
        stops = frozenset(self.engine.control.stops if stop is None else stop)
        return self._generate(max_tokens, stops, sampling or SamplingParams(), loop_detector or LoopDetector())

    def _generate(
        self, max_tokens: int, stops: frozenset[int], sampling: SamplingParams, loops: LoopDetector
    ) -> Iterator[Token]:
        self._refuse_while_generating("generate")
        turn = self._turn()  # before the flag: Ctrl-C strikes where a call begins or ends, and must not leave it set
        self._generating, self.finish_reason = True, None
        try:
            started = time.perf_counter()
            logits = self._forward(turn)
            turn.prefill_seconds += time.perf_counter() - started
            reason = "length" if max_tokens == 0 else None
            while reason is None:
                started = time.perf_counter()
                if turn.sampled:
                    logits = self._forward(turn)
                if len(self._ids) >= self.max_context:
                    reason = "context"
                    break
                token = self._sample(logits, sampling)
                turn.sampled += 1
                if token.id in stops:
                    reason = "stop"
                elif loops.push(token.id):
                    reason = "loop"
                elif turn.sampled == max_tokens:
                    reason = "length"
                elif len(self._ids) >= self.max_context:
                    reason = "context"
                self.finish_reason = reason
                if reason is None and self._graphs is not None and self._graphs.ready(1, self._cache):
                    self._ahead = self._graphs.forward([token.id], self._cache)
                turn.decode_seconds += time.perf_counter() - started
                yield token
            self.finish_reason = reason
        finally:
            self._generating = False
            if self._open is turn:
                self._open = None
                self._turns.append(turn)

    def rewind(self, n: int) -> None:
        """Keep the first n ids. The cache keeps what it holds of them, except that one id is left to forward, so that
        the logits behind it exist again."""
        self._refuse_while_generating("rewind")
        if not isinstance(n, int) or isinstance(n, bool) or not 0 <= n <= len(self._ids):
            raise LonghandError(f"cannot rewind to {n!r}: the session has {len(self._ids)} ids")
        if n == len(self._ids):
            return
        keep = min(self.cached, max(n - 1, 0))
        dropped = self.cached - keep
        fed = max(self._open.fed - (len(self._ids) - n), 0) if self._open else 0  # the last ids are the open turn's
        self._cache.rewind(keep)  # no calls from here on: Ctrl-C comes before all of it or after all of it
        self._given_back += dropped
        self._logits = self._ahead = None
        del self._ids[n:], self._sources[n:]
        if self._open is not None:
            self._open.fed = fed
            if not fed and not self._open.computed:
                self._open = None

    def fork(self, seed: int | None = None) -> Session:
        """A copy that shares nothing with this session; `seed` lets it sample differently from here on. Its turns
        start anew: the first one reuses everything cached here."""
        self._refuse_while_generating("fork")
        twin = object.__new__(Session)
        twin.engine, twin.finish_reason = self.engine, self.finish_reason
        twin._ids, twin._sources = list(self._ids), list(self._sources)
        twin._cache = self._cache.fork()
        twin._graphs, twin._ahead = GraphDecoder.of(self.engine.decoder, twin._cache, self.engine.undefined), None
        twin._sampler = Sampler(self.seed if seed is None else seed, self.engine.undefined)
        twin._logits = None if self._logits is None else self._logits.clone()
        twin._turns, twin._open, twin._generating = [], None, False
        twin._forwarded, twin._given_back = self.cached, 0
        return twin

    def save(self, path: str | Path) -> None:
        """Write ids and cache to a safetensors file that `Engine.restore` continues from."""
        self._refuse_while_generating("save")
        save_session(self, Path(path))

    def _refuse_while_generating(self, verb: str) -> None:
        if self._generating:
            raise LonghandError(f"cannot {verb} while a generate is running: exhaust or close its generator first")

    def _turn(self) -> TurnStats:
        if self._open is None:
            self._open = TurnStats()
        return self._open

    def _append(self, ids: Sequence[int], source: str) -> None:
        # Sources first: they count only up to the number of ids, so an interrupt between the two lines does no harm.
        self._sources[len(self._ids) :] = [source] * len(ids)
        self._ids.extend(ids)

    def _sample(self, logits: Tensor, sampling: SamplingParams) -> Token:
        sampled: list[int] = []
        if sampling.presence_penalty:
            sampled = [i for i, source in zip(self._ids, self.sources, strict=True) if source == "sampled"]
        drawn = None
        if self._graphs is not None:
            drawn = self._graphs.sample(self._sampler, logits, len(self._ids), sampling)
        token = Token(*drawn or self._sampler.sample(logits, len(self._ids), sampling, self._ids, sampled))
        self._append([token.id], "sampled")
        return token

    @torch.inference_mode()
    def _forward(self, turn: TurnStats) -> Tensor:
        if not turn.computed:
            turn.reused = self.cached
        # The cache's position is advanced only after a chunk went through every layer, so that whatever interrupts a
        # chunk leaves a valid prefix. Logits are computed for the last id alone.
        while self.cached < len(self._ids):
            start = self.cached
            end = min(start + PREFILL_CHUNK, len(self._ids)) if self._ahead is None else start + 1
            logits = self._ahead if self._ahead is not None else self._compute(start, end)
            self._cache.advance(end - start)  # no calls from here on, as in rewind
            self._ahead = None
            self._forwarded += end - start
            turn.computed += end - start
            self._logits = logits
        if self._logits is None:
            raise LonghandError("no logits: the session has no ids; feed some first")
        return self._logits

    def _compute(self, start: int, end: int) -> Tensor | None:
        # Write the cache's rows start..end - 1; the logits behind the last id.
        self._cache.reserve(end)
        if self._graphs is not None and self._graphs.takes(end - start):
            return self._graphs.forward(self._ids[start:end], self._cache)
        hidden = self.engine.decoder.hidden(self.engine.tensor(self._ids[start:end]), self._cache)
        return self.engine.decoder.logits(hidden[-1]) if end == len(self._ids) else None
