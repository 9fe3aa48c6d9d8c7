"""One signature, several implementations, one choice made once per engine."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from . import reference
from .weights import BlockWeights, FourBit, Quantized

log = logging.getLogger(__name__)


class Block(Protocol):
    """A decoder block as one call, of `Ops.block`."""

    def takes(self, x: Tensor, keys: Tensor) -> bool: ...
    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor: ...


class Ops(Protocol):
    """The operations of a decoder; `reference` documents shapes and meaning."""

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor: ...
    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor: ...
    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor: ...
    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...
    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor: ...
    def quantize_nf4(self, weight: Tensor, nested: bool = False) -> FourBit: ...
    def quantized_linear(self, x: Tensor, weight: Quantized, bias: Tensor | None = None) -> Tensor: ...
    def pack(self, weight: Quantized) -> Quantized: ...
    def block(self, weights: BlockWeights) -> Block | None: ...


class DeviceBlock(Protocol):
    """A block of ops that record: the position may be an int32 tensor [] that only the device reads."""

    def takes(self, x: Tensor, keys: Tensor) -> bool: ...
    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, position: int | Tensor
    ) -> Tensor: ...


@runtime_checkable
class Recorder(Protocol):
    """Ops that can make one launch of many. Their blocks are `DeviceBlock`s."""

    def record(self, function: Callable[[], object]) -> Callable[[], object]:
        """A call that does again, on the same memory, what `function` does: nothing but work of the device on tensors
        that stay where they are. The function may be run a few times to find that out."""
        ...


def choose_ops(device: torch.device, quantized: bool, kernels: str = "auto") -> Ops:
    """The fastest implementation that is checked for this device: on a CPU the library that setup.py builds where there
    is a compiler, around bitsandbytes for NF4 where it is installed, and plain torch.

    kernels: "auto"; or, on a CUDA GPU, what is not chosen before benchmarks/gpu.py has passed on a card: "triton", with
    decoder blocks of a few rows fused, or "triton-unfused", each operation launched by itself. ImportError where triton
    is not installed."""
    plain = without_library(quantized)
    if kernels != "auto":
        from .triton_ops import TritonOps

        if device.index is not None:
            torch.cuda.set_device(device)  # triton launches on the current one, wherever the tensors are
        return TritonOps(plain, fused=kernels == "triton")  # type: ignore[return-value]
    if device.type != "cpu":
        return plain  # type: ignore[return-value]
    from . import native_library
    from .native_ops import NativeOps

    path = native_library.find_library()
    try:
        if path is not None:
            return NativeOps(native_library.load_library(path), plain)
        why = "was not built: reinstall with a C++ compiler (`g++`) at hand"
    except OSError as error:
        why = f"does not load ({error}); reinstall"
    if quantized:  # where it matters
        log.warning("slow on this CPU: the native kernels' library %s", why)
    return plain  # type: ignore[return-value]


def without_library(quantized: bool) -> ModuleType:
    """What is chosen where the CPU's library is not: bitsandbytes for NF4 where it is installed, and plain torch."""
    if quantized and importlib.util.find_spec("bitsandbytes"):
        # It warns of a package called `kernels` that it looks for, on every machine that does not have it.
        logging.getLogger("bitsandbytes.backends.cpu").setLevel(logging.ERROR)
        from . import bitsandbytes_ops

        return bitsandbytes_ops
    return reference
