"""Causal attention of new positions over a long cache, in Triton: a program for each KV head, block of rows and part of
the keys, then a second kernel that merges the parts in their order.

A row is a position and one of the query heads that share the KV head, so keys and values are read once for the group.
"""
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# mypy: disable-error-code=import-untyped
# ruff: noqa: N803, N806, PT018

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRET = bool(triton.knobs.runtime.interpret)
KEYS = 64  # of one step
MOST_SPLITS = 128


@triton.jit
def attend(
    q, k, v, out, sums, scale, length, positions,
    HEADS: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    SPLITS: tl.constexpr, WIDE: tl.constexpr, ON_DEVICE: tl.constexpr,
):  # fmt: skip
    """q [T, HEADS, D], k and v [.., KV, D]. With one split, out is the result; else out is float32 [SPLITS, T, HEADS,
    D], not yet divided, and sums [SPLITS, T, HEADS, 2] has each row's maximum (base 2) and sum.

    WIDE: multiply in float32. ON_DEVICE: length is an int32 in memory."""
    GROUP: tl.constexpr = HEADS // KV
    kv_head, split = tl.program_id(0), tl.program_id(2)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    there = row < positions * GROUP
    position = row // GROUP
    head = kv_head * GROUP + row % GROUP
    keys_in_all = tl.load(length) if ON_DEVICE else length
    seen = keys_in_all - positions + position + 1  # a row looks at keys 0..seen - 1
    wide = tl.arange(0, D)
    q_rows = tl.load(q + (position * HEADS + head)[:, None] * D + wide[None, :], mask=there[:, None], other=0.0)
    if WIDE:
        q_rows = q_rows.to(tl.float32)
    per_split = tl.cdiv(tl.cdiv(keys_in_all, KEYS), SPLITS) * KEYS
    start = split * per_split
    last_position = tl.minimum((tl.program_id(1) * ROWS + ROWS - 1) // GROUP, positions - 1)
    end = tl.minimum(start + per_split, keys_in_all - positions + last_position + 1)
    largest = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, D), tl.float32)
    for first in range(start, end, KEYS):
        key = first + tl.arange(0, KEYS)
        at = (key.to(tl.int64) * KV + kv_head) * D
        key_there = key < end
        k_tile = tl.load(k + at[None, :] + wide[:, None], mask=key_there[None, :], other=0.0)
        v_tile = tl.load(v + at[:, None] + wide[None, :], mask=key_there[:, None], other=0.0)
        if WIDE:
            k_tile = k_tile.to(tl.float32)
            v_tile = v_tile.to(tl.float32)
        else:
            k_tile = k_tile.to(q_rows.dtype)
            v_tile = v_tile.to(q_rows.dtype)
        scores = tl.dot(q_rows, k_tile, input_precision="ieee") * scale
        scores = tl.where((key[None, :] < seen[:, None]) & key_there[None, :], scores, -float("inf"))
        new = tl.maximum(largest, tl.max(scores, 1))
        base = tl.where(new == -float("inf"), 0.0, new)  # a row that saw nothing yet
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(largest - base)
        total = total * shrink + tl.sum(weights, 1)
        mixed = tl.dot(weights.to(v_tile.dtype), v_tile, mixed * shrink[:, None], input_precision="ieee")
        largest = new
    line = position * HEADS + head
    if SPLITS == 1:
        mixed /= total[:, None]
    else:
        line += split * positions * HEADS
        tl.store(sums + line * 2, largest, mask=there)
        tl.store(sums + line * 2 + 1, total, mask=there)
    tl.store(out + line[:, None] * D + wide[None, :], mixed.to(out.dtype.element_ty), mask=there[:, None])


@triton.jit
def merge_splits(parts, sums, out, lines, D: tl.constexpr, SPLITS: tl.constexpr):
    """A position and head a program; split after split, so always the same sum."""
    line = tl.program_id(0)
    wide = tl.arange(0, D)
    largest = tl.load(sums + line * 2)
    for split in range(1, SPLITS):
        largest = tl.maximum(largest, tl.load(sums + (split * lines + line) * 2))
    total = 0.0
    mixed = tl.zeros((D,), tl.float32)
    for split in range(0, SPLITS):
        at = split * lines + line
        shrink = tl.exp2(tl.load(sums + at * 2) - largest)
        total += tl.load(sums + at * 2 + 1) * shrink
        mixed += tl.load(parts + at * D + wide) * shrink
    tl.store(out + line * D + wide, (mixed / total).to(out.dtype.element_ty))


def rows_of(positions: int, group: int) -> int:
    """Rows of a program: 16, 32 or 64."""
    return min(64, max(16, triton.next_power_of_2(positions * group)))


def choose_splits(programs: int, length: int, multiprocessors: int) -> int:
    """Parts of the keys: as many as give each multiprocessor two programs, but no part under two steps."""
    wanted = -(-2 * multiprocessors // programs)
    return max(1, min(wanted, length // (2 * KEYS), MOST_SPLITS))


def attention(
    q: Tensor, k: Tensor, v: Tensor, multiprocessors: int, length: Tensor | None = None, splits: int | None = None
) -> Tensor:
    """q [T, H, D] over k, v [S, KV, D] -> [T, H, D]; q are the last T of S positions. D a power of two, 16 or more.

    length: S as an int32 tensor [] on the device, for a graph; k and v are then the whole cache, and `splits` is meant
    for its longest state."""
    positions, heads, width = q.shape
    kv_heads, group = k.shape[1], heads // k.shape[1]
    assert q.is_contiguous() and k.is_contiguous() and v.is_contiguous()
    assert k.shape == v.shape and k.shape[2] == width and heads % kv_heads == 0 and positions <= k.shape[0]
    rows = rows_of(positions, group)
    blocks = triton.cdiv(positions * group, rows)
    splits = splits or choose_splits(kv_heads * blocks, k.shape[0], multiprocessors)
    out = torch.empty_like(q)
    parts, sums = out, out
    if splits > 1:
        parts = torch.empty(splits, *q.shape, dtype=torch.float32, device=q.device)
        sums = torch.empty(splits, positions, heads, 2, dtype=torch.float32, device=q.device)
    attend[(kv_heads, blocks, splits)](
        q, k, v, parts, sums, math.log2(math.e) / math.sqrt(width), k.shape[0] if length is None else length, positions,
        HEADS=heads, KV=kv_heads, D=width, ROWS=rows, KEYS=KEYS, SPLITS=splits,
        WIDE=q.dtype == torch.float32 or (INTERPRET and torch.bfloat16 in (q.dtype, k.dtype)),
        ON_DEVICE=length is not None, num_warps=8 if rows == 64 else 4,
        num_stages=2 if q.dtype == torch.float32 or rows == 64 else 3,
    )  # fmt: skip
    if splits > 1:
        merge_splits[(positions * heads,)](parts, sums, out, positions * heads, D=width, SPLITS=splits, num_warps=1)
    return out
