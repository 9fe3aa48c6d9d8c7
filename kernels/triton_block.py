"""A decoder block of one to sixteen rows in five launches: QKV, attention, output, gate and up, down."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from . import triton_fused
from .triton_attention import attention
from .triton_fused import ROWS, Normed
from .triton_linear import fits
from .triton_weights import PANEL, Panels, join
from .weights import BlockWeights

if TYPE_CHECKING:
    from .triton_ops import TritonOps

DTYPES = (torch.float32, torch.bfloat16)  # in float16 x times a norm's weight may be more than it holds
WIDTHS = (16, 32, 64, 128)  # of a head: one that a tile of the QKV product holds whole


class TritonBlock:
    """[T, hidden] -> [T, hidden], which writes its rows to the cache itself.

    The last product also begins the next block's first norm, of weight `following`. It is left with the ops, and the
    next block takes it up if it is asked for the very tensor that this one returned; else it begins anew.
    """

    following: Tensor | None = None

    def __init__(self, ops: TritonOps, weights: BlockWeights, qkv: Panels, o: Panels, gate_up: Panels, down: Panels):
        """qkv and gate_up: the joined weights. Prefer `of`."""
        self.ops, self.qkv, self.o, self.gate_up, self.down = ops, qkv, o, gate_up, down
        self.norms, self.eps = tuple(norm.contiguous() for norm in weights.norms), weights.eps
        self.bias = torch.cat([bias for _, bias in weights.linears[:3] if bias is not None])
        blocks = weights.kv_heads * -(-ROWS * (weights.heads // weights.kv_heads) // 64)  # of attention, 64 rows each
        tiles = max(weight.shape[0] // PANEL + 1 for weight in (qkv, o, gate_up, down))
        self.arrivals = torch.zeros(max(blocks, tiles), dtype=torch.int32, device=qkv.codes.device)

    @staticmethod
    def of(ops: TritonOps, weights: BlockWeights) -> TritonBlock | None:
        """None where there is no kernel for a part of it."""
        linears = cast(tuple[tuple[object, Tensor | None], ...], weights.linears)  # as TritonOps.pack returns them
        packed = [weight for weight, _ in linears if isinstance(weight, Panels)]
        biased = [bias is not None for _, bias in weights.linears] == [True] * 3 + [False] * 4
        if len(packed) < 7 or not biased or weights.norms[0].dtype not in DTYPES or weights.head_dim not in WIDTHS:
            return None
        q, k, v, o, gate, up, down = packed
        whole = q.shape[0] == weights.heads * weights.head_dim and gate.shape == up.shape
        if not whole or gate.shape[0] % PANEL:
            return None
        qkv, gate_up = join((q, k, v)), join((gate, up))
        if qkv is None or gate_up is None:
            return None
        return TritonBlock(ops, weights, qkv, o, gate_up, down)

    def takes(self, x: Tensor, keys: Tensor) -> bool:
        """Whether this call is for the block."""
        few = x.dim() == 2 and 0 < x.shape[0] <= ROWS
        return few and x.dtype == self.norms[0].dtype and fits(x) and fits(keys)

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, position: int | Tensor
    ) -> Tensor:
        """x [T, hidden], which is changed and returned; cos, sin float32 [T, D/2]; keys, values [capacity, KV, D], of
        which rows position..position + T - 1 are written. position: a number, or an int32 tensor [] on the device that
        the caller has checked; both give the same bits."""
        x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
        of, arrivals = self.ops.multiprocessors, self.arrivals
        normed = self._begun(x) or triton_fused.weigh(x, self.norms[0])
        q = triton_fused.qkv(normed, self.eps, self.qkv, self.bias, cos, sin, keys, values, position, arrivals, of)
        if isinstance(position, Tensor):
            mixed = attention(q, keys, values, of, position, arrivals=arrivals)
        else:
            end = position + x.shape[0]
            mixed = attention(q, keys[:end], values[:end], of, arrivals=arrivals)
        middle = self._add(mixed.flatten(1), self.o, x, self.norms[1])
        assert middle is not None
        hidden = triton_fused.gated(middle, self.eps, self.gate_up, arrivals, of)
        then = self._add(hidden, self.down, x, self.following)
        self.ops.begun = None if then is None or self.following is None else (x, self.following, then)
        return x

    def _add(self, x: Tensor, weight: Panels, stream: Tensor, norm: Tensor | None) -> Normed | None:
        return triton_fused.add(x, weight, stream, norm, self.arrivals, self.ops.multiprocessors)

    def _begun(self, x: Tensor) -> Normed | None:
        begun, self.ops.begun = self.ops.begun, None
        return begun[2] if begun is not None and begun[0] is x and begun[1] is self.norms[0] else None
