"""Weights in four bits: what each stored form keeps. How to get values out of them is in `reference`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound="_Tensors")

BLOCK = 64  # weights that share one absmax in what Longhand quantizes itself
NESTED_BLOCK = 256  # absmax values that share one scale when they are quantized too


class _Tensors:
    """A frozen dataclass some of whose fields are tensors."""

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, nested ones included."""
        found: dict[str, Tensor] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                found[field.name] = value
            elif isinstance(value, _Tensors):
                found.update({f"{field.name}_{name}": tensor for name, tensor in value.tensors().items()})
        return found

    @property
    def num_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors().values())

    def to(self: T, device: torch.device) -> T:
        """A copy on the device; nothing of it shares memory with what it was made from."""
        moved: dict[str, object] = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, copy=True)
            elif isinstance(value, _Tensors):
                moved[field.name] = value.to(device)
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Nested(_Tensors):
    """How absmax values are stored in 8 bits themselves (QLoRA's double quantization, arXiv 2305.14314):
    absmax[i] = table[code[i]] * scales[i // 256] + offset."""

    scales: Tensor  # float32 [ceil(blocks / 256)]
    table: Tensor  # float32 [256]
    offset: Tensor  # float32 []


@dataclass(frozen=True)
class FourBit(_Tensors):
    """A weight [N, K] as codes of a table of sixteen values, times an absmax per block; bitsandbytes' 4-bit formats."""

    packed: Tensor  # uint8 [N*K/2], two codes a byte, the first in the high half
    absmax: Tensor  # float32 [ceil(N*K / block)]; uint8 codes if nested
    shape: tuple[int, int]
    table: str = "nf4"  # nf4 | fp4
    block: int = BLOCK
    nested: Nested | None = None


@dataclass(frozen=True)
class Int4(_Tensors):
    """A weight [N, K] as integers of 0..15: (code - zero) * scale, a scale and a zero per group along K. What AWQ and
    GPTQ store, in one layout."""

    packed: Tensor  # uint8 [N, K/2], two codes a byte, the first in the high half
    scales: Tensor  # float16 [N, K/group]
    zeros: Tensor  # uint8 [N, K/group]
    shape: tuple[int, int]
    group: int


@dataclass(frozen=True)
class Tiles(_Tensors):
    """A FourBit or Int4 weight [N, K] in the order that the CPU kernels read, 64 rows side by side (kernels/native)."""

    codes: Tensor  # uint8 [ceil(N/64) * K * 32]
    scales: Tensor  # [ceil(N/64), K/group, 64]: float32, or uint8 codes if nested
    shape: tuple[int, int]
    group: int
    values: tuple[float, ...]  # of the sixteen codes
    zeros: Tensor | None = None  # uint8, as scales
    nested: Nested | None = None


Quantized = FourBit | Int4 | Tiles


Linear = tuple[Tensor | Quantized, Tensor | None]  # a weight [N, K] and its bias [N]


@dataclass(frozen=True)
class BlockWeights:
    """The weights of a decoder block, and how attention is cut into heads."""

    linears: tuple[Linear, ...]  # q, k, v, o, gate, up, down
    norms: tuple[Tensor, Tensor]  # before attention, before the MLP
    eps: float
    heads: int
    kv_heads: int
    head_dim: int
