"""The reference operations with 4-bit weights by bitsandbytes. Import this module only where a model is quantized:
bitsandbytes takes a moment to load and looks for a module called `kernels` while it does."""

from __future__ import annotations

from dataclasses import replace

import bitsandbytes
import torch
from bitsandbytes.functional import QuantState, get_4bit_type
from torch import Tensor
from torch.nn import functional

from . import reference
from .reference import attention, block, linear, pack, rms_norm, rope, swiglu
from .weights import BLOCK, NESTED_BLOCK, FourBit, Nested, Quantized

__all__ = [
    "attention", "block", "dequantize", "linear", "pack", "quantize_nf4", "quantized_linear", "rms_norm", "rope",
    "swiglu",
]  # fmt: skip


def quantize_nf4(weight: Tensor, nested: bool = False) -> FourBit:
    """As `reference.quantize_nf4`, on a CPU bit for bit."""
    whole = reference.in_chunks(_quantize_chunk, weight)
    if not nested:
        return whole
    offset = whole.absmax.mean()
    codes, state = bitsandbytes.functional.quantize_blockwise(whole.absmax - offset, blocksize=NESTED_BLOCK)
    return replace(whole, absmax=codes, nested=Nested(state.absmax, state.code, offset))


def _quantize_chunk(flat: Tensor) -> tuple[Tensor, Tensor]:
    packed, state = bitsandbytes.functional.quantize_4bit(flat, blocksize=BLOCK, quant_type="nf4")
    return packed.view(-1), state.absmax


def dequantize(weight: Quantized, dtype: torch.dtype) -> Tensor:
    """As `reference.dequantize`, bit for bit."""
    if not isinstance(weight, FourBit) or _misread(weight):
        return reference.dequantize(weight, dtype)
    return bitsandbytes.functional.dequantize_4bit(weight.packed.view(-1, 1), _state(weight, dtype))


def quantized_linear(x: Tensor, weight: Quantized, bias: Tensor | None = None) -> Tensor:
    """As `reference.quantized_linear`; on a GPU with bitsandbytes' fused kernels, so equal only within rounding there.

    On a CPU its fused path wants weights repacked (on ordinary ones it returns garbage without an error), so weights
    are dequantized for each call.
    """
    if x.device.type == "cpu" or not isinstance(weight, FourBit):
        return functional.linear(x, dequantize(weight, x.dtype), bias)
    return bitsandbytes.matmul_4bit(x, weight.packed.view(-1, 1), _state(weight, x.dtype), bias=bias)


def _misread(weight: FourBit) -> bool:
    # On a CPU bitsandbytes 0.50.2 takes the wrong absmax where blocks longer than 64 run over the ends of rows.
    return weight.packed.device.type == "cpu" and weight.block > BLOCK and weight.shape[1] % weight.block != 0


def _state(weight: FourBit, dtype: torch.dtype) -> QuantState:
    table = get_4bit_type(weight.table, device=weight.packed.device)
    shape = torch.Size(weight.shape)
    if weight.nested is None:
        return QuantState(weight.absmax, shape, table, weight.block, weight.table, dtype)
    inner = QuantState(weight.nested.scales, code=weight.nested.table, blocksize=NESTED_BLOCK, dtype=torch.float32)
    return QuantState(
        weight.absmax, shape, table, weight.block, weight.table, dtype, offset=weight.nested.offset, state2=inner
    )
