"""Products of 1 to 64 rows with four-bit weights, in one pass over the weights.

A program takes some panels of 64 rows and a part of K. Codes become bfloat16 or float16 in registers by byte
permutes (inline assembly), the weights are the large operand of the matrix instruction, and the scale of a group is
applied once per 64 columns, on the float32 partial sum. Where K is split, the parts are written and summed in their
order by a second kernel: no float atomics, and a row comes out the same whatever rows are beside it.
"""
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# mypy: disable-error-code=import-untyped
# ruff: noqa: N803, N806, PT018

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_weights import HALF, PANEL, Panels
from .weights import NESTED_BLOCK

INTERPRET = bool(triton.knobs.runtime.interpret)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)  # that kernels know
MOST_ROWS = 64  # of x that one pass takes
MOST_SPLITS = 8


def decode_assembly() -> tuple[str, str]:
    """PTX, and what its operands are: it turns a lane's sixteen bytes ($16 to $19) into the values of their codes, the
    high codes' in $0 to $7, the low ones' in $8 to $15.

    The table lies in eight registers ($20, $36, ..., see `table_words`). A byte permute looks four codes up in eight
    entries; it is done for either half of the table, and bit 3 of each code, spread over a byte by a third permute,
    chooses. 21 integer operations for 8 weights. ptxas copies registers that are the same in all lanes ahead of
    every permute, so the table's must not look so: see `_entry`.
    """
    lines = [".reg .b32 s, n, m, a, b, l, h;"]
    for word in range(4):
        # A permute reads bit 3 of a selector as something else, hence 7s.
        lines += [f"and.b32 s, ${16 + word}, 0x77777777;", f"shl.b32 n, ${16 + word}, 4;"]
        for pair, mask in enumerate(("0xd9c8", "0xfbea")):
            if pair:
                lines.append("shr.b32 s, s, 16;")
            lines.append(f"prmt.b32 m, n, ${16 + word}, {mask};")
            for plane, register in enumerate("lh"):
                t = [f"${20 + 16 * (4 * plane + number)}" for number in range(4)]
                lines += [
                    f"prmt.b32 a, {t[0]}, {t[1]}, s;",
                    f"prmt.b32 b, {t[2]}, {t[3]}, s;",
                    f"lop3.b32 {register}, a, b, m, 0xd8;",  # m ? b : a
                ]
            high = 2 * word + pair
            lines += [f"prmt.b32 ${high}, l, h, 0x7351;", f"prmt.b32 ${8 + high}, l, h, 0x6240;"]
    # An operand has a register for each of the sixteen bytes; those of a table word are all one.
    return "{\n" + "\n".join(lines) + "\n}", ",".join(["=&r"] * 16 + ["r"] * (4 + 8 * 16))


ASSEMBLY, OPERANDS = (tl.constexpr(text) for text in decode_assembly())


@triton.jit
def _entry(word, FAST: tl.constexpr):
    # A word of the table, or'ed with a zero that ptxas takes for another in each lane: bit 31 of the mask of lower
    # lanes.
    if not FAST:
        return 0
    else:
        return tl.inline_asm_elementwise(
            "{ .reg .b32 z; mov.u32 z, %lanemask_lt; and.b32 z, z, 0x80000000; or.b32 $0, $1, z; }",
            "=r,r", [tl.load(word)], dtype=tl.int32, is_pure=True, pack=1,
        )  # fmt: skip


@triton.jit
def _values(packed, table, words, FAST: tl.constexpr, dtype: tl.constexpr):
    # uint8 [..] -> the values of the high codes and of the low ones.
    if FAST:
        operands = (packed, words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7])
        if dtype == tl.bfloat16:
            return tl.inline_asm_elementwise(
                ASSEMBLY, OPERANDS, operands, dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=16
            )
        else:
            return tl.inline_asm_elementwise(
                ASSEMBLY, OPERANDS, operands, dtype=(tl.float16, tl.float16), is_pure=True, pack=16
            )
    else:
        high = tl.load(table + (packed >> 4).to(tl.int32))
        low = tl.load(table + (packed & 15).to(tl.int32))
        return high.to(dtype), low.to(dtype)


@triton.jit
def _in_rows(lanes, ROWS: tl.constexpr, RUN: tl.constexpr):
    # [ROWS * 2, 16], as lanes read it (see Panels), -> [ROWS, 32]; only names change, no value moves to another lane.
    parts = lanes.reshape(ROWS // 64, 4, 8, 4, 8 // RUN, 2, RUN)
    return parts.permute(0, 1, 5, 2, 4, 3, 6).reshape(ROWS, 32)


@triton.jit
def _scale(stored, nested_table, nested_scales, offset, flat, NESTED: tl.constexpr, NESTED_BLOCK: tl.constexpr):
    # float32 scales from what is stored; `flat`: their numbers in the order of the checkpoint.
    if NESTED:
        return tl.load(nested_table + stored.to(tl.int32)) * tl.load(nested_scales + flat // NESTED_BLOCK) + offset
    else:
        return stored.to(tl.float32)


@triton.jit
def accumulate(
    x, codes, scales, zeros, table, words, nested_table, nested_scales, offsets,
    rows, steps, first, last, group_steps, nested_end, first_panel, apart, last_panel,
    BN: tl.constexpr, BM: tl.constexpr, NESTED: tl.constexpr, ZEROS: tl.constexpr, FAST: tl.constexpr,
    NESTED_BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """float32 [BN, BM]: x W' over steps first..last - 1, for the weight's panels first_panel, first_panel + apart, ..
    (none behind last_panel, which is read again instead)."""
    PANEL: tl.constexpr = 64
    HALF: tl.constexpr = 32
    dtype: tl.constexpr = x.dtype.element_ty if FAST else tl.float32
    place = tl.arange(0, BN)
    panel, inside = tl.minimum(first_panel + place // PANEL * apart, last_panel), place % PANEL
    groups = steps // group_steps
    byte = tl.arange(0, HALF)
    m = tl.arange(0, BM)
    lanes = tl.arange(0, 2 * BN)
    lane_panel = tl.minimum(first_panel + lanes // 128 * apart, last_panel).to(tl.int64)
    code_at = codes + (lane_panel * steps * (PANEL * HALF) + lanes % 128 * 16)[:, None] + tl.arange(0, 16)[None, :]
    x_at = x + m[None, :] * (steps * PANEL) + byte[:, None]
    there = (m < rows)[None, :]
    total = tl.zeros((BN, BM), tl.float32)
    words += 8 if dtype == tl.float16 else 0
    e0, e1, e2, e3 = _entry(words, FAST), _entry(words + 1, FAST), _entry(words + 2, FAST), _entry(words + 3, FAST)
    words += 4
    e4, e5, e6, e7 = _entry(words, FAST), _entry(words + 1, FAST), _entry(words + 2, FAST), _entry(words + 3, FAST)
    entries = (e0, e1, e2, e3, e4, e5, e6, e7)
    offset = tl.load(offsets + panel) if NESTED else 0.0
    # Triton copies codes and x ahead, but not scales: they are asked for a step before they are used. (Two steps, and
    # it would copy nothing ahead.)
    scale_at = panel * groups * PANEL + inside
    stored = tl.load(scales + scale_at + first // group_steps * PANEL)
    for step in range(first, last):
        packed = tl.load(code_at + step * (PANEL * HALF))
        x_high = tl.load(x_at + step * PANEL, mask=there, other=0.0)
        x_low = tl.load(x_at + step * PANEL + HALF, mask=there, other=0.0)
        group = step // group_steps
        # Rows behind the last have no scales of their own in a nested weight.
        flat = tl.minimum((panel * PANEL + inside) * groups + group, nested_end) if NESTED else 0
        scale = _scale(stored, nested_table, nested_scales, offset, flat, NESTED, NESTED_BLOCK)
        stored = tl.load(scales + scale_at + tl.minimum(step + 1, steps - 1) // group_steps * PANEL)
        high, low = _values(packed, table, entries, FAST, dtype)
        high, low = _in_rows(high, BN, RUN), _in_rows(low, BN, RUN)
        if ZEROS:
            zero = tl.load(zeros + scale_at + group * PANEL).to(dtype)
            high -= zero[:, None]
            low -= zero[:, None]
        part = tl.dot(high, x_high.to(dtype), input_precision="ieee")
        part = tl.dot(low, x_low.to(dtype), part, input_precision="ieee")
        total += part * scale[:, None]
    return total


@triton.jit(do_not_specialize=["rows"])
def product(
    x, codes, scales, zeros, table, words, nested_table, nested_scales, offsets, bias, out,
    rows, n, steps, per_split, group_steps, nested_end,
    BN: tl.constexpr, BM: tl.constexpr, SPLIT: tl.constexpr, NESTED: tl.constexpr, ZEROS: tl.constexpr,
    BIAS: tl.constexpr, FAST: tl.constexpr, NESTED_BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """out[m, n] = x[m, :] W[n, :] + bias[n]; with SPLIT, out is float32 [splits, rows, n] and has no bias."""
    split = tl.program_id(1)
    first = split * per_split
    total = accumulate(
        x, codes, scales, zeros, table, words, nested_table, nested_scales, offsets,
        rows, steps, first, tl.minimum(first + per_split, steps), group_steps, nested_end,
        tl.program_id(0) * (BN // 64), 1, tl.cdiv(n, 64) - 1, BN, BM, NESTED, ZEROS, FAST, NESTED_BLOCK, RUN,
    )  # fmt: skip
    row = tl.program_id(0) * BN + tl.arange(0, BN)
    m = tl.arange(0, BM)
    if BIAS:
        total += tl.load(bias + row, mask=row < n, other=0.0).to(tl.float32)[:, None]
    if SPLIT:
        out += split.to(tl.int64) * rows * n
    stored = (row < n)[:, None] & (m < rows)[None, :]
    tl.store(out + m[None, :] * n + row[:, None], total.to(out.dtype.element_ty), mask=stored)


@triton.jit
def sum_splits(parts, bias, out, count, n, SPLITS: tl.constexpr, BIAS: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = parts[0, i] + parts[1, i] + ... in this order, + bias[i % n]; count values in all."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = at < count
    total = tl.load(parts + at, mask=there, other=0.0)
    for split in tl.static_range(1, SPLITS):
        total += tl.load(parts + split * count + at, mask=there, other=0.0)
    if BIAS:
        total += tl.load(bias + at % n, mask=there, other=0.0).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=there)


@triton.jit(do_not_specialize=["n", "first_row"])
def dequantize_panels(
    codes, scales, zeros, table, words, nested_table, nested_scales, offsets, out,
    n, steps, group_steps, first_row, nested_end,
    NESTED: tl.constexpr, ZEROS: tl.constexpr, NESTED_BLOCK: tl.constexpr, RUN: tl.constexpr,
):  # fmt: skip
    """One panel and step a program: 64 x 64 values, each rounded once. out holds rows first_row..n - 1."""
    PANEL: tl.constexpr = 64
    HALF: tl.constexpr = 32
    inside = tl.arange(0, PANEL)
    byte = tl.arange(0, HALF)
    panel = first_row // PANEL + tl.program_id(0)
    step = tl.program_id(1)
    row = panel * PANEL + inside
    groups = steps // group_steps
    group = step // group_steps
    tile = (panel.to(tl.int64) * steps + step) * (PANEL * HALF)
    packed = tl.load(codes + tile + tl.arange(0, 128)[:, None] * 16 + tl.arange(0, 16)[None, :])
    high, low = _values(packed, table, None, False, tl.float32)
    high, low = _in_rows(high, PANEL, RUN), _in_rows(low, PANEL, RUN)
    scale_at = (panel * groups + group) * PANEL + inside
    flat = tl.minimum(row * groups + group, nested_end)
    offset = tl.load(offsets + panel) if NESTED else 0.0
    stored = tl.load(scales + scale_at)
    scale = _scale(stored, nested_table, nested_scales, offset, flat, NESTED, NESTED_BLOCK)
    if ZEROS:
        zero = tl.load(zeros + scale_at).to(tl.float32)
        high -= zero[:, None]
        low -= zero[:, None]
    at = out + (row - first_row).to(tl.int64)[:, None] * (steps * PANEL) + step * PANEL + byte[None, :]
    there = (row < n)[:, None]
    tl.store(at, (high * scale[:, None]).to(out.dtype.element_ty), mask=there)
    tl.store(at + HALF, (low * scale[:, None]).to(out.dtype.element_ty), mask=there)


def fits(x: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether kernels can read this, as dtype."""
    here = x.is_cuda or INTERPRET
    return here and (dtype or x.dtype) in DTYPES and not (x.requires_grad and torch.is_grad_enabled())


def tile_rows(n: int) -> int:
    """Rows of the weight that a program takes: two panels, or one where there are few."""
    return 2 * PANEL if n >= 32 * PANEL else PANEL


def choose_splits(tiles: int, steps: int, multiprocessors: int) -> int:
    """Parts of K, for the same weight and device always the same number: the fewest that come within 5 % of the
    shortest time, counted in steps of the busiest multiprocessor with two programs on each at once, 4 steps lost at a
    program's start, and each further part as long as half a step."""
    slots = 2 * multiprocessors

    def steps_in_all(splits: int) -> float:
        waves = -(-tiles * splits // slots)
        return waves * (-(-steps // splits) + 4) + 0.5 * (splits - 1)

    times = {splits: steps_in_all(splits) for splits in range(1, min(MOST_SPLITS, steps) + 1)}
    return min(splits for splits, time in times.items() if time <= 1.05 * min(times.values()))


def multiply(
    x: Tensor, weight: Panels, bias: Tensor | None, multiprocessors: int, splits: int | None = None,
    warps: int = 4, stages: int = 4,
) -> Tensor:  # fmt: skip
    """x [rows, K] times the weight [N, K] transposed, plus bias [N]; 1 to 64 rows, contiguous."""
    rows, k = x.shape
    n = weight.shape[0]
    assert x.is_contiguous() and k == weight.shape[1] and 0 < rows <= MOST_ROWS
    steps, tile = k // PANEL, tile_rows(n)
    splits = splits or choose_splits(triton.cdiv(n, tile), steps, multiprocessors)
    per_split = -(-steps // splits)
    splits = -(-steps // per_split)  # none is empty
    out = torch.empty(rows, n, dtype=x.dtype, device=x.device)
    parts = out if splits == 1 else torch.empty(splits, rows, n, dtype=torch.float32, device=x.device)
    fast = not INTERPRET and x.dtype in (torch.bfloat16, torch.float16)
    product[(triton.cdiv(n, tile), splits)](
        x, *tensors_of(weight), x if bias is None else bias, parts,
        rows, n, steps, per_split, weight.group // PANEL, last_scale(weight),
        BN=tile, BM=max(16, triton.next_power_of_2(rows)), SPLIT=splits > 1, NESTED=weight.nested is not None,
        ZEROS=weight.zeros is not None, BIAS=bias is not None and splits == 1,
        FAST=fast, NESTED_BLOCK=NESTED_BLOCK, RUN=weight.run,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    if splits > 1:
        count = rows * n
        sum_splits[(triton.cdiv(count, 256),)](
            parts, x if bias is None else bias, out, count, n, SPLITS=splits, BIAS=bias is not None, BLOCK=256,
            num_warps=2,
        )  # fmt: skip
    return out


def dequantize_rows(weight: Panels, first: int, last: int, out: Tensor) -> None:
    """Rows first..last - 1 (first a multiple of 64) of the weight into out [last - first, K]."""
    assert out.is_contiguous() and first % PANEL == 0 and out.shape == (last - first, weight.shape[1])
    steps = weight.shape[1] // PANEL
    dequantize_panels[(triton.cdiv(last - first, PANEL), steps)](
        *tensors_of(weight), out, last, steps, weight.group // PANEL, first, last_scale(weight),
        NESTED=weight.nested is not None, ZEROS=weight.zeros is not None, NESTED_BLOCK=NESTED_BLOCK, RUN=weight.run,
    )  # fmt: skip


def tensors_of(weight: Panels) -> tuple[Tensor, ...]:
    # A kernel never looks at what stands in for a tensor that is not there.
    zeros = weight.scales if weight.zeros is None else weight.zeros
    nested, offsets = weight.nested, weight.table if weight.offsets is None else weight.offsets
    inner = (weight.table,) * 2 if nested is None else (nested.table, nested.scales)
    return weight.codes, weight.scales, zeros, weight.table, weight.words, *inner, offsets


def last_scale(weight: Panels) -> int:
    return weight.shape[0] * weight.shape[1] // weight.group - 1


assert HALF == 32 and PANEL == 64  # as the kernels have them
