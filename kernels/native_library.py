"""The C++ library of the CPU kernels (kernels/native): finding it, loading it, and its structs filled from tensors."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from ctypes import POINTER, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from .weights import Tiles

DTYPES = {torch.float32: 0, torch.bfloat16: 1}  # and the kinds of dense weights of these dtypes
CODES, INT4 = 2, 3
LEVELS = ("portable", "AVX2", "AVX-512", "AVX-512 BF16")
VERSION = 1  # of the interface in longhand.h
QUAD = 64  # rows of a weight that lie side by side


class LhLinear(ctypes.Structure):
    """A weight, as longhand.h describes it."""

    _fields_ = [
        ("weight", c_void_p), ("bias", c_void_p), ("scales", c_void_p), ("codes", c_void_p),
        ("nested_table", c_void_p), ("nested_scales", c_void_p), ("zeros", c_void_p), ("nested_offset", c_float),
        ("kind", c_int32), ("group", c_int32), ("n", c_int64), ("k", c_int64), ("table", c_float * 16),
    ]  # fmt: skip


class LhBlock(ctypes.Structure):
    """A decoder block, as longhand.h describes it."""

    _fields_ = [
        *((name, LhLinear) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        ("norm1", c_void_p), ("norm2", c_void_p), ("eps", c_float), ("hidden", c_int32), ("intermediate", c_int32),
        ("heads", c_int32), ("kv_heads", c_int32), ("head_dim", c_int32), ("dtype", c_int32), ("kv_dtype", c_int32),
    ]  # fmt: skip


def find_library() -> Path | None:
    """The built library, or None where setup.py found no compiler."""
    return next(iter(sorted(Path(__file__).parent.glob("_native*.so"))), None)


def load_library(path: Path) -> ctypes.CDLL:
    """The library with the types of its functions; OSError if it is not for this machine or these sources."""
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "lh_version") or library.lh_version() != VERSION:
        raise OSError("it was built from other sources")
    linear, block, work = POINTER(LhLinear), POINTER(LhBlock), (c_void_p, c_int64)
    signatures = {
        "lh_level": ([], c_int),
        "lh_force": ([c_int], c_int),
        "lh_use_openmp": ([c_void_p] * 3, None),
        "lh_pack": ([c_void_p, c_int64, c_int64, c_void_p, c_int], None),
        "lh_pack_rows": ([c_void_p, c_int64, c_int64, c_int, c_void_p], None),
        "lh_dequantize": ([linear, c_int, c_void_p, c_int], None),
        "lh_linear": ([linear, c_int, c_void_p, c_int64, c_void_p, c_int, *work], c_int),
        "lh_linear_workspace": ([linear, c_int64, c_int], c_int64),
        "lh_rms_norm": ([c_int, c_void_p, c_void_p, c_float, c_int64, c_int64, c_void_p], None),
        "lh_swiglu": ([c_int, c_void_p, c_void_p, c_int64, c_void_p], None),
        "lh_rope": ([c_int, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int64], None),
        "lh_attention": (
            [c_int, c_int, c_void_p, c_void_p, c_void_p, *[c_int64] * 5, c_void_p, c_int, *work], c_int,
        ),
        "lh_attention_workspace": ([*[c_int64] * 5, c_int], c_int64),
        "lh_block": ([block, c_void_p, c_int64, *[c_void_p] * 4, c_int64, c_int, *work], c_int),
        "lh_block_workspace": ([block, c_int64, c_int64, c_int], c_int64),
    }  # fmt: skip
    for name, (arguments, result) in signatures.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    runtime = _openmp()
    if runtime is not None:
        names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
        library.lh_use_openmp(*(ctypes.cast(getattr(runtime, name), c_void_p) for name in names))
    return library


def _openmp() -> ctypes.CDLL | None:
    # The runtime whose threads torch uses: it is loaded already, from wherever torch was installed.
    lines = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    mapped = {fields[5] for fields in lines if len(fields) == 6}
    for name in sorted(name for name in mapped if re.match(r"lib(g|i)?omp", Path(name).name)):
        try:
            return ctypes.CDLL(name)
        except OSError:  # deleted meanwhile: one thread is better than no kernels
            continue
    return None


def dense(weight: Tensor, bias: Tensor | None) -> LhLinear:
    """A dense weight [N, K] and its bias [N]."""
    weight = weight.detach().contiguous()
    linear = LhLinear(
        weight=weight.data_ptr(), kind=DTYPES[weight.dtype], group=1, n=weight.shape[0], k=weight.shape[1]
    )
    return _keep(linear, bias, [weight])


def tiles(weight: Tiles, bias: Tensor | None) -> LhLinear:
    """A four-bit weight and its bias [N]."""
    linear = LhLinear(
        weight=weight.codes.data_ptr(), kind=CODES if weight.zeros is None else INT4, group=weight.group,
        n=weight.shape[0], k=weight.shape[1], table=(c_float * 16)(*weight.values),
    )  # fmt: skip
    if weight.zeros is not None:
        linear.zeros = weight.zeros.data_ptr()
    if weight.nested is None:
        linear.scales = weight.scales.data_ptr()
    else:
        linear.codes, linear.nested_offset = weight.scales.data_ptr(), float(weight.nested.offset)
        linear.nested_table, linear.nested_scales = weight.nested.table.data_ptr(), weight.nested.scales.data_ptr()
    return _keep(linear, bias, [weight])


def _keep(linear: LhLinear, bias: Tensor | None, owners: Sequence[object]) -> LhLinear:
    wide = None if bias is None else bias.detach().float().contiguous()
    linear.bias = None if wide is None else wide.data_ptr()
    linear.owners = (wide, *owners)  # what the pointers lead to
    return linear
