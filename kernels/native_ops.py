"""The reference operations on a CPU, by the C++ library (native_library.py).

Four-bit weights are repacked once, 64 rows side by side, in the order the kernels read them. A decoder block runs as
one call. Weights that the library cannot hold, and dtypes it does not know, go the plain way.
"""

from __future__ import annotations

import ctypes
import threading
from types import ModuleType

import torch
from torch import Tensor

from . import reference
from .native_library import DTYPES, LEVELS, QUAD, LhBlock, LhLinear, dense, tiles
from .weights import BlockWeights, FourBit, Int4, Quantized, Tiles

FEW = 16  # rows up to which large dense weights are multiplied here; above, torch's matrix product is faster
SMALL = 1 << 20  # values of a dense weight that stays in the cache: always multiplied here
LANES = 16


class NativeOps:
    """`reference`'s operations. Holds a workspace that grows to the largest call; calls of several threads take turns.

    `plain` does what the library does not: quantizing, and weights or dtypes that it has no kernel for.
    """

    def __init__(self, library: ctypes.CDLL, plain: ModuleType):
        self.library, self.plain = library, plain
        self.lock = threading.Lock()
        self._work = torch.empty(0, dtype=torch.uint8)

    @property
    def level(self) -> str:
        """The instruction set in use."""
        return LEVELS[self.library.lh_level()]

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `reference.linear`."""
        many = x.numel() > FEW * x.shape[-1] and weight.numel() > SMALL
        if many or not _fits(x) or not _fits(weight):
            return reference.linear(x, weight, bias)
        return self._multiply(x, dense(weight, bias))

    def quantized_linear(self, x: Tensor, weight: Quantized, bias: Tensor | None = None) -> Tensor:
        """As `reference.quantized_linear`, the codes' values rounded to x's dtype instead of their products with the
        absmax, so equal within rounding. A row comes out the same whatever rows are beside it."""
        if not isinstance(weight, Tiles):
            return self.plain.quantized_linear(x, weight, bias)  # type: ignore[no-any-return]
        if x.dtype not in DTYPES:
            return self._multiply(x.float(), tiles(weight, bias)).to(x.dtype)
        return self._multiply(x, tiles(weight, bias))

    def _multiply(self, x: Tensor, linear: LhLinear) -> Tensor:
        rows = x.reshape(-1, linear.k).contiguous()
        out = rows.new_empty((rows.shape[0], linear.n))
        threads = torch.get_num_threads()
        with self.lock:
            work = self._room(self.library.lh_linear_workspace(linear, rows.shape[0], threads))
            _check(
                self.library.lh_linear(
                    linear, DTYPES[x.dtype], rows.data_ptr(), rows.shape[0], out.data_ptr(), threads, *work
                )
            )
        return out.view(*x.shape[:-1], linear.n)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As `reference.rms_norm`, rounded once."""
        if not _fits(x):
            return reference.rms_norm(x, weight, eps)
        rows, scale, out = x.contiguous(), weight.float().contiguous(), torch.empty_like(x)
        self.library.lh_rms_norm(
            DTYPES[x.dtype], rows.data_ptr(), scale.data_ptr(), eps, rows.numel() // rows.shape[-1], rows.shape[-1],
            out.data_ptr(),
        )  # fmt: skip
        return out

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """As `reference.rope`."""
        if not _fits(x) or x.dim() != 3:
            return reference.rope(x, cos, sin)
        out, cos, sin = x.clone(memory_format=torch.contiguous_format), cos.contiguous(), sin.contiguous()
        self.library.lh_rope(DTYPES[x.dtype], out.data_ptr(), cos.data_ptr(), sin.data_ptr(), *out.shape)
        return out

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `reference.attention`; in bfloat16 with weights rounded to it. A query's row depends on nothing beside
        it: the same alone as among others."""
        known = _fits(q) and k.dtype in DTYPES and k.dtype == v.dtype and q.dim() == 3 and q.shape[-1] % LANES == 0
        if not known or not 1 <= q.shape[0] <= k.shape[0]:
            return reference.attention(q, k, v)
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out, threads = torch.empty_like(q), torch.get_num_threads()
        sizes = (q.shape[0], k.shape[0], q.shape[1], k.shape[1], q.shape[2])
        with self.lock:
            work = self._room(self.library.lh_attention_workspace(*sizes, threads))
            _check(
                self.library.lh_attention(
                    DTYPES[q.dtype], DTYPES[k.dtype], q.data_ptr(), k.data_ptr(), v.data_ptr(), *sizes, out.data_ptr(),
                    threads, *work,
                )
            )  # fmt: skip
        return out

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """As `reference.swiglu`, rounded once."""
        if not _fits(gate):
            return reference.swiglu(gate, up)
        gate, up = gate.contiguous(), up.contiguous()
        out = torch.empty_like(gate)
        self.library.lh_swiglu(DTYPES[gate.dtype], gate.data_ptr(), up.data_ptr(), gate.numel(), out.data_ptr())
        return out

    def quantize_nf4(self, weight: Tensor, nested: bool = False) -> FourBit:
        """As `reference.quantize_nf4`, bit for bit."""
        return self.plain.quantize_nf4(weight, nested)  # type: ignore[no-any-return]

    def dequantize(self, weight: Quantized, dtype: torch.dtype) -> Tensor:
        """As `reference.dequantize`, bit for bit."""
        if not isinstance(weight, Tiles):
            return self.plain.dequantize(weight, dtype)  # type: ignore[no-any-return]
        out = torch.empty(weight.shape, dtype=dtype if dtype in DTYPES else torch.float32)
        threads = torch.get_num_threads()
        self.library.lh_dequantize(tiles(weight, None), DTYPES[out.dtype], out.data_ptr(), threads)
        return out.to(dtype)

    def pack(self, weight: Quantized) -> Quantized:
        """The weight in tiles; as it is where its groups do not end with its rows."""
        rows, columns = weight.shape
        if isinstance(weight, Tiles) or weight.packed.device.type != "cpu":
            return weight
        group = weight.group if isinstance(weight, Int4) else weight.block
        if columns % group or group % 8:
            return weight
        groups, threads = columns // group, torch.get_num_threads()
        packed = weight.packed.contiguous()
        codes = torch.empty(-(-rows // QUAD) * columns * QUAD // 2, dtype=torch.uint8)
        self.library.lh_pack(packed.data_ptr(), rows, columns, codes.data_ptr(), threads)
        if isinstance(weight, Int4):
            scales, zeros = (self._pack_rows(part, groups) for part in (weight.scales.float(), weight.zeros))
            return Tiles(codes, scales, weight.shape, group, tuple(map(float, range(16))), zeros=zeros)
        absmax = self._pack_rows(weight.absmax, groups)
        return Tiles(codes, absmax, weight.shape, group, reference.TABLES[weight.table], nested=weight.nested)

    def _pack_rows(self, rows: Tensor, groups: int) -> Tensor:
        rows = rows.contiguous()
        count = rows.numel() // groups
        out = torch.empty(-(-count // QUAD) * groups * QUAD, dtype=rows.dtype)
        self.library.lh_pack_rows(rows.data_ptr(), count, groups, rows.element_size(), out.data_ptr())
        return out

    def block(self, weights: BlockWeights) -> NativeBlock | None:
        """A decoder block as one call; None where the library has no kernel for a part of it."""
        tensors = [weight for weight, _ in weights.linears if isinstance(weight, Tensor)]
        dtype = weights.norms[0].dtype
        plain = any(not isinstance(weight, Tensor | Tiles) for weight, _ in weights.linears)
        strange = any(tensor.dtype not in DTYPES or tensor.device.type != "cpu" for tensor in tensors)
        if plain or strange or dtype not in DTYPES or weights.head_dim % LANES:
            return None
        forms = [
            weight.zeros is not None and weight.group for weight, _ in weights.linears if isinstance(weight, Tiles)
        ]
        if len(set(forms)) > 1 or (any(forms) and tensors):
            return None  # weights that share inputs share the sums over their groups, which int4 takes
        return NativeBlock(self, weights, dtype, any(tensor.numel() > SMALL for tensor in tensors))

    def _room(self, size: int) -> tuple[int, int]:
        if self._work.numel() < size:
            self._work = torch.empty(0, dtype=torch.uint8)  # the old one goes first
            self._work = torch.empty(size, dtype=torch.uint8)
        return self._work.data_ptr(), self._work.numel()


class NativeBlock:
    """A decoder block [T, hidden] -> [T, hidden] that writes its rows to the cache itself."""

    def __init__(self, ops: NativeOps, weights: BlockWeights, dtype: torch.dtype, large: bool):
        """large: a dense weight is, so that many rows are faster with torch's matrix products."""
        self.ops, self.dtype, self.large = ops, dtype, large
        self.kept: list[object] = [weights]  # what the pointers below lead to
        sizes = (weights.heads, weights.kv_heads, weights.head_dim)
        self.block = LhBlock()
        for name, (weight, bias) in zip(("q", "k", "v", "o", "gate", "up", "down"), weights.linears, strict=True):
            made = dense(weight, bias) if isinstance(weight, Tensor) else tiles(weight, bias)  # type: ignore[arg-type]
            self.kept.append(made)
            setattr(self.block, name, made)
        norms = [norm.float().contiguous() for norm in weights.norms]
        self.kept.append(norms)
        self.block.norm1, self.block.norm2 = (norm.data_ptr() for norm in norms)
        self.block.eps, self.block.hidden = weights.eps, norms[0].numel()
        self.block.intermediate = self.block.gate.n
        self.block.heads, self.block.kv_heads, self.block.head_dim = sizes
        self.block.dtype = DTYPES[dtype]

    def takes(self, x: Tensor, keys: Tensor) -> bool:
        """Whether this call is for the block."""
        small = not self.large or x.shape[0] <= FEW
        return x.dim() == 2 and x.dtype == self.dtype and keys.dtype in DTYPES and small and not x.requires_grad

    def __call__(self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        """x [T, hidden], which is changed and returned; cos, sin [T, head_dim / 2]; keys, values [capacity, kv_heads,
        head_dim], of which rows position..position + T - 1 are written."""
        if keys.shape[0] < position + x.shape[0]:
            raise ValueError(f"cache rows for {keys.shape[0]} positions, {position + x.shape[0]} are needed")
        x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
        ops, rows, threads = self.ops, x.shape[0], torch.get_num_threads()
        with ops.lock:
            self.block.kv_dtype = DTYPES[keys.dtype]
            work = ops._room(ops.library.lh_block_workspace(self.block, rows, position + rows, threads))
            _check(
                ops.library.lh_block(
                    self.block, x.data_ptr(), rows, cos.data_ptr(), sin.data_ptr(), keys.data_ptr(), values.data_ptr(),
                    position, threads, *work,
                )
            )  # fmt: skip
        return x


def _fits(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in DTYPES and not (x.requires_grad and torch.is_grad_enabled())


def _check(status: int) -> None:
    if status:
        raise RuntimeError("the workspace of a kernel was too small; this is a bug")
