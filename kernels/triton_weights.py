"""Four-bit weights in the order that the Triton kernels read: panels of 64 rows, 64 columns of a row in 32 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from . import reference
from .weights import NESTED_BLOCK, FourBit, Int4, Nested, _Tensors

PANEL = 64  # rows that lie together, and columns of one step along K
HALF = PANEL // 2  # bytes of one row in one step: column j in the high half of byte j, column j + 32 in the low half
LANES, LANE_BYTES = 128, 16  # a step of a panel, as four warps read it


@dataclass(frozen=True)
class Panels(_Tensors):
    """A FourBit or Int4 weight [N, K]. A step of a program reads `codes[panel, step]`, 2 KiB in a row.

    Each lane's 16 bytes are what the matrix instruction wants it to hold: lane 4 a + t of warp w has rows 16 w + a and
    16 w + 8 + a in turns, of each the bytes run t .. run t + run - 1 of every 4 run. So codes go from memory to the
    instruction's registers without a shuffle. `run` is 2 for wgmma (sm_90); for mma.sync Triton spreads bytes in runs
    of 4. Another run is slower, not wrong. Rows up to a multiple of 64 are there, and never stored from.
    """

    codes: Tensor  # uint8 [ceil(N/64), K/64, 128, 16]
    scales: Tensor  # [ceil(N/64), K/group, 64]: float32 or float16, or uint8 codes if nested
    table: Tensor  # float32 [16], the values of the codes
    words: Tensor  # int32 [2, 8], the same for byte permutes: see `table_words`
    shape: tuple[int, int]
    group: int
    run: int  # 2 | 4, see above
    zeros: Tensor | None = None  # uint8, as scales
    nested: Nested | None = None
    offsets: Tensor | None = None  # float32 [ceil(N/64)]: nested.offset of each panel, as joined weights have their own


def to_panels(weight: FourBit | Int4, run: int) -> Panels | None:
    """The weight repacked on its device, or None where its groups do not end with its rows and steps."""
    rows, columns = weight.shape
    group = weight.group if isinstance(weight, Int4) else weight.block
    if columns % group or group % PANEL:
        return None
    packed = functional.pad(weight.packed.view(rows, columns // 2), (0, 0, 0, -rows % PANEL))
    panels = packed.view(-1, PANEL, columns // PANEL, HALF).transpose(1, 2)  # [panel, step, row, byte]
    codes = torch.empty((*panels.shape[:2], LANES, LANE_BYTES), dtype=torch.uint8, device=packed.device)
    for start in range(0, panels.shape[0], 64):  # a few MB at a time
        part = panels[start : start + 64]
        nibbles = torch.stack((part >> 4, part & 15), -1).flatten(-2)  # in order of the columns
        halves = (nibbles[..., :HALF] << 4) | nibbles[..., HALF:]
        lanes = halves.view(*halves.shape[:2], 4, 2, 8, 8 // run, 4, run).permute(0, 1, 2, 4, 6, 5, 3, 7)
        codes[start : start + 64] = lanes.reshape(*halves.shape[:2], LANES, LANE_BYTES)
    if isinstance(weight, Int4):
        values = tuple(float(code) for code in range(16))
        scales, zeros, nested = weight.scales, _in_panels(weight.zeros), None
    else:
        values, zeros, nested = reference.TABLES[weight.table], None, weight.nested
        scales = weight.absmax.view(rows, -1)
    table = torch.tensor(values, device=codes.device)
    words = table_words(values).to(codes.device)
    offsets = None if nested is None else nested.offset.repeat(codes.shape[0])
    return Panels(codes, _in_panels(scales), table, words, weight.shape, group, run, zeros, nested, offsets)


def join(parts: Sequence[Panels]) -> Panels | None:
    """Weights with the same columns as one, so that a launch multiplies all of them; None where they do not go
    together. The parts become views of the whole: nothing is held twice."""
    first, groups = parts[0], parts[0].shape[1] // parts[0].group
    for part in parts[1:]:
        alike = (part.shape[1], part.group, part.run) == (first.shape[1], first.group, first.run)
        if not alike or part.scales.dtype != first.scales.dtype or not torch.equal(part.table, first.table):
            return None
        if (part.zeros is None) != (first.zeros is None) or (part.nested is None) != (first.nested is None):
            return None
        if part.nested and first.nested and not torch.equal(part.nested.table, first.nested.table):
            return None
    for part in parts[:-1]:  # each next one begins with a panel and, nested, with a block of scales
        if part.shape[0] % PANEL or (part.nested is not None and part.shape[0] * groups % NESTED_BLOCK):
            return None
    zeros, nested, offsets = None, None, None
    if first.zeros is not None:
        zeros = _joined([part.zeros for part in parts])
    if first.nested is not None:
        scales = _joined([part.nested.scales for part in parts if part.nested is not None])
        nested, offsets = replace(first.nested, scales=scales), _joined([part.offsets for part in parts])
    shape = (sum(part.shape[0] for part in parts), first.shape[1])
    return replace(
        first, codes=_joined([part.codes for part in parts]), scales=_joined([part.scales for part in parts]),
        shape=shape, zeros=zeros, nested=nested, offsets=offsets,
    )  # fmt: skip


def _joined(parts: Sequence[Tensor | None]) -> Tensor:
    # One tensor behind the other along the first dimension; each becomes a view of the result.
    tensors = [part for part in parts if part is not None]
    whole = torch.cat(tensors)
    for part, view in zip(tensors, whole.split([len(part) for part in tensors]), strict=True):
        part.set_(view)  # type: ignore[call-overload]
    return whole


def table_words(values: Sequence[float]) -> Tensor:
    """int32 [2, 8]: sixteen values in bfloat16 (row 0) or float16 (row 1), first their low bytes, then their high ones,
    four to a word."""
    rows = []
    for dtype in (torch.bfloat16, torch.float16):
        pairs = torch.tensor(values, dtype=torch.float32).to(dtype).view(torch.uint8).view(16, 2)
        rows.append(pairs.T.contiguous().view(torch.int32).view(8))
    return torch.stack(rows)


def _in_panels(parts: Tensor) -> Tensor:
    """[N, groups] -> [ceil(N/64), groups, 64]."""
    parts = functional.pad(parts, (0, 0, 0, -parts.shape[0] % PANEL))
    return parts.view(-1, PANEL, parts.shape[1]).transpose(1, 2).contiguous()


def dequantize(weight: Panels, dtype: torch.dtype) -> Tensor:
    """The weight [N, K] in plain torch, bit-equal to `reference.dequantize` of what it was packed from."""
    rows, columns = weight.shape
    lanes = weight.codes.view(*weight.codes.shape[:2], 4, 8, 4, 8 // weight.run, 2, weight.run)
    halves = lanes.permute(0, 1, 2, 6, 3, 5, 4, 7).reshape(*lanes.shape[:2], PANEL, HALF)
    codes = torch.cat((halves >> 4, halves & 15), -1).transpose(1, 2).reshape(-1, columns)[:rows]
    scales = _from_panels(weight.scales, rows)
    if weight.nested is not None and weight.offsets is not None:
        blocks = weight.nested.scales.repeat_interleave(NESTED_BLOCK)[: scales.numel()].view(rows, -1)
        offsets = weight.offsets.repeat_interleave(PANEL)[:rows, None]
        scales = weight.nested.table[scales.int()] * blocks + offsets
    values = weight.table[codes.int()].view(rows, -1, weight.group)
    if weight.zeros is not None:
        values = values - _from_panels(weight.zeros, rows).float()[..., None]
    return (values * scales.float()[..., None]).view(rows, columns).to(dtype)


def _from_panels(parts: Tensor, rows: int) -> Tensor:
    return parts.transpose(1, 2).reshape(-1, parts.shape[1])[:rows]
