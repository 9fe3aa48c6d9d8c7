"""Every operation of the decoder in plain torch: the oracle that each faster version is checked against.

Shapes: `...` is any number of leading batch dimensions, T new positions, S positions in the cache, H query heads,
KV key/value heads, D the head's width. Sums and normalizations run in float32 and are rounded once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from .weights import BLOCK, NESTED_BLOCK, BlockWeights, FourBit, Int4, Linear, Nested, Quantized, Tiles

QUERY_BLOCK = 64  # queries whose scores are in memory at a time
CHUNK = 1 << 23  # weights that are quantized at a time; a multiple of every block

# The sixteen values behind the codes. NormalFloat4: quantiles of a standard normal scaled to [-1, 1] (QLoRA,
# arXiv 2305.14314). bitsandbytes' FP4: a sign, two bits of exponent, one of mantissa, over its largest value 12.
TABLES = {
    "nf4": (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ),
    "fp4": tuple(sign * value / 12 for sign in (1, -1) for value in (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)),
}  # fmt: skip


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K] times weight [N, K] transposed, plus bias [N]."""
    return functional.linear(x, weight, bias)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., hidden] over its root mean square, times weight [hidden] (arXiv 1910.07467)."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [..., T, H, D] by its positions; cos and sin are [T, D/2] in float32.

    Dimension i is paired with i + D/2, as in Qwen2's checkpoints (RoPE: arXiv 2104.09864).
    """
    a, b = x.float().chunk(2, -1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(x.dtype)


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """[queries, keys], True where a query may look: aligned to the bottom right, the last query sees every key."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of q [..., T, H, D] over k, v [..., S, KV, D]; q are the last T of the S positions.

    The H/KV query heads of a group are folded into the rows, so each key and value is read once for its group.
    Returns [..., T, H, D].
    """
    *batch, queries, heads, width = q.shape
    keys, kv_heads = k.shape[-3], k.shape[-2]
    group = heads // kv_heads
    k, v = k.transpose(-3, -2).transpose(-2, -1).float(), v.transpose(-3, -2).float()
    out = torch.empty_like(q)
    for start in range(0, queries, QUERY_BLOCK):
        block = q[..., start : start + QUERY_BLOCK, :, :]
        count = block.shape[-3]
        seen = keys - queries + start + count  # what causality hides is not computed
        rows = block.reshape(*batch, count, kv_heads, group, width).transpose(-4, -3)  # [..., KV, T, G, D]
        rows = rows.reshape(*batch, kv_heads, count * group, width).float() / math.sqrt(width)
        scores = rows @ k[..., :seen]
        if count > 1:
            mask = causal_mask(count, seen, q.device).repeat_interleave(group, 0)
            scores.masked_fill_(~mask, float("-inf"))
        part = torch.softmax(scores, -1) @ v[..., :seen, :]
        part = part.reshape(*batch, kv_heads, count, group, width).transpose(-4, -3)
        out[..., start : start + QUERY_BLOCK, :, :] = part.reshape(*batch, count, heads, width)
    return out


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, elementwise (arXiv 2002.05202)."""
    return functional.silu(gate) * up


def quantize_nf4(weight: Tensor, nested: bool = False) -> FourBit:
    """Weight [N, K], N*K even, in NF4 with blocks of 64; with `nested` its absmax in 8 bits. Bit-equal to bitsandbytes'
    `quantize_4bit(..., quant_type="nf4", compress_statistics=nested)` on a CPU."""
    whole = in_chunks(_quantize_chunk, weight)
    return nest(whole) if nested else whole


def in_chunks(quantize: Callable[[Tensor], tuple[Tensor, Tensor]], weight: Tensor) -> FourBit:
    """Quantize a weight [N, K] some blocks at a time, so that temporary copies stay small; `quantize` takes values [n]
    and returns packed codes [n/2] and absmax [ceil(n/64)]."""
    flat = weight.reshape(-1)
    packed = torch.empty(flat.numel() // 2, dtype=torch.uint8, device=weight.device)
    absmax = torch.empty(-(-flat.numel() // BLOCK), device=weight.device)
    for start in range(0, flat.numel(), CHUNK):
        codes, largest = quantize(flat[start : start + CHUNK])
        packed[start // 2 :][: codes.numel()] = codes
        absmax[start // BLOCK :][: largest.numel()] = largest
    rows, columns = weight.shape
    return FourBit(packed, absmax, (rows, columns))


def _quantize_chunk(flat: Tensor) -> tuple[Tensor, Tensor]:
    flat = flat.float()
    values = torch.tensor(TABLES["nf4"], device=flat.device)
    bounds = (values[1:] + values[:-1]) / 2
    tail = flat.numel() % BLOCK
    blocks = functional.pad(flat, (0, BLOCK - tail) if tail else (0, 0)).view(-1, BLOCK)
    absmax = blocks.abs().amax(-1)
    scaled = blocks * (1.0 / absmax.clamp(min=1e-38))[:, None]
    if tail:  # bitsandbytes divides in a short last block (and keeps its clamped absmax), elsewhere it multiplies
        absmax[-1:].clamp_(min=1e-38)
        scaled[-1] = blocks[-1] / absmax[-1]
    codes = torch.bucketize(scaled.clamp(-1, 1).reshape(-1)[: flat.numel()], bounds, out_int32=True).to(torch.uint8)
    return (codes[::2] << 4) | codes[1::2], absmax


def nest(weight: FourBit) -> FourBit:
    """The same weight with its absmax in 8 bits, in blocks of 256, around their mean."""
    offset = weight.absmax.mean()
    blocks = weight.absmax - offset
    count = blocks.numel()
    blocks = functional.pad(blocks, (0, -count % NESTED_BLOCK)).view(-1, NESTED_BLOCK)
    scales = blocks.abs().amax(-1)
    scaled = blocks * (1.0 / scales)[:, None]
    # On a CPU bitsandbytes looks codes up by 16 bits of the value, on a GPU it searches for the nearest: one code in a
    # thousand differs by one.
    scaled = ((scaled + 1) * 32767.5 + 0.5).floor() / 65535 * 2 - 1
    table = dynamic_table().to(blocks.device)
    codes = torch.bucketize(scaled, (table[1:] + table[:-1]) / 2).to(torch.uint8)
    codes = codes.masked_fill(scales[:, None] == 0, 0).view(-1)[:count]
    return replace(weight, absmax=codes, nested=Nested(scales, table, offset))


def dynamic_table() -> Tensor:
    """The 256 values of bitsandbytes' 8-bit dynamic type (arXiv 1511.04561): seven decades up to 1, finer upwards."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        middles = 10 ** (decade - 6) * ((edges[1:] + edges[:-1]) / 2)
        values += [*middles.tolist(), *(-middles).tolist()]
    return torch.tensor(sorted(values))


def absmax_of(weight: FourBit) -> Tensor:
    """float32 [blocks], whether it is stored so or nested."""
    if weight.nested is None:
        return weight.absmax
    scales = weight.nested.scales.repeat_interleave(NESTED_BLOCK)[: weight.absmax.numel()]
    return weight.nested.table[weight.absmax.int()] * scales + weight.nested.offset


def dequantize(weight: Quantized, dtype: torch.dtype) -> Tensor:
    """The weight [N, K] in dtype, each value rounded once from its float32 product."""
    if isinstance(weight, Tiles):
        return _tiles_dequantized(weight).to(dtype)
    if isinstance(weight, Int4):
        codes = torch.stack((weight.packed >> 4, weight.packed & 15), -1).view(*weight.scales.shape, weight.group)
        centered = codes.float() - weight.zeros.float()[..., None]
        return (centered * weight.scales.float()[..., None]).to(dtype).view(weight.shape)
    values = torch.tensor(TABLES[weight.table], device=weight.packed.device)
    codes = torch.stack((weight.packed >> 4, weight.packed & 15), -1).reshape(-1)
    flat = values[codes.int()]
    flat = flat * absmax_of(weight).repeat_interleave(weight.block)[: flat.numel()]
    return flat.to(dtype).view(weight.shape)


def _tiles_dequantized(weight: Tiles) -> Tensor:
    rows, columns = weight.shape
    words = weight.codes.view(torch.int32).view(-1, columns // 8, 64)  # [64 rows, 8 columns, row]
    shifts = torch.tensor([0, 16, 4, 20, 8, 24, 12, 28], dtype=torch.int32)  # of the 8 columns
    codes = ((words[..., None] >> shifts) & 15).permute(0, 2, 1, 3).reshape(-1, columns)[:rows]
    blocks = _untiled(weight.scales, rows, columns // weight.group)
    if weight.nested is not None:
        flat = FourBit(weight.codes, blocks.reshape(-1), weight.shape, nested=weight.nested)
        blocks = absmax_of(flat).view(rows, -1)
    values = torch.tensor(weight.values)[codes].view(rows, -1, weight.group)
    if weight.zeros is not None:
        values = values - _untiled(weight.zeros, rows, columns // weight.group).float()[..., None]
    return (values * blocks[..., None]).view(rows, columns)


def _untiled(parts: Tensor, rows: int, groups: int) -> Tensor:
    return parts.view(-1, groups, 64).transpose(1, 2).reshape(-1, groups)[:rows]


def pack(weight: Quantized) -> Quantized:
    """The weight in the form that `quantized_linear` wants: here as it is."""
    return weight


def block(weights: BlockWeights) -> None:
    """A whole decoder block as one call, where an implementation has that. Here none."""
    return None


def quantized_linear(x: Tensor, weight: Quantized, bias: Tensor | None = None) -> Tensor:
    """x [..., K] times a quantized weight [N, K], dequantized to x's dtype on the way, plus bias [N]."""
    return functional.linear(x, dequantize(weight, x.dtype), bias)


def rope_and_cache(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, position: int | Tensor
) -> Tensor:
    """Rotated q [T, H, D]; writes rotated k and plain v [T, KV, D] to rows position.. of keys, values [capacity, KV,
    D]. position: a number, or a tensor []."""
    start = int(position)
    keys[start : start + len(k)] = rope(k, cos, sin)
    values[start : start + len(v)] = v
    return rope(q, cos, sin)


class PlainBlock:
    """What a decoder block as one call does, step by step: the twin of those that are fused."""

    def __init__(self, weights: BlockWeights):
        self.weights = weights

    def takes(self, x: Tensor, keys: Tensor) -> bool:
        """Whether this call is for the block: up to 16 rows, as the fused ones take."""
        return x.dim() == 2 and 0 < x.shape[0] <= 16

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, position: int | Tensor
    ) -> Tensor:
        """x [T, hidden] -> the same shape; keys, values [capacity, KV, D], of which rows position.. are written."""
        w = self.weights

        def multiply(x: Tensor, linear: Linear) -> Tensor:
            dense = isinstance(linear[0], Tensor)
            return functional.linear(x, *linear) if dense else quantized_linear(x, *linear)  # type: ignore[arg-type]

        q, k, v, o, gate, up, down = w.linears
        normed = rms_norm(x, w.norms[0], w.eps)
        heads = [multiply(normed, linear).unflatten(-1, (-1, w.head_dim)) for linear in (q, k, v)]
        rotated = rope_and_cache(heads[0], heads[1], heads[2], cos, sin, keys, values, position)
        end = int(position) + len(x)
        x = x + multiply(attention(rotated, keys[:end], values[:end]).flatten(-2), o)
        normed = rms_norm(x, w.norms[1], w.eps)
        return x + multiply(swiglu(multiply(normed, gate), multiply(normed, up)), down)
