"""GraphDecoder: a session's forwards of a few ids, and its draws, each as one launch.

Launched one by one, the kernels of a step leave a GPU idle for longer than some of them run. So what a step needs to
know lies in tensors that stay where they are, a step is a plain function of those, and the ops record it: on a GPU as a
CUDA graph, elsewhere by keeping the function, which is how it is tested against the decoder itself.

A graph knows the rows of the cache by their addresses. It is recorded when it is first wanted, and again once the cache
has grown; a session that is rewound keeps its graphs, a fork or a restored session has its own.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from ..kernels.dispatch import DeviceBlock, Recorder
from .cache import KVCache
from .decoder import Decoder
from .sampler import Sampler, SamplingParams

log = logging.getLogger(__name__)

WIDTHS = (1, 2, 4, 8, 16)  # ids of a step; other numbers are forwarded without a graph


def step(decoder: Decoder, inputs: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], logits: Tensor) -> None:
    """Forward ids: inputs int32 [T + 1] holds them and the position of the first. Writes T rows from that position on
    of keys and values [capacity, KV, D] of each layer, which have room for them, and the last id's logits [vocab]."""
    ids, position = inputs[:-1], inputs[-1]
    rotary, places = decoder.rotary, (position + torch.arange(len(ids), device=inputs.device)).float()
    angles = places[:, None] * rotary.inverse_frequencies  # as RotaryTable.at, but the position stays on the device
    cos, sin = angles.cos() * rotary.scale, angles.sin() * rotary.scale
    x = decoder.model.embed_tokens(ids)
    for block, k, v in zip(decoder.model.layers, keys, values, strict=True):
        x = cast(DeviceBlock, block.whole)(x, cos, sin, k, v, position)
    logits.copy_(decoder.logits(decoder.model.norm(x)[-1]))


def draw(logits: Tensor, undefined: Tensor, knobs: Tensor, drawn: Tensor, top_k: int) -> None:
    """What `Sampler.sample` does without penalties, all on the device: float32 logits [vocab] -> drawn, float64 [2]: an
    id and its log-probability. knobs, float64 [4]: temperature, top_p, min_p and the random number. top_k 0: greedy."""
    logits = logits.masked_fill(undefined, -math.inf)
    logprobs = torch.log_softmax(logits, -1)
    if top_k == 0:
        chosen = logits.argmax()[None]
    else:
        temperature, top_p, min_p, uniform = knobs.unbind()
        order = largest(logits, min(top_k, len(logits)))
        probabilities = torch.softmax(logits.gather(0, order).double() / temperature, -1)
        before = probabilities.cumsum(-1) - probabilities
        kept = (before < top_p) & (probabilities >= min_p * probabilities[0]) & (probabilities > 0)
        kept[:1].fill_(True)  # an assignment would copy from the host, which a capture refuses
        cumulative = torch.where(kept, probabilities, 0.0).cumsum(-1)
        index = (cumulative <= uniform * cumulative[-1]).sum()
        last = (kept * torch.arange(len(kept), device=kept.device)).max()
        chosen = order.gather(0, torch.minimum(index, last)[None])
    drawn[:1] = chosen
    drawn[1:] = logprobs.gather(0, chosen)


def largest(logits: Tensor, count: int) -> Tensor:
    """The ids of the largest of float32 logits [vocab], in descending order, equal ones by id: int64 [count]."""
    bits = (logits + 0.0).view(torch.int32)  # -0 becomes 0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)  # integers in the order of the floats
    ranks = ordered.long() * 2**32 - torch.arange(len(logits), device=logits.device)  # no two are equal
    return -torch.topk(ranks, count).values & 0xFFFFFFFF


class GraphDecoder:
    """Belongs to one session; the ops keep what graphs can share."""

    def __init__(self, decoder: Decoder, recorder: Recorder, undefined: Tensor):
        """Prefer `of`."""
        self.decoder, self.recorder, self.undefined = decoder, recorder, undefined
        self._rows: list[weakref.ref[Tensor]] = []  # of the cache that the steps were recorded over
        self._steps: dict[int, tuple[Tensor, Callable[[], object]]] = {}  # by the number of ids: inputs, and a launch
        self._draws: dict[int, Callable[[], object]] = {}  # by top_k
        vocab = (decoder.config.vocab_size,)
        self._logits = torch.empty(vocab, device=undefined.device)  # what a step writes
        self._given = torch.empty(vocab, device=undefined.device)  # what a draw reads
        self._knobs = torch.empty(4, dtype=torch.float64, device=undefined.device)
        self._drawn = torch.empty(2, dtype=torch.float64, device=undefined.device)

    @staticmethod
    def of(decoder: Decoder, cache: KVCache, undefined: Tensor) -> GraphDecoder | None:
        """For sessions with such a cache; None where the ops cannot record a step: where they make no graphs, where a
        block is not one call for them, and where the embedding is on the host. (A decoder may be stood in for by
        anything that has `hidden` and `logits`: that has no steps either.)"""
        if not isinstance(decoder, Decoder) or not isinstance(decoder.ops, Recorder) or not cache.plain:
            return None
        x = decoder.model.norm.weight[None]
        for block, keys in zip(decoder.model.layers, cache.keys, strict=True):
            whole = cast(DeviceBlock | None, block.whole)
            if whole is None or not whole.takes(x, keys):
                return None
        if decoder.model.embed_tokens.weight.device != x.device:
            return None
        return GraphDecoder(decoder, decoder.ops, undefined)

    @staticmethod
    def takes(count: int) -> bool:
        """Whether so many ids are a step."""
        return count in WIDTHS

    def ready(self, count: int, cache: KVCache) -> bool:
        """Whether such a step can begin at once: it has been recorded, and the cache has room."""
        return count in self._steps and cache.position + count <= cache.capacity and self._knows(cache)

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], cache: KVCache) -> Tensor:
        """Forward ids behind the cache's position, which has room for them; returns the last one's logits, float32
        [vocab]. The position is left to the caller. The device is not waited for."""
        if not self._knows(cache):
            self._steps.clear()
            self._rows = [weakref.ref(rows) for rows in (*cache.keys, *cache.values)]
        inputs, run = self._steps.get(len(ids), (torch.empty(0), None))
        if run is None:
            inputs = torch.empty(len(ids) + 1, dtype=torch.int32, device=self._logits.device)
        self._send([*ids, cache.position], inputs)
        if run is None:  # with these very inputs
            keys, values = list(cache.keys), list(cache.values)
            run = self._record(lambda: step(self.decoder, inputs, keys, values, self._logits))
            self._steps[len(ids)] = inputs, run
        run()
        return self._logits.clone()

    def _knows(self, cache: KVCache) -> bool:
        rows = (*cache.keys, *cache.values)
        return len(rows) == len(self._rows) and all(known() is own for known, own in zip(self._rows, rows, strict=True))

    @torch.inference_mode()
    def sample(
        self, sampler: Sampler, logits: Tensor, position: int, params: SamplingParams
    ) -> tuple[int, float] | None:
        """As `Sampler.sample`, with one look at the device; None for what only that does: penalties, all ids kept, and
        logits that are not finite."""
        greedy = params.temperature == 0
        if params.presence_penalty != 0 or params.repetition_penalty != 1 or not (greedy or params.top_k):
            return None
        top_k = 0 if greedy else params.top_k
        self._send([params.temperature, params.top_p, params.min_p, sampler._uniform(position)], self._knobs)
        self._given.copy_(logits)
        run = self._draws.get(top_k)
        if run is None:
            run = self._record(lambda: draw(self._given, self.undefined, self._knobs, self._drawn, top_k))
            self._draws[top_k] = run
        run()
        chosen, logprob = self._drawn.tolist()
        return (int(chosen), logprob) if math.isfinite(logprob) else None

    def _record(self, function: Callable[[], object]) -> Callable[[], object]:
        try:
            return self.recorder.record(function)
        except RuntimeError as error:
            log.warning("slower than it should be: a step could not be captured as a graph (%s)", error)
            return function

    @staticmethod
    def _send(values: Sequence[float], to: Tensor) -> None:
        # From pinned memory, so that the copy takes its place among the launches instead of waiting for them.
        to.copy_(torch.tensor(values, dtype=to.dtype, pin_memory=to.is_cuda), non_blocking=True)
