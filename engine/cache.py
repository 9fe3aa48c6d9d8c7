"""KVCache: keys and values of a prefix of the session's ids, and one integer that says how long it is."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import ModelConfig
from .errors import LonghandError
from .memory import allocation

STEP = 256  # positions; growing copies, so a long session doubles instead


class KVCache:
    """Per layer, keys and values [capacity, kv_heads, head_dim]; rows up to `position` are valid.

    `extend` writes behind `position` and `advance` makes what was written count, so a forward that is cut off half-way
    leaves the cache as it was. Rewinding is a subtraction.
    """

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype, max_context: int):
        self.position = 0
        self.capacity = 0
        self.max_context = max_context
        shape = (0, config.num_kv_heads, config.head_dim)
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one position, all layers together."""
        keys = self.keys[0]
        return 2 * len(self.keys) * keys.shape[1] * keys.shape[2] * keys.element_size()

    def reserve(self, positions: int) -> None:
        """Make room for `positions` in all, growing layer by layer; raises before anything is lost."""
        if positions > self.max_context:
            raise LonghandError(f"context full: {positions} ids do not fit in max_context {self.max_context}")
        if positions <= self.capacity:
            return
        wanted = max(positions, min(2 * self.capacity, self.capacity + 16 * STEP))
        wanted = min(-(-wanted // STEP) * STEP, self.max_context)
        with allocation("KV cache", wanted * self.bytes_per_token, self.keys[0].device, self.bytes_per_token):
            for kind in (self.keys, self.values):
                for layer, old in enumerate(kind):
                    if old.shape[0] >= wanted:  # an earlier attempt got this far
                        continue
                    new = old.new_empty((wanted, *old.shape[1:]))
                    new[: self.position] = old[: self.position]
                    kind[layer] = new
        self.capacity = wanted

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys, values [T, kv_heads, head_dim] behind `position`; returns all S = position + T rows."""
        end = self.position + keys.shape[0]
        self.keys[layer][self.position : end] = keys
        self.values[layer][self.position : end] = values
        return self.keys[layer][:end], self.values[layer][:end]

    def advance(self, positions: int) -> None:
        """Count rows that every layer has written."""
        self.position += positions

    def rewind(self, position: int) -> None:
        """Keep the first `position` rows."""
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot rewind a cache of {self.position} positions to {position}")
        self.position = position

    def fork(self) -> KVCache:
        """A copy that shares nothing with this cache and holds no spare rows."""
        twin = object.__new__(KVCache)
        twin.position = twin.capacity = self.position
        twin.max_context = self.max_context
        with allocation("KV cache", self.position * self.bytes_per_token, self.keys[0].device, self.bytes_per_token):
            twin.keys = [rows[: self.position].clone() for rows in self.keys]
            twin.values = [rows[: self.position].clone() for rows in self.values]
        return twin
