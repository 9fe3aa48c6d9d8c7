"""What the decoder runs on while it is trained: operations that autograd and autocast like, a cache for a shared
prefix, and the masked loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ...engine.decoder import Decoder
from ...kernels import reference
from ..trace_export import IGNORED

QUERY_BLOCK = 192  # twice as fast as whole sequences on a core with 1 MiB of second-level cache


class TrainingOps:
    """The reference operations, less their detours through float32, which autocast would undo anyway."""

    linear = staticmethod(reference.linear)
    swiglu = staticmethod(reference.swiglu)
    quantized_linear = staticmethod(reference.quantized_linear)
    quantize_nf4 = staticmethod(reference.quantize_nf4)
    pack = staticmethod(reference.pack)
    block = staticmethod(reference.block)

    @staticmethod
    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    @staticmethod
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """By blocks of queries: a block's scores stay in the processor's cache, and less is computed in vain."""
        batch, queries, heads, width = q.shape
        keys, kv_heads = k.shape[-3], k.shape[-2]
        group, before = heads // kv_heads, keys - queries
        rows = (q / math.sqrt(width)).view(batch, queries, kv_heads, group, width).permute(0, 2, 3, 1, 4)
        rows = rows.reshape(batch * kv_heads, group, queries, width)
        k = k.permute(0, 2, 3, 1).reshape(batch * kv_heads, width, keys)
        v = v.transpose(1, 2).reshape(batch * kv_heads, keys, width)
        blocks = []
        for start in range(0, queries, QUERY_BLOCK):
            stop = min(queries, start + QUERY_BLOCK)
            seen = before + stop
            hidden = ~reference.causal_mask(stop - start, seen, q.device)
            mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill_(hidden, -1e4).repeat(group, 1)
            block = rows[:, :, start:stop].reshape(batch * kv_heads, -1, width)
            scores = torch.baddbmm(mask.expand(len(block), -1, -1), block, k[..., :seen])
            out = torch.bmm(scores.softmax(-1), v[:, :seen])
            blocks.append(out.view(len(block), group, stop - start, width))
        out = torch.cat(blocks, 2).view(batch, kv_heads, group, queries, width).permute(0, 3, 1, 2, 4)
        return out.reshape(batch, queries, heads, width)


class TrainingCache:
    """A prefix of one row that every row of a batch continues; `extend` first records it, then puts it in front."""

    def __init__(self) -> None:
        self.position = 0
        self.rows: list[tuple[Tensor, Tensor]] = []

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.position == 0:
            self.rows.append((keys, values))
            return keys, values
        batch = keys.shape[0]
        return tuple(  # type: ignore[return-value]
            torch.cat((prefix.expand(batch, *prefix.shape[-3:]), new), -3)
            for prefix, new in zip(self.rows[layer], (keys, values), strict=True)
        )


def loss_of(
    model: Decoder, opening: Tensor | None, ids: Tensor, labels: Tensor, dtype: torch.dtype = torch.bfloat16
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy over the labels that count, and the share of them that greedy decoding would hit. The first
    label of a row never counts: nothing comes before it. opening [1, P], ids and labels [rows, T]."""
    cache = TrainingCache()
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        if opening is not None:
            model.hidden(opening, cache)
            cache.position = opening.shape[1]
        hidden = model.hidden(ids, cache)[:, :-1]
        counted = labels[:, 1:] != IGNORED
        rows = hidden[counted]
        padded = functional.pad(rows, (0, 0, 0, -len(rows) % 512))
        logits = model.logits(padded)[: len(rows)]
    target = labels[:, 1:][counted]
    return functional.cross_entropy(logits, target), (logits.argmax(-1) == target).float().mean()
