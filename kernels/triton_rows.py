"""RMSNorm, RoPE (with the write to the cache) and SwiGLU in Triton: a program a row, each value rounded once."""
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# mypy: disable-error-code=import-untyped
# ruff: noqa: N803, PT018

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def rms_norm_rows(x, weight, out, columns, eps, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * columns
    column = tl.arange(0, BLOCK)
    there = column < columns
    row = tl.load(x + start + column, mask=there, other=0.0).to(tl.float32)
    row *= tl.rsqrt(tl.sum(row * row, 0) / columns + eps)
    row *= tl.load(weight + column, mask=there, other=0.0).to(tl.float32)
    tl.store(out + start + column, row.to(out.dtype.element_ty), mask=there)


@triton.jit
def swiglu_values(gate, up, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < count
    a = tl.load(gate + at, mask=there, other=0.0).to(tl.float32)
    b = tl.load(up + at, mask=there, other=0.0).to(tl.float32)
    tl.store(out + at, (a / (1 + tl.exp(-a)) * b).to(out.dtype.element_ty), mask=there)


@triton.jit
def _rotated(x, at, other, cos, sin, angle, first, there):
    # float32: x[at] turned by its pair's angle; `other` is where its partner lies.
    own = tl.load(x + at, mask=there, other=0.0).to(tl.float32)
    partner = tl.load(x + other, mask=there, other=0.0).to(tl.float32)
    c = tl.load(cos + angle, mask=there, other=0.0)
    s = tl.load(sin + angle, mask=there, other=0.0)
    return own * c + tl.where(first, -partner, partner) * s


@triton.jit
def rope_rows(x, cos, sin, out, HEADS: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr):
    """A position a program: x [T, HEADS, D] by cos and sin [T, D/2]."""
    position = tl.program_id(0).to(tl.int64)
    value = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = value < HEADS * D
    at = position * HEADS * D + value
    first = value % D < D // 2
    other = at + tl.where(first, D // 2, -(D // 2))
    turned = _rotated(x, at, other, cos, sin, position * (D // 2) + value % (D // 2), first, there)
    tl.store(out + at, turned.to(out.dtype.element_ty), mask=there)


@triton.jit
def rope_and_cache_rows(
    qkv, cos, sin, q_out, keys, values, first_row, HEADS: tl.constexpr, KV: tl.constexpr, D: tl.constexpr,
    ON_DEVICE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """qkv [T, (HEADS + 2 KV) D] -> rotated q in q_out [T, HEADS, D]; rotated keys and plain values in rows
    first_row.. of the cache [capacity, KV, D]. first_row: a number, or an int32 on the device."""
    position = tl.program_id(0).to(tl.int64)
    value = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    width: tl.constexpr = (HEADS + 2 * KV) * D
    there = value < width
    at = position * width + value
    first = value % D < D // 2
    other = at + tl.where(first, D // 2, -(D // 2))
    turned = _rotated(qkv, at, other, cos, sin, position * (D // 2) + value % (D // 2), first, there)
    plain = tl.load(qkv + at, mask=there, other=0.0).to(tl.float32)
    start = (tl.load(first_row) if ON_DEVICE else first_row).to(tl.int64)
    row = (start + position) * (KV * D)
    is_q, is_k = value < HEADS * D, (value >= HEADS * D) & (value < (HEADS + KV) * D)
    tl.store(q_out + position * (HEADS * D) + value, turned.to(q_out.dtype.element_ty), mask=is_q)
    tl.store(keys + row + value - HEADS * D, turned.to(keys.dtype.element_ty), mask=is_k)
    is_v = there & (value >= (HEADS + KV) * D)
    tl.store(values + row + value - (HEADS + KV) * D, plain.to(values.dtype.element_ty), mask=is_v)


def rms_norm(x: Tensor, weight: Tensor, eps: float, out: Tensor) -> None:
    """x [..., hidden], all contiguous."""
    assert x.is_contiguous() and weight.is_contiguous() and out.is_contiguous() and x.shape == out.shape
    columns = x.shape[-1]
    block = triton.next_power_of_2(columns)
    rows = x.numel() // columns
    rms_norm_rows[(rows,)](x, weight, out, columns, eps, BLOCK=block, num_warps=min(16, max(1, block // 512)))


def swiglu(gate: Tensor, up: Tensor, out: Tensor) -> None:
    """Of one shape, all contiguous."""
    assert gate.is_contiguous() and up.is_contiguous() and out.is_contiguous() and gate.shape == up.shape == out.shape
    swiglu_values[(triton.cdiv(gate.numel(), BLOCK),)](gate, up, out, gate.numel(), BLOCK=BLOCK)


def rope(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """x [T, H, D], cos and sin float32 [T, D/2], all contiguous."""
    assert x.is_contiguous() and cos.is_contiguous() and sin.is_contiguous() and out.is_contiguous()
    positions, heads, width = x.shape
    grid = (positions, triton.cdiv(heads * width, BLOCK))
    rope_rows[grid](x, cos, sin, out, HEADS=heads, D=width, BLOCK=BLOCK)


def rope_and_cache(
    qkv: Tensor, cos: Tensor, sin: Tensor, q: Tensor, keys: Tensor, values: Tensor, position: int | Tensor
) -> None:
    """qkv [T, (H + 2 KV) D] -> rotated q [T, H, D] and rows position.. of keys, values [capacity, KV, D]; position a
    number, or an int32 tensor [] on the device, which the caller has checked against the capacity."""
    heads, kv_heads, width = q.shape[1], keys.shape[1], q.shape[2]
    tensors = (qkv, cos, sin, q, keys, values)
    assert all(tensor.is_contiguous() for tensor in tensors) and qkv.shape[1] == (heads + 2 * kv_heads) * width
    assert isinstance(position, Tensor) or 0 <= position <= keys.shape[0] - qkv.shape[0]
    grid = (qkv.shape[0], triton.cdiv(qkv.shape[1], BLOCK))
    rope_and_cache_rows[grid](
        *tensors, position, HEADS=heads, KV=kv_heads, D=width, ON_DEVICE=isinstance(position, Tensor), BLOCK=BLOCK
    )
