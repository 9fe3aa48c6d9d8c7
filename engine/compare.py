"""How far two rows of logits are apart."""

from __future__ import annotations

import torch
from torch import Tensor


def divergence(want: Tensor, got: Tensor) -> tuple[float, bool]:
    """KL(want || got) in nats of two rows of logits [vocab], and whether the likeliest id is the same."""
    p, q = torch.log_softmax(want.double(), -1), torch.log_softmax(got.double(), -1)
    return max(float((p.exp() * (p - q)).sum()), 0.0), int(want.argmax()) == int(got.argmax())
