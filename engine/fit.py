"""Fit: whether a model's session fits in a memory, the largest context that does, and what each switch would buy.

Answered from config.json alone, or with the safetensors headers beside it, before a weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import LonghandError
from .footprint import MIB, Footprint
from .memory import free_bytes, gib
from .options import KV_TYPES, Setup, choose_device, choose_setup, context_limit, has_bitsandbytes
from .session import PREFILL_CHUNK

if TYPE_CHECKING:
    from .session import Session

# On a GPU, beside what torch hands out. Not measured: no GPU was at hand.
CUDA_CONTEXT = 512 * MIB  # kernels and context of the process: part of a card's size, no longer of its free memory
ROUNDING = MIB  # per linear: torch's allocator rounds large blocks up to 2 MiB


@dataclass(frozen=True)
class Fit:
    """A model on a device. Sizes are bytes, contexts are ids."""

    footprint: Footprint
    setup: Setup
    memory: int  # what the device offers
    context: int  # ids of the session that is to fit
    given: bool = False  # memory is a size of a device, not what one has free

    @property
    def limit(self) -> int:
        """The longest context that the model itself allows."""
        return context_limit(self.footprint.config, None)

    def needed(self, context: int | None = None) -> int:
        """What a session of so many ids takes at its peak, loading included."""
        return max(self.running(context), self.loading())

    def running(self, context: int | None = None) -> int:
        """At its peak, once it is loaded."""
        ids = self.context if context is None else context
        return self.footprint.running(self.setup, min(PREFILL_CHUNK, ids), ids, ids) + self._outside

    def loading(self) -> int:
        """At the peak of loading."""
        return self.footprint.loading(self.setup) + self._outside

    @property
    def _outside(self) -> int:
        # What a GPU loses to what is no tensor.
        return self._rounding + (CUDA_CONTEXT if self.setup.device == "cuda" and self.given else 0)

    @property
    def _rounding(self) -> int:
        linears = len(self.footprint.linears) * self.footprint.config.num_layers
        return ROUNDING * linears if self.setup.device == "cuda" else 0

    @property
    def fits(self) -> bool:
        return self.needed() <= self.memory

    @property
    def impossible(self) -> bool:
        """Whether it would not even fit if the allocator lost nothing."""
        return self.needed() - self._rounding > self.memory

    def max_context(self, kv_dtype: str | None = None) -> int:
        """The most ids whose session fits, with this KV type; 0 if none does."""
        fit = self if kv_dtype is None else self._with(kv_dtype=kv_dtype)
        low, high = 0, self.limit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fit.needed(middle) <= self.memory else (low, middle - 1)
        return low

    def default_context(self) -> int:
        """The context to load with where none is asked for: the most ids that fit, or, where too few do with what the
        allocator may lose, the most that fit if it loses nothing."""
        return (self if self.fits else replace(self, memory=self.memory + self._rounding)).max_context()

    def refusal(self, name: str) -> str:
        """Why it does not fit, in one line."""
        return (
            f"{name} does not fit on {self.setup.device}: {self.context:,} ids of context need {gib(self.needed())}, "
            f"and {gib(self.memory)} is free"
        )

    def _with(self, **changes: Any) -> Fit:
        return replace(self, setup=replace(self.setup, **changes))

    def switches(self) -> list[dict[str, Any]]:
        """What each switch that is not on yet would save at this context (loading and workspace included, so it may
        cost), and the largest context then. `option` is empty where the command line has none."""
        setup, config = self.setup, self.footprint.config
        untied, ours = not config.tie_word_embeddings, config.quantization is None
        table: tuple[tuple[str, str, dict[str, Any], bool], ...] = (
            ("NF4 linears", "--quantization nf4", {"quantize": True, "bitsandbytes": has_bitsandbytes()}, ours),
            ("double quantization", "--double-quant", {"double_quant": True}, setup.quantize),
            ("4-bit head", "--head nf4", {"head": "nf4"}, setup.quantize and untied),
            ("embedding on the host", "--embedding host", {"host_embedding": True}, setup.device == "cuda" and untied),
            ("8-bit KV", "--kv-dtype int8", {"kv_dtype": "int8"}, True),
        )
        rows = [(name, option, change) for name, option, change, possible in table
                if possible and replace(setup, **change) != setup]  # fmt: skip
        if len(rows) > 1:
            rows.append(("all of these", "", {key: value for _, _, change in rows for key, value in change.items()}))
        return [
            {"name": name, "option": option, "saved_bytes": self.needed() - self._with(**change).needed(),
             "max_context": self._with(**change).max_context()}
            for name, option, change in rows
        ]  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """What `longhand fit --json` prints."""
        of, setup = self.footprint, self.setup
        parts = of.weights(setup)
        workspace = of.workspace(setup, min(PREFILL_CHUNK, self.context), self.context)
        shown = sum(parts.values()) + of.kv_bytes_per_token(setup.kv_dtype) * self.context
        shown += max(workspace.values()) + of.beside(setup)
        yarn = of.config.yarn
        return {
            "weights_bytes": sum(parts.values()),
            "kv_bytes_per_token": of.kv_bytes_per_token(setup.kv_dtype),
            "workspace_bytes": max(workspace.values()),
            "memory_bytes": self.memory,
            "max_context": {kind: self.max_context(kind) for kind in KV_TYPES},
            "fits": self.fits,
            "needed_bytes": self.needed(),
            "running_bytes": self.running(),
            "loading_bytes": self.loading(),
            "beside_bytes": of.beside(setup),
            "reserve_bytes": self.running() - shown,
            "context": self.context,
            "model_context": self.limit,
            "yarn": None if yarn is None else yarn.factor,
            "parts": parts,
            "workspace": workspace,
            "kv_bytes_per_token_by_type": {kind: of.kv_bytes_per_token(kind) for kind in KV_TYPES},
            "setup": vars(setup),
            "switches": self.switches(),
        }

    def predicted(self, session: Session) -> int:
        """The peak of what a session has run so far. On a CPU without loading, as `Peak` measures it there."""
        capacity = session._cache.capacity
        peaks = [self.footprint.loading(self.setup) if self.setup.device == "cuda" else 0]
        for turn in session.turns:
            decoded = max(turn.sampled - 1, 0)  # the prefill gives the first id's logits
            end = turn.reused + turn.computed - decoded
            chunks = [(start, min(start + PREFILL_CHUNK, end)) for start in range(turn.reused, end, PREFILL_CHUNK)]
            if decoded:
                chunks.append((end + decoded - 1, end + decoded))
            peaks += [self.footprint.running(self.setup, stop - start, stop, capacity) for start, stop in chunks]
        return max(peaks)


def fit_model(
    config_file: Path, device: str | None = None, quantization: str | None = "auto", kv_dtype: str | None = None,
    double_quant: bool = False, head: str = "bf16", embedding: str = "device", memory: int | None = None,
    context: int | None = None, yarn: float | None = None, kernels: str = "auto",
) -> Fit | None:  # fmt: skip
    """How a model with these options (those of `Engine.from_pretrained`) fits in `memory` (default: what the device has
    free) with a session of `context` ids (default: one prefill chunk, the least that is of use). `kernels`: those that
    are asked for (see `choose_ops`).

    None if the free memory cannot be told. A GPU that is not there may be named where memory is given. Raises
    LonghandError for options that do not exist and for a config.json that is not supported.
    """
    on = (
        torch.device("cuda") if memory is not None and (device or "").split(":")[0] == "cuda" else choose_device(device)
    )
    footprint = Footprint.from_file(config_file, yarn)
    setup = choose_setup(footprint.config, on, quantization, None, kv_dtype, double_quant, head, embedding,
                         kernels=kernels)  # fmt: skip
    return _fit(footprint, setup, on, memory, context)


def context_that_fits(folder: Path, setup: Setup, on: torch.device, yarn: float | None = None) -> int:
    """The most ids of context that this checkpoint has room for in what the device has free, at most what the model
    allows. Raises LonghandError where not even a short session fits."""
    footprint = Footprint.from_file(folder / "config.json", yarn)
    fit = _fit(footprint, setup, on, None, None)
    if fit is None:
        return context_limit(footprint.config, None)
    if fit.impossible:
        raise LonghandError(fit.refusal(str(folder)))
    return fit.default_context()


def _fit(footprint: Footprint, setup: Setup, on: torch.device, memory: int | None, context: int | None) -> Fit | None:
    limit = context_limit(footprint.config, context)
    offered = free_bytes(on) if memory is None else memory
    if offered is None:
        return None
    return Fit(footprint, setup, offered, min(PREFILL_CHUNK, limit) if context is None else context, memory is not None)
