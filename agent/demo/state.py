"""State of a training on disk, from which it goes on as if it had never stopped: one safetensors file.

Format 1. Tensors, float32: `model.NAME`, `N.I.KEY` (KEY of the state of parameter I in optimizer N), and `positions`
int64 [batches, 6] (Stream.position). Metadata: `format`, and `about`, a JSON object: `recipe`, `config`, `start`,
`data` and `tokenizer`, which tell trainings apart, and `step`, `ids`, `seconds` and `window`, where it stood. Random
numbers need no place: all are drawn from the seed, the step and the positions.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from ...engine.decoder import Decoder
from ...engine.errors import LonghandError

FORMAT = "longhand-training-1"
NAME = "state.safetensors"


def save_state(
    out: Path, model: Decoder, optimizers: list[Optimizer], positions: Tensor, about: dict[str, Any]
) -> None:
    """Write beside and rename, so that a half-written file never bears the name."""
    tensors = {f"model.{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, kept in optimizer.state_dict()["state"].items():
            tensors |= {f"{number}.{index}.{key}": tensor for key, tensor in kept.items()}
    tensors = {name: tensor.to("cpu").contiguous() for name, tensor in {**tensors, "positions": positions}.items()}
    partial = out / f".{NAME}.{os.getpid()}.partial"
    try:
        save_file(tensors, partial, metadata={"format": FORMAT, "about": json.dumps(about)})
        partial.replace(out / NAME)
    except (OSError, SafetensorError) as error:
        raise LonghandError(f"{out / NAME}: the state cannot be written ({error})") from None
    finally:
        with suppress(OSError):
            partial.unlink()


def read_about(out: Path) -> dict[str, Any]:
    """What a state says of itself, no tensor read. LonghandError where there is none, or a file of another kind."""
    path = out / NAME
    if not path.exists():
        raise LonghandError(f"--resume: {out} holds no {NAME}, so there is nothing to go on from")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if metadata.get("format") == FORMAT:
            return json.loads(metadata["about"])  # type: ignore[no-any-return]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise LonghandError(f"{path}: damaged ({error})") from None
    raise LonghandError(f"{path}: is not a state of a training (format {FORMAT})")


def restore_state(out: Path, model: Decoder, optimizers: list[Optimizer]) -> list[list[int]]:
    """Fill the model and its optimizers; returns the positions of the streams."""
    path = out / NAME
    try:
        tensors = load_file(path)
        positions: list[list[int]] = tensors.pop("positions").tolist()
        model.load_state_dict({name: tensors.pop(f"model.{name}") for name in model.state_dict()})
        kept: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
        for name, tensor in tensors.items():
            number, index, key = name.split(".")
            # A copy: what safetensors returns points into the mapped file.
            kept[int(number)].setdefault(int(index), {})[key] = tensor.clone()
        for optimizer, state in zip(optimizers, kept, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except (OSError, SafetensorError, KeyError, ValueError, IndexError, RuntimeError) as error:
        raise LonghandError(f"{path}: damaged ({' '.join(str(error).split())})") from None
    return positions
