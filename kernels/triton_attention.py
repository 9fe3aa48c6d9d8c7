"""Causal attention of new positions over a long cache, in Triton: a program for each KV head, block of rows and part of
the keys. The last program of a block to arrive merges the parts in their order, or a second kernel does.

A row is a position and one of the query heads that share the KV head, so keys and values are read once for the group.
How the keys are cut depends on their number alone, also where only the device knows it: a graph that was captured for
the longest state of a cache gives the same bits as a launch for the state it is in.
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
LEAST = 2 * KEYS  # keys of a part
MOST_SPLITS = 128
AT_ONCE = 4  # parts that are read together when they are merged


@triton.jit(do_not_specialize=["length", "positions"])
def attend(
    q, k, v, out, parts, sums, arrivals, scale, length, positions,
    HEADS: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    SPLITS: tl.constexpr, MERGE: tl.constexpr, WIDE: tl.constexpr, ON_DEVICE: tl.constexpr, LEAST: tl.constexpr,
    AT_ONCE: tl.constexpr,
):  # fmt: skip
    """q, out [T, HEADS, D], k and v [.., KV, D]. With more than one split, parts is float32 [SPLITS, T, HEADS, D], not
    yet divided, and sums [SPLITS, T, HEADS, 2] has each row's maximum (base 2) and sum; out is written with MERGE only.

    WIDE: multiply in float32. ON_DEVICE: length is how many keys lie ahead of q's own, an int32 in memory."""
    GROUP: tl.constexpr = HEADS // KV
    kv_head, split = tl.program_id(0), tl.program_id(2)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    there = row < positions * GROUP
    position = row // GROUP
    head = kv_head * GROUP + row % GROUP
    splits = SPLITS
    if ON_DEVICE:
        keys_in_all = tl.load(length) + positions
        splits = tl.maximum(tl.minimum(keys_in_all // LEAST, SPLITS), 1)  # as choose_splits does; the rest is idle
    else:
        keys_in_all = length
    seen = keys_in_all - positions + position + 1  # a row looks at keys 0..seen - 1
    wide = tl.arange(0, D)
    q_rows = tl.load(q + (position * HEADS + head)[:, None] * D + wide[None, :], mask=there[:, None], other=0.0)
    if WIDE:
        q_rows = q_rows.to(tl.float32)
    per_split = tl.cdiv(tl.cdiv(keys_in_all, KEYS), splits) * KEYS
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
        tl.store(out + line[:, None] * D + wide[None, :], mixed.to(out.dtype.element_ty), mask=there[:, None])
    else:
        lines = positions * HEADS
        busy = there & (split < splits)
        tl.store(sums + (split * lines + line) * 2, largest, mask=busy)
        tl.store(sums + (split * lines + line) * 2 + 1, total, mask=busy)
        tl.store(parts + (split * lines + line)[:, None] * D + wide[None, :], mixed, mask=busy[:, None])
        if MERGE:
            tl.debug_barrier()  # all of the program's values are written before it counts as arrived
            block = arrivals + tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
            if tl.atomic_add(block, 1, sem="acq_rel", scope="gpu") == SPLITS - 1:
                merged = _merged(parts, sums, line, there, lines, splits, ROWS, D, AT_ONCE)
                tl.store(out + line[:, None] * D + wide[None, :], merged.to(out.dtype.element_ty), mask=there[:, None])
                tl.store(block, 0)  # as it was, for the next launch


@triton.jit
def _merged(parts, sums, line, there, lines, splits, ROWS: tl.constexpr, D: tl.constexpr, AT_ONCE: tl.constexpr):
    # float32 [ROWS, D]: the parts of each row, one after the other. Those behind the last add zeros.
    wide = tl.arange(0, D)
    largest = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, D), tl.float32)
    for first in range(0, splits, AT_ONCE):
        for number in tl.static_range(AT_ONCE):
            at = (first + number) * lines + line
            read = there & (first + number < splits)
            own = tl.load(sums + at * 2, mask=read, other=-float("inf"), cache_modifier=".cg")
            own_total = tl.load(sums + at * 2 + 1, mask=read, other=0.0, cache_modifier=".cg")
            part = tl.load(parts + at[:, None] * D + wide[None, :], mask=read[:, None], other=0.0, cache_modifier=".cg")
            new = tl.maximum(largest, own)
            base = tl.where(new == -float("inf"), 0.0, new)  # a row that is not there
            shrink, shrink_own = tl.exp2(largest - base), tl.exp2(own - base)
            total = total * shrink + own_total * shrink_own
            mixed = mixed * shrink[:, None] + part * shrink_own[:, None]
            largest = new
    return mixed / tl.where(there, total, 1.0)[:, None]


@triton.jit(do_not_specialize=["lines", "splits"])
def merge_splits(parts, sums, out, lines, splits, D: tl.constexpr, AT_ONCE: tl.constexpr):
    """A position and head a program."""
    line = tl.program_id(0) + tl.arange(0, 1)
    merged = _merged(parts, sums, line, line < lines, lines, splits, 1, D, AT_ONCE)
    tl.store(out + line[:, None] * D + tl.arange(0, D)[None, :], merged.to(out.dtype.element_ty))


def rows_of(positions: int, group: int) -> int:
    """Rows of a program: 16, 32 or 64."""
    return min(64, max(16, triton.next_power_of_2(positions * group)))


def choose_splits(programs: int, length: int, multiprocessors: int) -> int:
    """Parts of the keys: as many as give each multiprocessor two programs, but no part under two steps."""
    wanted = -(-2 * multiprocessors // programs)
    return max(1, min(wanted, length // LEAST, MOST_SPLITS))


def attention(
    q: Tensor, k: Tensor, v: Tensor, multiprocessors: int, position: Tensor | None = None, splits: int | None = None,
    arrivals: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """q [T, H, D] over k, v [S, KV, D] -> [T, H, D]; q are the last T of S positions. D a power of two, 16 or more.

    position: S - T as an int32 tensor [] on the device, for a graph; k and v are then the whole cache. arrivals: zeros,
    int32, one for each KV head and block of rows: the parts are merged in the same launch then, and it is left so."""
    positions, heads, width = q.shape
    kv_heads, group = k.shape[1], heads // k.shape[1]
    assert q.is_contiguous() and k.is_contiguous() and v.is_contiguous()
    assert k.shape == v.shape and k.shape[2] == width and heads % kv_heads == 0 and positions <= k.shape[0]
    rows = rows_of(positions, group)
    blocks = triton.cdiv(positions * group, rows)
    splits = splits or choose_splits(kv_heads * blocks, k.shape[0], multiprocessors)
    assert arrivals is None or arrivals.numel() >= kv_heads * blocks
    assert splits == 1 or position is None or arrivals is not None  # the host does not know how many parts there are
    out = torch.empty_like(q)
    parts, sums = out, out
    if splits > 1:
        parts = torch.empty(splits, *q.shape, dtype=torch.float32, device=q.device)
        sums = torch.empty(splits, positions, heads, 2, dtype=torch.float32, device=q.device)
    attend[(kv_heads, blocks, splits)](
        q, k, v, out, parts, sums, out if arrivals is None else arrivals, math.log2(math.e) / math.sqrt(width),
        k.shape[0] if position is None else position, positions,
        HEADS=heads, KV=kv_heads, D=width, ROWS=rows, KEYS=KEYS, SPLITS=splits, MERGE=arrivals is not None,
        WIDE=q.dtype == torch.float32 or (INTERPRET and torch.bfloat16 in (q.dtype, k.dtype)),
        ON_DEVICE=position is not None, LEAST=LEAST, AT_ONCE=AT_ONCE, num_warps=8 if rows == 64 else 4,
        num_stages=2 if q.dtype == torch.float32 or rows == 64 else 3,
    )  # fmt: skip
    if splits > 1 and arrivals is None:
        lines = positions * heads
        merge_splits[(lines,)](parts, sums, out, lines, splits, D=width, AT_ONCE=AT_ONCE, num_warps=1)
    return out
