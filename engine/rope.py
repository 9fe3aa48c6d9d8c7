"""RoPE's frequencies, with YaRN's interpolation, and the tables for a range of positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .config import ModelConfig


class RotaryTable:
    """Gives cos and sin for any positions; everything is computed in float32."""

    def __init__(self, config: ModelConfig, device: torch.device):
        self.inverse_frequencies, self.scale = inverse_frequencies(config)
        self.inverse_frequencies = self.inverse_frequencies.to(device)

    def at(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """cos and sin for positions start..end-1, each [end - start, head_dim / 2]."""
        positions = torch.arange(start, end, device=self.inverse_frequencies.device, dtype=torch.float32)
        angles = positions[:, None] * self.inverse_frequencies
        return angles.cos() * self.scale, angles.sin() * self.scale


def inverse_frequencies(config: ModelConfig) -> tuple[Tensor, float]:
    """Radians per position for each of head_dim / 2 pairs, and the factor on cos and sin (1 without YaRN).

    YaRN (arXiv 2309.00071, section 3.2): pairs that turn often within the original context keep their frequency,
    pairs that turn less than once are slowed by `factor`, and a linear ramp joins the two.
    """
    dim = config.head_dim
    plain = 1.0 / config.rope_theta ** (torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") / dim)
    yarn = config.yarn
    if yarn is None:
        return plain, 1.0

    def pair_with_turns(turns: float) -> float:
        # The (fractional) pair that makes this many turns over the original context.
        wavelength = yarn.original_max_position_embeddings / (turns * 2 * math.pi)
        return dim * math.log(wavelength) / (2 * math.log(config.rope_theta))

    low, high = pair_with_turns(yarn.beta_fast), pair_with_turns(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = max(high - low, 0.001)
    slowed = ((torch.arange(dim // 2, dtype=torch.float32, device="cpu") - low) / width).clamp(0, 1)
    scale = yarn.attention_factor
    if scale is None:
        scale = 0.1 * math.log(yarn.factor) + 1.0
    return plain * (1 - slowed) + plain / yarn.factor * slowed, scale
