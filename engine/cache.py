"""KVCache: keys and values of a prefix of the session's ids, and one integer that says how long it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from .config import ModelConfig
from .errors import LonghandError
from .memory import allocation

STEP = 256  # positions; growing copies, so a long session doubles instead

Cache = TypeVar("Cache", bound="KVCache")


class KVCache:
    """`rows` holds keys and values [capacity, kv_heads, head_dim] of each layer; those up to `position` are valid.

    `extend` writes behind `position` and `advance` makes what was written count, so a forward that is cut off half-way
    leaves the cache as it was. Rewinding is a subtraction.
    """

    plain = True  # rows are keys and values as they come: a kernel may write them itself

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype, max_context: int):
        self.position = 0
        self.capacity = 0
        self.max_context = max_context
        self.device = device
        self.rows: dict[str, list[Tensor]] = {}  # all that grows with the ids, and all that a saved session holds
        for name in ("keys", "values"):
            self._add_rows(name, config, config.head_dim, dtype)

    def _add_rows(self, name: str, config: ModelConfig, width: int, dtype: torch.dtype) -> None:
        shape = (0, config.num_kv_heads, width)
        self.rows[name] = [torch.empty(shape, device=self.device, dtype=dtype) for _ in range(config.num_layers)]

    @property
    def keys(self) -> list[Tensor]:
        """Per layer, as stored."""
        return self.rows["keys"]

    @property
    def values(self) -> list[Tensor]:
        """Per layer, as stored."""
        return self.rows["values"]

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one position, all layers together."""
        every = (rows for layers in self.rows.values() for rows in layers)
        return sum(rows.shape[1] * rows.shape[2] * rows.element_size() for rows in every)

    def reserve(self, positions: int) -> None:
        """Make room for `positions` in all, growing layer by layer; raises before anything is lost."""
        if positions > self.max_context:
            raise LonghandError(f"context full: {positions} ids do not fit in max_context {self.max_context}")
        if positions <= self.capacity:
            return
        spare = max(positions, min(2 * self.capacity, self.capacity + 16 * STEP))
        try:
            self._grow(self._rounded(spare))
        except LonghandError:
            if self._rounded(spare) == self._rounded(positions):
                raise
            self._grow(self._rounded(positions))  # the last ids that fit need no room beside them

    def _rounded(self, positions: int) -> int:
        return min(-(-positions // STEP) * STEP, self.max_context)

    def _grow(self, capacity: int) -> None:
        held = self.capacity * self.bytes_per_token
        more = capacity * self.bytes_per_token - held  # and, for a moment, the old rows of one layer
        with allocation("KV cache", more, self.device, self.bytes_per_token, held):
            for layers in self.rows.values():
                for layer, old in enumerate(layers):
                    if old.shape[0] >= capacity:  # an earlier attempt got this far
                        continue
                    new = old.new_empty((capacity, *old.shape[1:]))
                    new[: self.position] = old[: self.position]
                    layers[layer] = new
        self.capacity = capacity

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys, values [T, kv_heads, head_dim] behind `position`; returns all S = position + T rows."""
        end = self.position + keys.shape[0]
        self.write(layer, {"keys": keys, "values": values})
        return self.keys[layer][:end], self.values[layer][:end]

    def write(self, layer: int, rows: Mapping[str, Tensor]) -> None:
        """Write rows [T, ...] of each name, as they are stored, behind `position`."""
        for name, new in rows.items():
            self.rows[name][layer][self.position : self.position + new.shape[0]] = new

    def advance(self, positions: int) -> None:
        """Count rows that every layer has written."""
        self.position += positions

    def rewind(self, position: int) -> None:
        """Keep the first `position` rows."""
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot rewind a cache of {self.position} positions to {position}")
        self.position = position

    def fork(self: Cache) -> Cache:
        """A copy that shares no rows with this cache and holds no spare ones."""
        twin = copy.copy(self)
        twin.capacity = self.position
        with allocation("KV cache", self.position * self.bytes_per_token, self.device, self.bytes_per_token):
            twin.rows = {name: [layer[: self.position].clone() for layer in kind] for name, kind in self.rows.items()}
        return twin
