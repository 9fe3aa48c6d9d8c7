"""Linears that a checkpoint stores in four bits: by bitsandbytes (as transformers writes them), by AWQ or by GPTQ.

Names, shapes and dtypes are checked from the headers, before any of the weights is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..kernels.reference import TABLES, dynamic_table
from ..kernels.weights import NESTED_BLOCK, FourBit, Int4, Nested, Quantized
from .errors import LonghandError

Header = tuple[str, tuple[int, ...]]  # dtype as safetensors spells it, shape
Reader = Callable[[str], Tensor]

SUPPORTED = "bitsandbytes 4-bit (nf4, fp4), AWQ (4 bits, gemm) and GPTQ (4 bits, without act-order)"
BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
MAX_STATE = 65536  # bytes of a quant_state; real ones take about 150
MAX_HEADER = 100_000_000  # bytes; the format's own limit
AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)  # which of eight columns the i-th four bits of an integer hold


@dataclass(frozen=True)
class Stored:
    """How a checkpoint's linears are stored, from config.json's quantization_config."""

    method: str  # bitsandbytes | awq | gptq
    group: int = 0  # AWQ and GPTQ: inputs that share a scale and a zero
    zero_offset: int = 0  # GPTQ's first format stores zeros less one
    nested: bool = False  # bitsandbytes: absmax in 8 bits. For sizes alone; the tensors decide what is read

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Stored:
        """Raises LonghandError for what is not supported, naming it."""
        method = raw.get("quant_method", "unknown")
        bits = raw.get("bits", raw.get("w_bit", 4))
        if method == "bitsandbytes" and raw.get("load_in_4bit") and not raw.get("load_in_8bit"):
            return Stored("bitsandbytes", nested=bool(raw.get("bnb_4bit_use_double_quant")))
        if method in ("awq", "gptq") and bits == 4:
            group = raw.get("group_size", raw.get("q_group_size", 128))
            if isinstance(group, bool) or not isinstance(group, int) or (group != -1 and (group < 8 or group % 8)):
                raise LonghandError(f"quantization_config: group_size {group!r} is not -1 or a multiple of 8")
            form = raw.get("version", "gemm") if method == "awq" else raw.get("checkpoint_format", "gptq")
            if method == "awq" and str(form).lower() == "gemm":
                return Stored("awq", group)
            if method == "gptq" and form in ("gptq", "gptq_v2") and not raw.get("desc_act"):
                return Stored("gptq", group, zero_offset=1 if form == "gptq" else 0)
        details = {key: raw[key] for key in ("quant_method", "bits", "load_in_8bit", "version", "checkpoint_format",
                                             "desc_act") if key in raw}  # fmt: skip
        told = ", ".join(f"{key} {value!r}" for key, value in details.items()) or "no quant_method"
        raise LonghandError(f"quantization_config: {told[:200]} is not supported; supported are {SUPPORTED}")


def parts(prefix: str, names: Collection[str]) -> list[str]:
    """The stored tensors that make up the quantized weight of the linear `prefix`; none if it is not quantized."""
    if f"{prefix}.qweight" in names:
        return [name for kind in ("qweight", "qzeros", "scales", "g_idx") if (name := f"{prefix}.{kind}") in names]
    states = (f"quant_state.bitsandbytes__{table}" for table in TABLES)
    kinds = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", *states)
    found = [name for kind in kinds if (name := f"{prefix}.weight.{kind}") in names]
    return [f"{prefix}.weight", *found] if found and f"{prefix}.weight" in names else []


def check(stored: Stored, prefix: str, shape: tuple[int, int], headers: Mapping[str, Header]) -> None:
    """The headers of a quantized linear of `shape` [N, K] are those of its format; raises LonghandError if not."""
    if (f"{prefix}.qweight" in headers) != (stored.method != "bitsandbytes"):
        raise LonghandError(f"tensors of {prefix} are not those of {stored.method}, which config.json names")
    if stored.method == "bitsandbytes":
        _check_bitsandbytes(prefix, shape, headers)
    else:
        _check_int4(stored, prefix, shape, headers)


def read(stored: Stored, prefix: str, shape: tuple[int, int], reader: Reader, names: Collection[str]) -> Quantized:
    """The quantized weight of a linear whose headers were checked; the tensors may point into mapped files."""
    if stored.method == "bitsandbytes":
        return _read_bitsandbytes(prefix, shape, reader, names)
    return _read_int4(stored, prefix, shape, reader, names)


def _expect(headers: Mapping[str, Header], name: str, want: Header) -> None:
    if name not in headers:
        raise LonghandError(f"tensor {name} is missing")
    dtype, shape = headers[name]
    if dtype not in want[0].split("|") or shape != want[1]:
        raise LonghandError(
            f"tensor {name} is {dtype} {list(shape)}, not {want[0].replace('|', ' or ')} {list(want[1])}"
        )


# --- bitsandbytes -------------------------------------------------------------------------------------------------


def _check_bitsandbytes(prefix: str, shape: tuple[int, int], headers: Mapping[str, Header]) -> None:
    weight = f"{prefix}.weight"
    states = [table for table in TABLES if f"{weight}.quant_state.bitsandbytes__{table}" in headers]
    if len(states) != 1:
        raise LonghandError(f"tensor {weight} has {len(states)} quant_states instead of one of {', '.join(TABLES)}")
    dtype, state_shape = headers[f"{weight}.quant_state.bitsandbytes__{states[0]}"]
    if dtype != "U8" or len(state_shape) != 1 or state_shape[0] > MAX_STATE:
        raise LonghandError(f"tensor {weight}.quant_state.bitsandbytes__{states[0]} is {dtype} {list(state_shape)}")
    if shape[0] * shape[1] % 2:
        raise LonghandError(f"tensor {weight} has an odd number of values")
    _expect(headers, weight, ("U8", (shape[0] * shape[1] // 2, 1)))
    _expect(headers, f"{weight}.quant_map", ("F32", (16,)))
    absmax = headers.get(f"{weight}.absmax", ("", ()))
    sizes = [-(-shape[0] * shape[1] // block) for block in BLOCKS]
    nested = f"{weight}.nested_absmax" in headers
    if absmax[0] != ("U8" if nested else "F32") or len(absmax[1]) != 1 or absmax[1][0] not in sizes:
        raise LonghandError(
            f"tensor {weight}.absmax is missing, or {absmax[0]} {list(absmax[1])} does not fit the weight"
        )
    if nested:
        _expect(headers, f"{weight}.nested_quant_map", ("F32", (256,)))
        _expect(headers, f"{weight}.nested_absmax", ("F32", (-(-absmax[1][0] // NESTED_BLOCK),)))


def _read_bitsandbytes(prefix: str, shape: tuple[int, int], reader: Reader, names: Collection[str]) -> FourBit:
    weight = f"{prefix}.weight"
    table = next(table for table in TABLES if f"{weight}.quant_state.bitsandbytes__{table}" in names)
    name = f"{weight}.quant_state.bitsandbytes__{table}"
    absmax = reader(f"{weight}.absmax")
    nested = f"{weight}.nested_absmax" in names
    block, offset = _state(name, bytes(reader(name).tolist()), table, shape, absmax.numel(), nested)
    if not torch.allclose(reader(f"{weight}.quant_map"), torch.tensor(TABLES[table]), atol=1e-6):
        raise LonghandError(f"tensor {weight}.quant_map holds other values than {table}")
    inner = None
    if nested:
        codes = reader(f"{weight}.nested_quant_map")
        if not torch.allclose(codes, dynamic_table(), atol=1e-6):
            raise LonghandError(f"tensor {weight}.nested_quant_map holds other values than the 8-bit dynamic type")
        inner = Nested(reader(f"{weight}.nested_absmax"), codes, torch.tensor(offset, dtype=torch.float32))
    return FourBit(reader(weight).view(-1), absmax, shape, table, block, inner)


def _state(name: str, blob: bytes, table: str, shape: tuple[int, int], blocks: int, nested: bool) -> tuple[int, float]:
    """Block size and nested offset from a quant_state, a JSON text in a tensor of bytes."""
    try:
        raw = json.loads(blob.decode("utf-8"))
        block, offset = raw["blocksize"], raw.get("nested_offset", 0.0)
        same = (raw["quant_type"], list(raw["shape"])) == (table, list(shape))
        whole = not nested or raw["nested_blocksize"] == NESTED_BLOCK
        fits = isinstance(block, int) and block in BLOCKS and -(-shape[0] * shape[1] // block) == blocks
        finite = isinstance(offset, int | float) and math.isfinite(offset)
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise LonghandError(f"tensor {name}: not a quant_state of bitsandbytes") from None
    if not (same and whole and fits and finite):
        raise LonghandError(f"tensor {name}: its quant_state does not fit the weight, {shape[0]} x {shape[1]}")
    return block, float(offset)


# --- AWQ and GPTQ -------------------------------------------------------------------------------------------------


def _check_int4(stored: Stored, prefix: str, shape: tuple[int, int], headers: Mapping[str, Header]) -> None:
    rows, columns = shape
    group = columns if stored.group == -1 else stored.group
    if rows % 8 or columns % group or columns % 8:
        raise LonghandError(f"{prefix}: {rows} x {columns} does not divide into groups of {group}")
    packed = (columns, rows // 8) if stored.method == "awq" else (columns // 8, rows)
    _expect(headers, f"{prefix}.qweight", ("I32", packed))
    _expect(headers, f"{prefix}.qzeros", ("I32", (columns // group, rows // 8)))
    _expect(headers, f"{prefix}.scales", ("F16|BF16|F32", (columns // group, rows)))
    if f"{prefix}.g_idx" in headers:
        _expect(headers, f"{prefix}.g_idx", ("I32", (columns,)))


def _read_int4(stored: Stored, prefix: str, shape: tuple[int, int], reader: Reader, names: Collection[str]) -> Int4:
    columns = shape[1]
    group = columns if stored.group == -1 else stored.group
    if f"{prefix}.g_idx" in names:
        in_order = torch.arange(columns, dtype=torch.int32) // group
        if not torch.equal(reader(f"{prefix}.g_idx"), in_order):
            raise LonghandError(f"tensor {prefix}.g_idx: GPTQ with act-order is not supported")
    order = AWQ_COLUMNS if stored.method == "awq" else range(8)
    zeros = (_nibbles(reader(f"{prefix}.qzeros"), order).T + stored.zero_offset) & 15  # GPTQ stores a 0 as 15
    qweight = reader(f"{prefix}.qweight")
    # AWQ's integers, [K, N/8], hold eight outputs each; GPTQ's, [K/8, N], eight inputs.
    codes = _nibbles(qweight, order).T if stored.method == "awq" else _nibbles(qweight.T, order)
    packed = (codes[:, ::2] << 4) | codes[:, 1::2]
    return Int4(packed, reader(f"{prefix}.scales").T.contiguous(), zeros.contiguous(), shape, group)


def _nibbles(integers: Tensor, order: Collection[int]) -> Tensor:
    """int32 [R, C] -> uint8 [R, 8*C], each integer's eight 4-bit parts put into `order`."""
    out = torch.empty(*integers.shape, 8, dtype=torch.uint8)
    for part, column in enumerate(order):
        out[..., column] = (integers >> (4 * part)) & 15
    return out.view(integers.shape[0], -1)


def read_headers(folder: Path) -> dict[str, Header] | None:
    """Name -> (dtype, shape) of every tensor in a checkpoint folder; None if a file is missing or is not readable,
    which loading explains. (Checkpoint checks more, and reads the tokenizer.)"""
    try:
        files = ["model.safetensors"]
        index = folder / "model.safetensors.index.json"
        if index.exists():
            files = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        found: dict[str, Header] = {}
        for name in files:
            with (folder / Path(name).name).open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size)) if size <= MAX_HEADER else {}
            entries = {key: value for key, value in header.items() if key != "__metadata__"}
            found |= {key: (str(value["dtype"]), tuple(map(int, value["shape"]))) for key, value in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found
