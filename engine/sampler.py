"""SamplingParams and the sampler: float32 logits to one id and its log-probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .errors import LonghandError

LARGEST = 1e9  # of a parameter: float32 holds what comes of it


@dataclass(frozen=True)
class SamplingParams:
    """How an id is drawn. The defaults are QwQ-32B's (its model card); `temperature=0` is greedy.

    Penalties come first, then temperature, top-k, top-p and min-p in this order.
    """

    temperature: float = 0.6
    top_p: float = 0.95  # the smallest set of ids with this much probability; 1 keeps all
    top_k: int = 40  # the k most probable ids; 0 keeps all
    min_p: float = 0.0  # ids with at least this share of the most probable one's probability
    presence_penalty: float = 0.0  # subtracted from the logit of every id that the model has sampled before
    repetition_penalty: float = 1.0  # on every id seen: divides positive logits, multiplies negative (arXiv 1909.05858)

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, want: str) -> None:
            if not ok:
                raise LonghandError(f"sampling: {name} must be {want}, not {getattr(self, name)!r}")

        for name in ("temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty"):
            value = getattr(self, name)
            check(name, isinstance(value, int | float) and not isinstance(value, bool), "a number")
            check(name, abs(value) <= LARGEST, f"a finite number, at most {LARGEST:g}")
        check("temperature", self.temperature >= 0, "0 (greedy) or more")
        check("top_p", 0 < self.top_p <= 1, "above 0 and at most 1")
        whole = isinstance(self.top_k, int) and not isinstance(self.top_k, bool)
        check("top_k", whole and self.top_k >= 0, "a whole number, 0 for no limit")
        check("min_p", 0 <= self.min_p <= 1, "between 0 and 1")
        check("repetition_penalty", self.repetition_penalty > 0, "above 0")


class Sampler:
    """Draws ids. The random number at a position depends only on the seed and that position, so a rewound or restored
    session draws again what it drew before, and nothing is hidden in a generator's state."""

    def __init__(self, seed: int, undefined: Tensor):
        """`undefined`: bool [vocab], True for rows of the head that no id of the tokenizer stands for."""
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
            raise LonghandError(f"seed must be a whole number from 0 to 2**63 - 1, not {seed!r}")
        self.seed = seed
        self.undefined = undefined

    def sample(
        self, logits: Tensor, position: int, params: SamplingParams, ids: Sequence[int], sampled: Sequence[int]
    ) -> tuple[int, float]:
        """An id for `position` from float32 logits [vocab], and its log-probability under the model itself: the
        softmax over all defined ids, before penalties, temperature and cuts.

        `ids` are all ids before the position (repetition penalty), `sampled` those that the model chose (presence).
        """
        logits = logits.masked_fill(self.undefined.to(logits.device), -math.inf)
        if not torch.isfinite(logits.max()):
            raise LonghandError(f"the model's logits at position {position} are not finite; its weights are damaged")
        logprobs = torch.log_softmax(logits, -1)
        scores = _penalized(logits, params, ids, sampled)
        greedy = params.temperature == 0
        chosen = int(scores.argmax()) if greedy else _draw(scores, params, self._uniform(position))
        return chosen, float(logprobs[chosen])

    def _uniform(self, position: int) -> float:
        # A counter-based generator: the position is the counter, so draws do not depend on how many came before.
        return float(np.random.Generator(np.random.Philox(key=self.seed, counter=position)).random())


def _penalized(scores: Tensor, params: SamplingParams, ids: Sequence[int], sampled: Sequence[int]) -> Tensor:
    if params.repetition_penalty != 1 and ids:
        seen = torch.tensor(sorted(set(ids)), device=scores.device)
        old = scores[seen]
        new = torch.where(old > 0, old / params.repetition_penalty, old * params.repetition_penalty)
        scores = scores.index_copy(0, seen, new)
    if params.presence_penalty != 0 and sampled:
        seen = torch.tensor(sorted(set(sampled)), device=scores.device)
        scores = scores.index_add(0, seen, scores.new_full(seen.shape, -float(params.presence_penalty)))
    return scores


def _draw(scores: Tensor, params: SamplingParams, uniform: float) -> int:
    # Descending, ties by id: the cuts below keep a prefix of this order, and at least one id. Sorting only what can be
    # kept saves milliseconds of each id on a CPU.
    keep = min(params.top_k or len(scores), len(scores))
    ids = (scores >= torch.topk(scores, keep).values[-1]).nonzero()[:, 0]
    values, order = torch.sort(scores[ids], descending=True, stable=True)
    values, order = values[:keep], ids[order[:keep]]
    probabilities = torch.softmax(values.double() / params.temperature, -1)
    before = probabilities.cumsum(-1) - probabilities  # the mass ahead of each id
    kept = (before < params.top_p) & (probabilities >= params.min_p * probabilities[0]) & (probabilities > 0)
    kept[0] = True
    cumulative = torch.where(kept, probabilities, 0.0).cumsum(-1)
    index = int(torch.searchsorted(cumulative, uniform * float(cumulative[-1]), right=True))
    return int(order[min(index, int(kept.nonzero()[-1]))])
