"""Longhand: a token-level inference engine for QwQ-32B (Qwen2) on one GPU, and the search agent that runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent.agent import Agent
    from .agent.budget import Budget
    from .engine.engine import Engine
    from .engine.errors import LonghandError
    from .engine.sampler import SamplingParams

__version__ = "0.1.0"
__all__ = ["DEMO", "Agent", "Budget", "Engine", "LonghandError", "SamplingParams"]

DEMO = Path(__file__).parent / "agent" / "demo" / "checkpoint"  # the built-in checkpoint

_HOMES = {
    "Agent": "agent.agent",
    "Budget": "agent.budget",
    "Engine": "engine.engine",
    "LonghandError": "engine.errors",
    "SamplingParams": "engine.sampler",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `from longhand import Engine` needs only torch, numpy, safetensors and tokenizers.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
