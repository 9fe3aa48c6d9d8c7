"""The Qwen2 decoder, written out: ids in, hidden states or logits out, one cache between calls.

A block's forward is two lines. Everything else is a shape or a name from the checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..kernels import dispatch
from ..kernels.dispatch import Ops
from ..kernels.weights import BlockWeights, Quantized
from .cache import KVCache
from .config import ModelConfig
from .rope import RotaryTable


class LayerCache(Protocol):
    """What the decoder asks of a cache. Training passes its own, with a batch dimension."""

    position: int

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]: ...


class Linear(nn.Module):
    """weight [out, in] and an optional bias [out], or a quantized weight once `set_quantized` was called."""

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool, ops: Ops):
        super().__init__()
        self.shape = (out_features, in_features)
        self.ops = ops
        self.weight = nn.Parameter(torch.empty(self.shape), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out_features), requires_grad=False) if bias else None
        self.quantized: Quantized | None = None

    def set_quantized(self, weight: Quantized) -> None:
        """Replace the weight by one in four bits."""
        self.weight, self.quantized = None, self.ops.pack(weight)

    @property
    def parts(self) -> tuple[Tensor | Quantized, Tensor | None]:
        """The weight as it is held, and the bias."""
        weight = self.weight if self.quantized is None else self.quantized
        assert weight is not None
        return weight, self.bias

    def forward(self, x: Tensor) -> Tensor:
        if self.quantized is not None:
            return self.ops.quantized_linear(x, self.quantized, self.bias)
        assert self.weight is not None
        return self.ops.linear(x, self.weight, self.bias)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float, ops: Ops):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.eps, self.ops = eps, ops

    def forward(self, x: Tensor) -> Tensor:
        return self.ops.rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int, ops: Ops):
        super().__init__()
        self.layer, self.head_dim, self.ops = layer, config.head_dim, ops
        hidden, q, kv = config.hidden_size, config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.q_proj = Linear(hidden, q, True, ops)
        self.k_proj = Linear(hidden, kv, True, ops)
        self.v_proj = Linear(hidden, kv, True, ops)
        self.o_proj = Linear(q, hidden, False, ops)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache) -> Tensor:
        """x [..., T, hidden] -> the same shape; writes T rows to the cache."""
        q, k, v = (
            projection(x).unflatten(-1, (-1, self.head_dim))  # [..., T, heads, D]
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = self.ops.rope(q, cos, sin), self.ops.rope(k, cos, sin)
        keys, values = cache.extend(self.layer, k, v)
        return self.o_proj(self.ops.attention(q, keys, values).flatten(-2))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig, ops: Ops):
        super().__init__()
        self.ops = ops
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, False, ops)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, False, ops)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, False, ops)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.ops.swiglu(self.gate_proj(x), self.up_proj(x)))


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int, ops: Ops):
        super().__init__()
        self.self_attn = Attention(config, layer, ops)
        self.mlp = MLP(config, ops)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, ops)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, ops)
        self.config, self.layer = config, layer
        self.whole: dispatch.Block | None = None

    def fuse(self) -> None:
        """Run as one call from now on, where the kernels have one. Once the weights are there."""
        att, mlp = self.self_attn, self.mlp
        linears = (att.q_proj, att.k_proj, att.v_proj, att.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        norms = (self.input_layernorm.weight, self.post_attention_layernorm.weight)
        c = self.config
        weights = BlockWeights(
            tuple(linear.parts for linear in linears), norms, c.rms_norm_eps, c.num_heads, c.num_kv_heads, c.head_dim
        )
        self.whole = att.ops.block(weights)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LayerCache) -> Tensor:
        if self.whole is not None and isinstance(cache, KVCache) and cache.plain:
            keys, values = cache.keys[self.layer], cache.values[self.layer]
            if self.whole.takes(x, keys):
                return self.whole(x, cos, sin, keys, values, cache.position)
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Embedding(nn.Module):
    """weight [vocab, hidden], on the decoder's device or the host's. torch's own class draws random numbers first; on
    the meta device that imports its compiler."""

    def __init__(self, rows: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, size), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids.to(self.weight.device), self.weight).to(ids.device)


class Body(nn.Module):
    """Everything that the checkpoint calls `model.`"""

    def __init__(self, config: ModelConfig, ops: Ops):
        super().__init__()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer, ops) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, ops)


class Decoder(nn.Module):
    """Parameters are created empty (on the current default device) and filled by the checkpoint."""

    def __init__(self, config: ModelConfig, ops: Ops, device: torch.device):
        super().__init__()
        self.config = config
        self.model = Body(config, ops)
        self.lm_head = None if config.tie_word_embeddings else Linear(config.hidden_size, config.vocab_size, False, ops)
        self.rotary = RotaryTable(config, device)
        self.ops = ops

    def hidden(self, ids: Tensor, cache: LayerCache) -> Tensor:
        """Forward ids [..., T] at positions cache.position.. -> normalized hidden states [..., T, hidden].

        Writes T rows to the cache and leaves its position to the caller.
        """
        cos, sin = self.rotary.at(cache.position, cache.position + ids.shape[-1])
        x = self.model.embed_tokens(ids)
        for block in self.model.layers:
            x = block(x, cos, sin, cache)
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., hidden] -> float32 logits [..., vocab]; ask only for the positions that are needed."""
        if self.lm_head is None:
            return self.ops.linear(hidden, self.model.embed_tokens.weight).float()
        return self.lm_head(hidden).float()

    def forward(self, ids: Tensor, cache: LayerCache, positions: Sequence[int] | None = None) -> Tensor:
        """Logits for some of the T positions of ids [T] (default: the last one only), float32 [n, vocab]."""
        hidden = self.hidden(ids, cache)
        return self.logits(hidden[..., -1:, :] if positions is None else hidden[..., list(positions), :])
