"""The three products of a decoder block for a few rows, each with all that follows it: QKV with RoPE and the write to
the cache, gate and up with SwiGLU, and a product that is added to the residual stream.

Parts of K that are multiplied by different programs meet in memory: the last program of a tile to arrive sums the parts
in their order (no float atomics, so always the same sum) and does what follows. RMSNorm costs no launch: whoever writes
the residual stream x also writes x times the next norm's weight and, per tile of columns, the sum of its squares; the
product behind the norm reads those, and divides its sums by the root of their mean.
"""
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# mypy: disable-error-code=import-untyped
# ruff: noqa: N803, PT018

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_linear import INTERPRET, accumulate, choose_splits, last_scale, tensors_of, tile_rows
from .triton_weights import PANEL, Panels
from .weights import NESTED_BLOCK

ROWS = 16  # of x, at most


@triton.jit
def _meet(total, parts, arrivals, at, there, count, SPLITS: tl.constexpr):
    # Write this program's part [.., count values]; whether it is the last one of its tile to do so.
    tl.store(parts + tl.program_id(1) * count + at, total, mask=there)
    tl.debug_barrier()  # all of the program's values are written before it counts as arrived
    return tl.atomic_add(arrivals + tl.program_id(0), 1, sem="acq_rel", scope="gpu") == SPLITS - 1


@triton.jit
def _summed(parts, at, there, count, SPLITS: tl.constexpr):
    total = tl.load(parts + at, mask=there, other=0.0, cache_modifier=".cg")
    for split in tl.static_range(1, SPLITS):
        total += tl.load(parts + split * count + at, mask=there, other=0.0, cache_modifier=".cg")
    return total


@triton.jit
def _norm_scale(squares, m, tiles, columns, eps, TILES: tl.constexpr, BM: tl.constexpr):
    # float32 [BM]: one over the root mean square of each row of x. TILES: tiles up to a power of two.
    tile = tl.arange(0, TILES)[:, None]
    sums = tl.load(squares + tile * BM + m[None, :], mask=tile < tiles, other=0.0)
    return tl.rsqrt(tl.sum(sums, 0) / columns + eps)


@triton.jit
def _hand_on(new, norm, weighted, squares, tile, row, at, there, n, BM: tl.constexpr):
    # What the product behind the next norm reads, of new [BN, BM], which lies at `at`.
    new = tl.where(there, new.to(tl.float32), 0.0)
    by = tl.load(norm + row, mask=row < n, other=0.0).to(tl.float32)
    tl.store(weighted + at, (new * by[:, None]).to(weighted.dtype.element_ty), mask=there)
    tl.store(squares + tile * BM + tl.arange(0, BM), tl.sum(new * new, 0))


@triton.jit(do_not_specialize=["rows"])
def weigh_rows(x, norm, weighted, squares, rows, n, BN: tl.constexpr, BM: tl.constexpr):
    """For the first norm, ahead of which there is no product: weighted = x * norm, squares [tiles, BM]."""
    tile = tl.program_id(0)
    row, m = tile * BN + tl.arange(0, BN), tl.arange(0, BM)
    at, there = m[None, :] * n + row[:, None], (row < n)[:, None] & (m < rows)[None, :]
    _hand_on(tl.load(x + at, mask=there, other=0.0), norm, weighted, squares, tile, row, at, there, n, BM)


@triton.jit(do_not_specialize=["rows", "position"])
def qkv_product(
    x, squares, codes, scales, zeros, table, words, nested_table, nested_scales, offsets, bias, cos, sin,
    q, keys, values, position, parts, arrivals, rows, n, steps, per_split, group_steps, nested_end, tiles, eps,
    HEADS: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, TILES: tl.constexpr, ON_DEVICE: tl.constexpr,
    SPLITS: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr, NESTED: tl.constexpr, ZEROS: tl.constexpr,
    FAST: tl.constexpr, NESTED_BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """Rotated q [rows, HEADS, D]; rotated keys and plain values in rows position.. of the cache [capacity, KV, D].
    position: a number, or with ON_DEVICE an int32 in memory. A tile holds whole heads, so both values of a pair."""
    first = tl.program_id(1) * per_split
    total = accumulate(
        x, codes, scales, zeros, table, words, nested_table, nested_scales, offsets,
        rows, steps, first, tl.minimum(first + per_split, steps), group_steps, nested_end,
        tl.program_id(0) * (BN // 64), 1, tl.cdiv(n, 64) - 1, BN, BM, NESTED, ZEROS, FAST, NESTED_BLOCK, RUN,
    )  # fmt: skip
    row, m = tl.program_id(0) * BN + tl.arange(0, BN), tl.arange(0, BM)
    at, there = m[None, :] * n + row[:, None], (row < n)[:, None] & (m < rows)[None, :]
    if _meet(total, parts, arrivals, at, there, rows * n, SPLITS):
        scale = _norm_scale(squares, m, tiles, steps * 64, eps, TILES, BM)[None, :]
        ahead = row % D < D // 2
        apart = tl.where(ahead, D // 2, -(D // 2))  # to the other value of the pair
        own = _summed(parts, at, there, rows * n, SPLITS) * scale
        own += tl.load(bias + row, mask=row < n, other=0.0).to(tl.float32)[:, None]
        other = _summed(parts, at + apart[:, None], there, rows * n, SPLITS) * scale
        other += tl.load(bias + row + apart, mask=row < n, other=0.0).to(tl.float32)[:, None]
        angle = m[None, :] * (D // 2) + (row % (D // 2))[:, None]
        c = tl.load(cos + angle, mask=there, other=0.0)
        s = tl.load(sin + angle, mask=there, other=0.0)
        turned = own * c + tl.where(ahead[:, None], -other, other) * s
        start = (tl.load(position) if ON_DEVICE else position).to(tl.int64)
        cached = (start + m)[None, :] * (KV * D) + row[:, None]
        is_q, is_v = (row < HEADS * D)[:, None], (row >= (HEADS + KV) * D)[:, None]
        tl.store(q + m[None, :] * (HEADS * D) + row[:, None], turned.to(q.dtype.element_ty), mask=there & is_q)
        tl.store(keys + cached - HEADS * D, turned.to(keys.dtype.element_ty), mask=there & ~is_q & ~is_v)
        tl.store(values + cached - (HEADS + KV) * D, own.to(values.dtype.element_ty), mask=there & is_v)
        tl.store(arrivals + tl.program_id(0), 0)  # as it was, for the next launch


@triton.jit(do_not_specialize=["rows"])
def gated_product(
    x, squares, codes, scales, zeros, table, words, nested_table, nested_scales, offsets, out, parts, arrivals,
    rows, n, steps, per_split, group_steps, nested_end, tiles, eps,
    TILES: tl.constexpr, SPLITS: tl.constexpr, BM: tl.constexpr, NESTED: tl.constexpr, ZEROS: tl.constexpr,
    FAST: tl.constexpr, NESTED_BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """out[m, j] = silu(g[m, j]) * g[m, n + j] for g = norm(x) W', W [2 n, K]. A program has a panel of either half."""
    panel = tl.program_id(0)
    first = tl.program_id(1) * per_split
    total = accumulate(
        x, codes, scales, zeros, table, words, nested_table, nested_scales, offsets,
        rows, steps, first, tl.minimum(first + per_split, steps), group_steps, nested_end,
        panel, n // 64, n // 32 - 1, 128, BM, NESTED, ZEROS, FAST, NESTED_BLOCK, RUN,
    )  # fmt: skip
    m = tl.arange(0, BM)
    column = panel * 64 + tl.arange(0, 64)
    there = (m < rows)[None, :]
    gate_at = m[None, :] * (2 * n) + column[:, None]
    last = True
    if SPLITS > 1:
        place = tl.arange(0, 128)
        row = panel * 64 + place % 64 + place // 64 * n
        last = _meet(total, parts, arrivals, m[None, :] * (2 * n) + row[:, None], there, rows * 2 * n, SPLITS)
    if last:
        if SPLITS > 1:
            gate = _summed(parts, gate_at, there, rows * 2 * n, SPLITS)
            up = _summed(parts, gate_at + n, there, rows * 2 * n, SPLITS)
            tl.store(arrivals + panel, 0)
        else:
            gate, up = total.reshape(2, 64, BM).permute(1, 2, 0).split()
        scale = _norm_scale(squares, m, tiles, steps * 64, eps, TILES, BM)[None, :]
        gate *= scale
        value = gate / (1 + tl.exp(-gate)) * (up * scale)
        tl.store(out + m[None, :] * n + column[:, None], value.to(out.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["rows"])
def added_product(
    x, codes, scales, zeros, table, words, nested_table, nested_scales, offsets, stream, norm, weighted, squares,
    parts, arrivals, rows, n, steps, per_split, group_steps, nested_end,
    NEXT: tl.constexpr, SPLITS: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr, NESTED: tl.constexpr,
    ZEROS: tl.constexpr, FAST: tl.constexpr, NESTED_BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """stream += x W', and with NEXT what the next norm needs of it."""
    tile = tl.program_id(0)
    first = tl.program_id(1) * per_split
    total = accumulate(
        x, codes, scales, zeros, table, words, nested_table, nested_scales, offsets,
        rows, steps, first, tl.minimum(first + per_split, steps), group_steps, nested_end,
        tile * (BN // 64), 1, tl.cdiv(n, 64) - 1, BN, BM, NESTED, ZEROS, FAST, NESTED_BLOCK, RUN,
    )  # fmt: skip
    row, m = tile * BN + tl.arange(0, BN), tl.arange(0, BM)
    at, there = m[None, :] * n + row[:, None], (row < n)[:, None] & (m < rows)[None, :]
    last = True
    if SPLITS > 1:
        last = _meet(total, parts, arrivals, at, there, rows * n, SPLITS)
    if last:
        if SPLITS > 1:
            total = _summed(parts, at, there, rows * n, SPLITS)
            tl.store(arrivals + tile, 0)
        new = (tl.load(stream + at, mask=there, other=0.0).to(tl.float32) + total).to(stream.dtype.element_ty)
        tl.store(stream + at, new, mask=there)
        if NEXT:
            _hand_on(new, norm, weighted, squares, tile, row, at, there, n, BM)


@dataclass(frozen=True)
class Normed:
    """Rows of the residual stream on their way through a norm."""

    weighted: Tensor  # [rows, hidden]: x times the norm's weight
    squares: Tensor  # float32 [tiles, 16]: sums of x's squares; of rows that are not there, zeros

    @staticmethod
    def empty(x: Tensor) -> Normed:
        tiles = -(-x.shape[1] // tile_rows(x.shape[1]))
        return Normed(torch.empty_like(x), torch.empty(tiles, ROWS, dtype=torch.float32, device=x.device))


def weigh(x: Tensor, norm: Tensor) -> Normed:
    """x [rows, hidden] on its way through a norm of weight [hidden], where no product comes before it."""
    rows, hidden = x.shape
    assert x.is_contiguous() and norm.is_contiguous() and 0 < rows <= ROWS
    out, tile = Normed.empty(x), tile_rows(hidden)
    weigh_rows[(triton.cdiv(hidden, tile),)](
        x, norm, out.weighted, out.squares, rows, hidden, BN=tile, BM=ROWS, num_warps=4
    )
    return out


def qkv(
    x: Normed, eps: float, weight: Panels, bias: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor,
    position: int | Tensor, arrivals: Tensor, multiprocessors: int, splits: int | None = None,
) -> Tensor:  # fmt: skip
    """Rotated q [rows, H, D] of x behind its norm, by a weight [(H + 2 KV) D, K] and bias; writes rows position.. of
    keys and values [capacity, KV, D]. position: a number, or an int32 tensor [] on the device, which the caller has
    checked against the capacity. cos and sin: float32 [rows, D/2]. D: 16 to 128, a power of two."""
    (n, _), (kv_heads, width), rows = weight.shape, keys.shape[1:], x.weighted.shape[0]
    heads = n // width - 2 * kv_heads
    on_device = isinstance(position, Tensor)
    assert all(tensor.is_contiguous() for tensor in (cos, sin, keys, values, bias)) and bias.shape == (n,)
    assert heads > 0 and n == (heads + 2 * kv_heads) * width and (on_device or position + rows <= keys.shape[0])
    tile = max(tile_rows(n), width)
    assert tile % width == 0
    q = x.weighted.new_empty(rows, heads, width)
    how = _Launch.of(x.weighted, weight, -(-n // tile), multiprocessors, splits)
    qkv_product[how.grid](
        x.weighted, x.squares, *tensors_of(weight), bias, cos, sin, q, keys, values, position, how.parts, arrivals,
        rows, n, *how.steps, x.squares.shape[0], eps,
        HEADS=heads, KV=kv_heads, D=width, TILES=triton.next_power_of_2(x.squares.shape[0]), ON_DEVICE=on_device,
        BN=tile, **how.options,
    )  # fmt: skip
    return q


def gated(
    x: Normed, eps: float, weight: Panels, arrivals: Tensor, multiprocessors: int, splits: int | None = None
) -> Tensor:
    """silu(g) * u [rows, N] of x behind its norm, by a weight [2 N, K]: gate's rows, then up's. N a multiple of 64."""
    n, rows = weight.shape[0] // 2, x.weighted.shape[0]
    assert n % PANEL == 0
    out = x.weighted.new_empty(rows, n)
    how = _Launch.of(x.weighted, weight, n // PANEL, multiprocessors, splits)
    gated_product[how.grid](
        x.weighted, x.squares, *tensors_of(weight), out, how.parts, arrivals,
        rows, n, *how.steps, x.squares.shape[0], eps,
        TILES=triton.next_power_of_2(x.squares.shape[0]), **how.options,
    )  # fmt: skip
    return out


def add(
    x: Tensor, weight: Panels, stream: Tensor, norm: Tensor | None, arrivals: Tensor, multiprocessors: int,
    splits: int | None = None,
) -> Normed | None:  # fmt: skip
    """stream [rows, N] += x [rows, K] by a weight [N, K]; with a norm's weight [N], the sum on its way through it."""
    (rows, n), tile = stream.shape, tile_rows(weight.shape[0])
    assert x.is_contiguous() and stream.is_contiguous() and (rows, n) == (x.shape[0], weight.shape[0])
    then = None if norm is None else Normed.empty(stream)
    how = _Launch.of(x, weight, -(-n // tile), multiprocessors, splits)
    added_product[how.grid](
        x, *tensors_of(weight), stream, *((x, x, x) if then is None else (norm, then.weighted, then.squares)),
        how.parts, arrivals, rows, n, *how.steps, NEXT=then is not None, BN=tile, **how.options,
    )  # fmt: skip
    return then


@dataclass(frozen=True)
class _Launch:
    """What the three products' launches have in common."""

    grid: tuple[int, int]
    parts: Tensor
    steps: tuple[int, int, int, int]  # along K; of a split; of a group; and the last scale's number
    options: dict[str, int | bool]

    @staticmethod
    def of(x: Tensor, weight: Panels, tiles: int, multiprocessors: int, splits: int | None) -> _Launch:
        (rows, k), n, steps = x.shape, weight.shape[0], weight.shape[1] // PANEL
        assert x.is_contiguous() and k == weight.shape[1] and 0 < rows <= ROWS
        per_split = -(-steps // (splits or choose_splits(tiles, steps, multiprocessors)))
        splits = -(-steps // per_split)  # none is empty
        options = {
            "SPLITS": splits, "BM": ROWS, "NESTED": weight.nested is not None, "ZEROS": weight.zeros is not None,
            "FAST": not INTERPRET and x.dtype in (torch.bfloat16, torch.float16), "NESTED_BLOCK": NESTED_BLOCK,
            "RUN": weight.run, "num_warps": 4, "num_stages": 4,
        }  # fmt: skip
        parts = torch.empty(splits, rows, n, dtype=torch.float32, device=x.device)
        along = (steps, per_split, weight.group // PANEL, last_scale(weight))
        return _Launch((tiles, splits), parts, along, options)
