"""Int8KVCache: the same cache in 8 bits, about half the bytes of bfloat16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..kernels.kv_int8 import dequantize_int8, quantize_int8
from ..kernels.reference import rope
from .cache import KVCache
from .config import ModelConfig
from .rope import RotaryTable

GROUP = 32  # channels that share a scale
BLOCK = 1024  # positions dequantized at once: bounds the float32 in between


class Int8KVCache(KVCache):
    """Keys without k_proj's bias, and values, as int8 codes with a bfloat16 scale to 32 channels of each id and head.

    In some layers Qwen2's bias dwarfs what the ids add to it (Qwen2.5-7B: norms of 605 and 921, 22 elsewhere; llama.cpp
    issue 21385), but it is known and only RoPE moves it: it is subtracted before rounding and added after. A scale per
    channel would have to span it, and scales fitted to several ids would depend on how those were split. Measured by
    benchmarks/kv_accuracy.py on such outliers: KL 5e-4, against 2e-2 per channel and 4e-1 with the bias left in.
    """

    plain = False

    def __init__(
        self, config: ModelConfig, device: torch.device, max_context: int, key_biases: Sequence[Tensor],
        rotary: RotaryTable, group: int = GROUP,
    ):  # fmt: skip
        """key_biases: per layer, the bias [kv_heads * head_dim] of k_proj."""
        super().__init__(config, device, torch.int8, max_context)
        self.group = group if config.head_dim % group == 0 else config.head_dim
        for name in ("key_scales", "value_scales"):
            self._add_rows(name, config, config.head_dim // self.group, torch.bfloat16)
        self.biases = [bias.float().view(1, config.num_kv_heads, config.head_dim) for bias in key_biases]
        self.rotary = rotary

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys, values [T, kv_heads, head_dim] behind `position`; returns all S = position + T rows, dequantized
        to the dtype given. The new rows too, so that attention sees the same rows however the ids were split."""
        end = self.position + keys.shape[0]
        bare = keys.float() - self._bias(layer, self.position, end)
        key_codes, key_scales = quantize_int8(bare, self.group)
        value_codes, value_scales = quantize_int8(values, self.group)
        self.write(
            layer,
            {"keys": key_codes, "key_scales": key_scales, "values": value_codes, "value_scales": value_scales},
        )
        all_keys, all_values = keys.new_empty((end, *keys.shape[1:])), values.new_empty((end, *values.shape[1:]))
        for start in range(0, end, BLOCK):
            stop = min(start + BLOCK, end)
            bare = self._dequantized("keys", "key_scales", layer, start, stop)
            all_keys[start:stop] = bare.add_(self._bias(layer, start, stop))
            all_values[start:stop] = self._dequantized("values", "value_scales", layer, start, stop)
        return all_keys, all_values

    def _dequantized(self, codes: str, scales: str, layer: int, start: int, stop: int) -> Tensor:
        return dequantize_int8(self.rows[codes][layer][start:stop], self.rows[scales][layer][start:stop])

    def _bias(self, layer: int, start: int, stop: int) -> Tensor:
        """What k_proj's bias adds to the keys of positions start..stop-1: float32 [stop - start, kv_heads, D]."""
        return rope(self.biases[layer], *self.rotary.at(start, stop))
