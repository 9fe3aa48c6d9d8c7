"""Verify: the proof that reuse changed nothing. The logits that a run had, against logits of the same ids computed from
scratch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine.errors import LonghandError
from .trace_file import Trace
from .trace_logits import FULL_ROW, Difference, as_row, compare

if TYPE_CHECKING:
    from ..engine.engine import Engine

# Largest difference of a logit of magnitude 16 or less that another order of additions may make; of larger ones in
# proportion (`Difference.scaled`). benchmarks/verify.py: with the CPU kernels a run of the built-in model differs by
# nothing at all, whatever the type; with torch's products by at most 2e-5 (float32), 0.015 (float16), 0.12 (bfloat16),
# and 0.002 (float32) or 0.28 (bfloat16) over a cache in 8 bits, whose values round to neighbours now and then. A lost
# id of a response makes 0.04 to 0.15, so that the half types show one only where the kernels are exact.
TOLERANCE = {"float32": 1e-4, "float16": 0.05, "bfloat16": 0.25}
INT8_TOLERANCE = {"float32": 0.005, "float16": 0.1, "bfloat16": 0.5}
IDENTITY = ("rope", "model", "quantization", "tokenizer", "dtype")


@dataclass(frozen=True)
class Checked:
    """One turn: the differences at the positions whose logits it kept."""

    turn: int
    reused: int
    differences: tuple[Difference, ...]

    @property
    def largest(self) -> float:
        return max(difference.largest for difference in self.differences)

    @property
    def scaled(self) -> float:
        return max(difference.scaled for difference in self.differences)

    @property
    def kl(self) -> float:
        return max(difference.kl for difference in self.differences)

    @property
    def agreed(self) -> int:
        return sum(difference.top1 for difference in self.differences)


def check_identity(trace: Trace, engine: Engine) -> None:
    """LonghandError unless the engine is what the trace was recorded with."""
    for key in IDENTITY:
        mine = engine.identity[key]
        if trace.header[key] != mine:
            raise LonghandError(f"{trace.path}: recorded with another {key} ({trace.header[key]!r}; this one has "
                                f"{mine!r}); name the checkpoint that it was recorded with: --model")  # fmt: skip
    if trace.header["vocab"] != engine.config.vocab_size:
        raise LonghandError(f"{trace.path}: recorded with a vocabulary of {trace.header['vocab']} rows")
    ids = trace.whole_ids("used")
    if len(ids) > engine.max_context:
        raise LonghandError(f"{trace.path}: {len(ids)} ids do not fit in max_context {engine.max_context}")
    for token_id in ids:
        if not engine.defines(token_id):
            raise LonghandError(f"{trace.path}: damaged: the tokenizer does not define id {token_id}")


def tolerance(engine: Engine) -> float:
    """For this engine's dtype and that of its cache: the looser of both."""
    dtype, cached = (str(dtype).removeprefix("torch.") for dtype in (engine.dtype, engine.kv_dtype))
    return INT8_TOLERANCE[dtype] if cached == "int8" else max(TOLERANCE[dtype], TOLERANCE[cached])


def verify(trace: Trace, engine: Engine, one_session: bool = False) -> Iterator[Checked]:
    """Per turn, the logits that the run had against fresh ones. Every position is computed in a session of its own, in
    one pass over all ids before it, so that nothing is reused; `one_session` feeds one session from position to
    position instead, which computes each id once. Raises LonghandError for what was not recorded with this engine."""
    check_identity(trace, engine)
    ids = trace.whole_ids("verified")
    session = engine.session()
    found = 0
    for span in trace.spans:
        differences = []
        for packed in span.logits:
            position = packed["position"]
            if not one_session or position < len(session):
                session = engine.session()
            session.feed(ids[len(session) : position])
            try:
                differences.append(compare(packed, as_row(session.logits())))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise LonghandError(f"{trace.path}: damaged: the logits for position {position} ({error})") from None
        if differences:
            found += 1
            yield Checked(span.turn, span.stats["reused"] if span.stats else 0, tuple(differences))
    if not found:
        raise LonghandError(f"{trace.path}: holds no logits yet; nothing can be verified")


def what_is_compared(vocab: int) -> str:
    """Which logits of a row a trace keeps."""
    if vocab <= FULL_ROW:
        return f"all {vocab:,} logits of each position"
    return f"the 64 largest logits of each position and the logsumexp of all {vocab:,}"
