"""The reference operations on a CUDA GPU, by Triton. Importing this needs triton."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from . import reference, triton_attention, triton_linear, triton_rows
from .triton_block import TritonBlock
from .triton_fused import Normed
from .triton_graph import GraphRecorder
from .triton_linear import DTYPES, fits
from .triton_weights import PANEL, Panels, dequantize, to_panels
from .weights import BlockWeights, FourBit, Int4, Quantized

ONE_PASS = 16  # rows up to which the codes are multiplied as they are; above, they are dequantized for a matrix product
CHUNK_BYTES = 32 << 20  # of dequantized weights at a time: they stay in the L2 of a large card


class TritonOps:
    """`reference`'s operations. `plain` does what there is no kernel for.

    `multiprocessors` decides how work is split, `run` how weights are packed (see `Panels`): by default as the current
    device wants it. fused: blocks as few launches, whose programs meet in memory; without it each operation is launched
    by itself.
    """

    def __init__(
        self, plain: ModuleType, multiprocessors: int | None = None, run: int | None = None, fused: bool = True
    ):
        self.plain, self.fused = plain, fused
        self.begun: tuple[Tensor, Tensor, Normed] | None = None  # from one block to the next, see TritonBlock
        self._newest: TritonBlock | None = None
        self._recorder: GraphRecorder | None = None
        if multiprocessors is None or run is None:
            device = torch.cuda.get_device_properties(torch.cuda.current_device())
            multiprocessors = multiprocessors or device.multi_processor_count
            run = run or (2 if device.major == 9 else 4)
        self.multiprocessors, self.run = multiprocessors, run

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `reference.linear`."""
        return reference.linear(x, weight, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """As `reference.rms_norm`, rounded once."""
        if not fits(x):
            return reference.rms_norm(x, weight, eps)
        x = x.contiguous()
        out = torch.empty_like(x)
        triton_rows.rms_norm(x, weight.contiguous(), eps, out)
        return out

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """As `reference.rope`."""
        if not fits(x) or x.dim() != 3:
            return reference.rope(x, cos, sin)
        x = x.contiguous()
        out = torch.empty_like(x)
        triton_rows.rope(x, cos.contiguous(), sin.contiguous(), out)
        return out

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """As `reference.attention`; weights are rounded to q's dtype."""
        width = q.shape[-1]
        known = fits(q) and q.dim() == 3 and k.dtype in DTYPES and width >= 16 and width & (width - 1) == 0
        if not known or not 1 <= q.shape[0] <= k.shape[0]:
            return reference.attention(q, k, v)
        return triton_attention.attention(q.contiguous(), k.contiguous(), v.contiguous(), self.multiprocessors)

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """As `reference.swiglu`, rounded once."""
        if not fits(gate):
            return reference.swiglu(gate, up)
        gate, up = gate.contiguous(), up.contiguous()
        out = torch.empty_like(gate)
        triton_rows.swiglu(gate, up, out)
        return out

    def quantized_linear(self, x: Tensor, weight: Quantized | Panels, bias: Tensor | None = None) -> Tensor:
        """As `reference.quantized_linear`. Up to 16 rows the codes' values are rounded to x's dtype instead of their
        products with the absmax, and a row comes out the same whatever rows are beside it."""
        if not isinstance(weight, Panels):
            return self.plain.quantized_linear(x, weight, bias)  # type: ignore[no-any-return]
        if not fits(x):
            return functional.linear(x, self.dequantize(weight, x.dtype), bias)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        if 0 < rows.shape[0] <= ONE_PASS:
            out = triton_linear.multiply(rows, weight, bias, self.multiprocessors)
        else:
            out = self._in_chunks(rows, weight, bias)
        return out.view(*x.shape[:-1], weight.shape[0])

    def _in_chunks(self, x: Tensor, weight: Panels, bias: Tensor | None) -> Tensor:
        n, k = weight.shape
        out = torch.empty(x.shape[0], n, dtype=x.dtype, device=x.device)
        chunk = max(PANEL, CHUNK_BYTES // (k * x.element_size()) // PANEL * PANEL)
        values = torch.empty(min(chunk, n), k, dtype=x.dtype, device=x.device)
        for first in range(0, n, chunk):
            last = min(n, first + chunk)
            triton_linear.dequantize_rows(weight, first, last, values[: last - first])
            torch.mm(x, values[: last - first].t(), out=out[:, first:last])
        return out if bias is None else out.add_(bias)

    def quantize_nf4(self, weight: Tensor, nested: bool = False) -> FourBit:
        """As `reference.quantize_nf4`."""
        return self.plain.quantize_nf4(weight, nested)  # type: ignore[no-any-return]

    def dequantize(self, weight: Quantized | Panels, dtype: torch.dtype) -> Tensor:
        """As `reference.dequantize`, bit for bit."""
        if not isinstance(weight, Panels):
            return self.plain.dequantize(weight, dtype)  # type: ignore[no-any-return]
        if not fits(weight.codes, dtype):
            return dequantize(weight, dtype)
        out = torch.empty(weight.shape, dtype=dtype, device=weight.codes.device)
        triton_linear.dequantize_rows(weight, 0, weight.shape[0], out)
        return out

    def pack(self, weight: Quantized | Panels) -> Quantized | Panels:
        """The weight in panels; as it is where its groups do not fit them."""
        if not isinstance(weight, FourBit | Int4) or not fits(weight.packed, torch.float32):
            return weight
        return to_panels(weight, self.run) or weight

    def block(self, weights: BlockWeights) -> TritonBlock | None:
        """A decoder block as few launches; None where there is no kernel for a part of it. Blocks are asked for in the
        order in which they will run: each is told the norm that follows it."""
        block = TritonBlock.of(self, weights) if self.fused and fits(weights.norms[0]) else None
        if self._newest is not None and block is not None:
            self._newest.following = block.norms[0]
        self._newest = block
        return block

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """See `dispatch.Recorder`."""
        if self._recorder is None:
            self._recorder = GraphRecorder(torch.device("cuda", torch.cuda.current_device()))
        return self._recorder.record(function)
