"""One signature, several implementations, one choice made once per engine."""

from __future__ import annotations

import importlib.util
import logging
from typing import Protocol

import torch
from torch import Tensor

from . import reference
from .weights import FourBit, Quantized


class Ops(Protocol):
    """The operations of a decoder; `reference` documents shapes and meaning."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor: ...
    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor: ...
    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor: ...
    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...
    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor: ...
    def quantize_nf4(self, weight: Tensor, nested: bool = False) -> FourBit: ...
    def quantized_linear(self, x: Tensor, weight: Quantized, bias: Tensor | None = None) -> Tensor: ...


def choose_ops(device: torch.device, quantized: bool) -> Ops:
    """The fastest implementation that is checked for this device: bitsandbytes for NF4 where it is installed, plain
    torch for everything else."""
    if quantized and importlib.util.find_spec("bitsandbytes"):
        # It warns of a package called `kernels` that it looks for, on every machine that does not have it.
        logging.getLogger("bitsandbytes.backends.cpu").setLevel(logging.ERROR)
        from . import bitsandbytes_ops

        return bitsandbytes_ops
    return reference
