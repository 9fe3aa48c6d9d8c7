"""The model that is trained: fresh or from a checkpoint, with its optimizers, and written as a checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim import Optimizer

from ...engine.checkpoint import Checkpoint
from ...engine.config import ModelConfig
from ...engine.decoder import Decoder
from ...engine.tokenizer import Tokenizer
from .recipe import Recipe
from .training_ops import TrainingOps

GENERATION = "generation_config.json"


def new_model(config: dict[str, Any], seed: int) -> Decoder:
    """A decoder with fresh parameters in float32: small normal weights, residual outputs smaller with depth."""
    torch.manual_seed(seed)
    model = Decoder(ModelConfig.from_dict(config), TrainingOps(), torch.device("cpu"))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(True)
        if parameter.dim() == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * model.config.num_layers) if residual else 1.0))
    return model


def fill(model: Decoder, start: Path) -> None:
    """The parameters of a checkpoint. LonghandError where its tensors are not what its config.json says."""
    checkpoint = Checkpoint(start)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in checkpoint.check(model):
            parameters[name].copy_(checkpoint.read(name))


def make_optimizers(model: Decoder, recipe: Recipe) -> list[Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embedding, head, norms and biases."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = parameter.dim() == 2 and name.startswith("model.layers.")
        (matrices if inside else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def save_checkpoint(model: Decoder, config: dict[str, Any], tokenizer: Tokenizer, out: Path) -> None:
    """A standard checkpoint beside tokenizer.json: model.safetensors (bf16), config.json and, unless a start has
    brought its own, generation_config.json."""
    weights = {name: p.detach().to("cpu", torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    partial = out / ".model.safetensors.partial"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if not (out / GENERATION).exists():
        control = tokenizer.control
        generation = {"bos_token_id": control.endoftext, "eos_token_id": [control.im_end, control.endoftext],
                      "do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 40}  # fmt: skip
        (out / GENERATION).write_text(json.dumps(generation, indent=2) + "\n")


def copy_generation(start: Path, out: Path) -> None:
    """How a checkpoint wants to be sampled stays what it was."""
    if (start / GENERATION).exists():
        shutil.copyfile(start / GENERATION, out / GENERATION)
