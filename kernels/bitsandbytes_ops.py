"""The reference operations with NF4 by bitsandbytes. Import this module only where a model is quantized: bitsandbytes
takes a moment to load and looks for a module called `kernels` while it does."""

from __future__ import annotations

import bitsandbytes
import torch
from bitsandbytes.functional import QuantState, get_4bit_type
from torch import Tensor
from torch.nn import functional

from .reference import NF4_BLOCK, attention, linear, rms_norm, rope, swiglu

__all__ = ["attention", "dequantize_nf4", "linear", "nf4_linear", "quantize_nf4", "rms_norm", "rope", "swiglu"]


def quantize_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """As `reference.quantize_nf4`, bit for bit."""
    packed, state = bitsandbytes.functional.quantize_4bit(weight, blocksize=NF4_BLOCK, quant_type="nf4")
    return packed.view(-1), state.absmax


def dequantize_nf4(packed: Tensor, absmax: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """As `reference.dequantize_nf4`, bit for bit."""
    return bitsandbytes.functional.dequantize_4bit(packed.view(-1, 1), _state(absmax, shape, dtype))


def nf4_linear(x: Tensor, packed: Tensor, absmax: Tensor, shape: tuple[int, int], bias: Tensor | None = None) -> Tensor:
    """As `reference.nf4_linear`; on a GPU with bitsandbytes' fused kernels, so equal only within rounding there.

    On a CPU its fused path wants weights repacked (on ordinary ones it returns garbage without an error), so weights
    are dequantized for each call.
    """
    if x.device.type == "cpu":
        return functional.linear(x, dequantize_nf4(packed, absmax, shape, x.dtype), bias)
    return bitsandbytes.matmul_4bit(x, packed.view(-1, 1), _state(absmax, shape, x.dtype), bias=bias)


def _state(absmax: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> QuantState:
    code = get_4bit_type("nf4", device=absmax.device)
    return QuantState(absmax, torch.Size(shape), code, NF4_BLOCK, "nf4", dtype)
