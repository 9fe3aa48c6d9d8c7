"""Recipe: everything that decides what a training gives, besides the code and how a machine rounds."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...engine.errors import LonghandError
from .samples import SHARES

WARM_UP = 100  # steps in which the learning rates rise
COPYING = 18  # a new model spends one step in so many on copying, at most `copy_steps`
DTYPES = ("bfloat16", "float32")


@dataclass(frozen=True)
class Recipe:
    """What `longhand train` can be told has the option's name. How many processes share a step is no part of it."""

    seed: int = 20261122
    steps: int = 4500
    batches: int = 2  # a step: each with random numbers of its own, so that any number of processes may share them
    tokens: int = 6144  # ids of a batch, padding included
    dtype: str = "bfloat16"  # of products under autocast; parameters and optimizers are float32
    mix: float = 0.0  # share of batches that come from data files
    vocab_size: int = 2560  # with a start: the sizes of its checkpoint
    hidden_size: int = 256
    intermediate_size: int = 384
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 2
    leave_out: str = ""  # behaviours that generated runs do not show, with commas between them
    copy_steps: int = 250  # copying random prose first: it makes copying heads appear early
    whole_prompt_from: float = 0.5  # the part of the steps from which every sample has the whole template before it
    part_prompt_before: float = 0.4  # how often one has a part of it until then
    decay_from: float = 0.3  # the part of the steps from which the learning rates fall linearly to zero
    rate: float = 1.0  # factor on both learning rates
    muon_lr: float = 0.02
    adam_lr: float = 0.004

    def __post_init__(self) -> None:
        for name in ("steps", "batches", "tokens"):
            if getattr(self, name) < 1:
                raise LonghandError(f"--{name} must be 1 or more, not {getattr(self, name)}")
        for name, least, most in (("mix", 0, 1), ("whole_prompt_from", 0, 1), ("decay_from", 0, 0.999)):
            if not least <= getattr(self, name) <= most:
                option = name.replace("_", "-")
                raise LonghandError(f"--{option} must be from {least} to {most}, not {getattr(self, name):g}")
        if not 0 < self.rate < math.inf:
            raise LonghandError(f"--rate must be a positive number, not {self.rate:g}")
        if self.copy_steps < 0:
            raise LonghandError(f"--copy-steps must be 0 or more, not {self.copy_steps}")
        for name in self.left_out:
            if name not in SHARES:
                raise LonghandError(f"--leave-out {name!r} is not one of {', '.join(SHARES)}")
        if len(self.left_out) == len(SHARES):
            raise LonghandError("--leave-out leaves no behaviour to train on")
        if self.dtype not in DTYPES:
            raise LonghandError(f"--dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")

    def config(self) -> dict[str, object]:
        """config.json of a new model, in the layout of QwQ-32B's."""
        return {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers, "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads, "hidden_act": "silu", "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
            "use_sliding_window": False,
        }  # fmt: skip

    @property
    def left_out(self) -> frozenset[str]:
        return frozenset(name.strip() for name in self.leave_out.split(",") if name.strip())

    def rate_at(self, step: int) -> float:
        """The factor on the learning rates at a step: up, level, down to a hundredth."""
        left = (1 - step / self.steps) / (1 - self.decay_from)
        return self.rate * min(1.0, (step + 1) / WARM_UP, max(0.01, left))

    def prompt_share(self, step: int) -> float:
        """How much of the template stands before the samples of a step."""
        if step / self.steps >= self.whole_prompt_from:
            return 1.0
        rng = random.Random(f"{self.seed}/prompt/{step}")
        return rng.random() if rng.random() < self.part_prompt_before else 0.0

    def kind(self, step: int) -> str:
        """Where the batches of a step come from: "copies", "runs" (generated) or "rows" (of the data files). Steps with
        rows are spread evenly, so that their share is `mix` at any time."""
        if step < self.copy_steps:
            return "copies"
        number = step - self.copy_steps
        return "rows" if int((number + 1) * self.mix) > int(number * self.mix) else "runs"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> Recipe:
        """The recipe that a state was written with; LonghandError for one of another version of Longhand."""
        names = {field.name for field in fields(Recipe)}
        for name in sorted(names ^ set(raw)):
            has = "lacks" if name in names else "has"
            raise LonghandError(f"another version of Longhand wrote it: its recipe {has} {name}")
        return Recipe(**raw)
