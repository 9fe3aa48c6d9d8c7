"""int8 with one scale to a group of neighbouring channels: how a cache stores keys and values in 8 bits. Plain torch.

A row's bytes depend on that row alone: every operation here is elementwise or a maximum, on float32, rounded half to
even, so however many rows are quantized at once each gives the same codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 127  # codes run from -127 to 127; -128 is not used
TINY = 2.0**-126  # the smallest scale: a group of zeros has codes of zero, and nothing is divided by zero


def quantize_int8(x: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """x [..., D] -> codes int8 [..., D] and scales bfloat16 [..., D / group]; the error is at most scale / 2.

    A bfloat16 scale is off by at most 2**-8 of itself, and the group's largest value, 127 (1 + 2**-8) scales away from
    zero then, still rounds to 127: nothing is clipped. A group with a value that is not finite comes back as NaN.
    """
    groups = x.float().unflatten(-1, (-1, group))
    scales = (groups.abs().amax(-1) / LEVELS).clamp(min=TINY).to(torch.bfloat16)
    scales.masked_fill_(~torch.isfinite(scales), float("nan"))
    codes = (groups / scales.float()[..., None]).round_().nan_to_num_(0.0)
    return codes.to(torch.int8).flatten(-2), scales


def dequantize_int8(codes: Tensor, scales: Tensor) -> Tensor:
    """codes int8 [..., D] and scales [..., D / group] -> float32 [..., D]."""
    groups = codes.unflatten(-1, (scales.shape[-1], -1)).float()
    return groups.mul_(scales.float()[..., None]).flatten(-2)
