"""Job: a training that was checked and can begin, anew or from where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...engine.checkpoint import Checkpoint
from ...engine.config import ModelConfig
from ...engine.errors import LonghandError
from ...engine.hub import resolve
from ...engine.options import choose_device
from ...engine.tokenizer import Tokenizer
from . import log, state
from .data import Data, read_data
from .model import copy_generation
from .pages import read_prose
from .recipe import COPYING, Recipe
from .tokenizer import train_tokenizer


@dataclass(frozen=True)
class Job:
    """What is trained (`recipe`, `config`, `start`, `data`), and how: no result depends on the rest but by rounding."""

    recipe: Recipe
    config: dict[str, Any]  # config.json of the model
    start: str | None  # the checkpoint that it begins with
    data: Data | None
    tokenizer: str  # hash of out/tokenizer.json
    out: Path
    resume: bool = False
    device: str = "cpu"
    processes: int = 1
    threads: int = 1  # of each process
    save_every: int = 500  # steps
    log_every: int = 50

    @property
    def identity(self) -> dict[str, Any]:
        """What tells it from other trainings."""
        files = self.data.files if self.data else ()
        return {"recipe": self.recipe.as_dict(), "config": self.config, "start": self.start,
                "data": [{"path": str(file.path), "sha256": file.sha256} for file in files],
                "tokenizer": self.tokenizer}  # fmt: skip


def new_job(
    out: Path, given: dict[str, Any], start: str | None = None, tokenizer: Path | None = None,
    data: Sequence[Path] = (), **how: Any,
) -> Job:  # fmt: skip
    """A training from the first step on. `given`: the fields of the recipe that are not to be its defaults; `how`: see
    `running`. Everything is checked before the folder is made."""
    if (out / state.NAME).exists():
        raise LonghandError(f"--out {out}: holds an unfinished training; go on with --resume, or name another folder")
    if (out / "model.safetensors").exists():
        raise LonghandError(f"--out {out}: holds a checkpoint; name another folder")
    if data and given.get("mix") == 0:
        raise LonghandError("--mix 0: nothing of --data would be read; leave one of them out")
    if not data and "mix" in given:
        raise LonghandError("--mix is the share of batches that come from --data: name a file, or leave it out")
    if data and start is None and tokenizer is None:
        raise LonghandError("--data holds ids: say whose they are, with --start CHECKPOINT or --tokenizer FILE")
    folder, config = open_start(start)
    wanted: dict[str, Any] = {"mix": 1.0 if data else 0.0, **sizes_of(config), **given}
    steps = wanted.get("steps", Recipe.steps)
    wanted.setdefault("copy_steps", 0 if folder else max(0, min(Recipe.copy_steps, steps // COPYING)))
    recipe = Recipe(**wanted)
    running_as = running(recipe, **how)
    text, loaded = choose_tokenizer(recipe.vocab_size, recipe.seed, folder, tokenizer)
    if config is None:
        recipe = Recipe(**{**wanted, "vocab_size": max(loaded.defined) + 1})
        config = recipe.config()
    rows = read_data(data, loaded, ModelConfig.from_dict(config).max_position_embeddings) if data else None
    job = Job(recipe, config, str(folder) if folder else None, rows, digest(text), out, **running_as)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / log.NAME).unlink(missing_ok=True)
        (out / "tokenizer.json").write_text(text, "utf-8")
        (out / "recipe.json").write_text(json.dumps(job.identity, indent=2) + "\n")
        if folder is not None:
            copy_generation(folder, out)
    except OSError as error:
        raise LonghandError(f"--out {out}: cannot be written ({error.strerror})") from None
    return job


def resumed_job(
    out: Path, given: dict[str, Any], start: str | None = None, tokenizer: Path | None = None,
    data: Sequence[Path] = (), **how: Any,
) -> Job:  # fmt: skip
    """The training that a folder holds the state of. What is given must be what it was begun with."""
    about = state.read_about(out)
    try:
        recipe = Recipe.from_dict(about["recipe"])
    except LonghandError as error:
        raise LonghandError(f"{out / state.NAME}: {error}") from None
    given = {**given, **({"start": str(resolve(start).resolve())} if start else {})}
    for name, was in {**recipe.as_dict(), "start": about["start"]}.items():
        if given.get(name, was) != was:
            option = name.replace("_", "-")
            begun = "none" if was in (None, "") else was
            raise LonghandError(f"--resume: {out} was begun with --{option} {begun}, not {given[name]}; leave the "
                                "option out, or train anew in another folder")  # fmt: skip
    for path in (out / "tokenizer.json", *([tokenizer] if tokenizer else [])):
        if digest(read_tokenizer(path)[0]) != about["tokenizer"]:
            raise LonghandError(f"--resume: {path} is not the tokenizer that {out} was begun with")
    rows = None
    if data or about["data"]:
        paths = list(data) or [Path(file["path"]) for file in about["data"]]
        if len(paths) != len(about["data"]):
            raise LonghandError(f"--resume: {out} was begun with {len(about['data'])} --data, not {len(paths)}")
        longest = ModelConfig.from_dict(about["config"]).max_position_embeddings
        rows = read_data(paths, read_tokenizer(out / "tokenizer.json")[1], longest)
        for file, was in zip(rows.files, about["data"], strict=True):
            if file.sha256 != was["sha256"]:
                raise LonghandError(f"--resume: {file.path} is not the data that {out} was begun with")
    return Job(recipe, about["config"], about["start"], rows, about["tokenizer"], out, True, **running(recipe, **how))


def running(
    recipe: Recipe, device: str | None = None, processes: int | None = None, threads: int = 1, save_every: int = 500,
    log_every: int = 50,
) -> dict[str, Any]:  # fmt: skip
    """How it is trained, checked: by default one process on a GPU, and on a CPU one per batch as far as cores go."""
    if not hasattr(torch.optim, "Muon"):
        raise LonghandError(f"training needs torch.optim.Muon, which torch {torch.__version__} lacks: "
                            "pip install 'torch>=2.9'")  # fmt: skip
    on = choose_device(device)
    if processes is None:
        processes = 1 if on.type == "cuda" else min(recipe.batches, os.cpu_count() or 1)
    for name, value in (("processes", processes), ("threads", threads), ("save-every", save_every)):
        if value < 1:
            raise LonghandError(f"--{name} must be 1 or more, not {value}")
    if on.type == "cuda" and processes > 1:
        raise LonghandError(f"--processes {processes}: a GPU takes one, which computes all batches of a step")
    if processes > recipe.batches:
        raise LonghandError(f"--processes {processes}: a step has {recipe.batches} batches to share")
    return {"device": str(on), "processes": processes, "threads": threads, "save_every": save_every,
            "log_every": log_every}  # fmt: skip


def open_start(start: str | None) -> tuple[Path | None, dict[str, Any] | None]:
    """The folder of the checkpoint to begin with, and its config.json as it will be written."""
    if start is None:
        return None, None
    folder = resolve(start).resolve()
    if Checkpoint(folder).config.quantization is not None:
        raise LonghandError(f"--start {start}: is stored in four bits; training needs an unquantized checkpoint")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config.pop("dtype", None)
    return folder, {**config, "torch_dtype": "bfloat16"}


def sizes_of(config: dict[str, Any] | None) -> dict[str, int]:
    """A checkpoint's sizes, as the recipe names them."""
    if config is None:
        return {}
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads")
    return {name: getattr(ModelConfig.from_dict(config), name) for name in names}


def choose_tokenizer(vocab_size: int, seed: int, folder: Path | None, path: Path | None) -> tuple[str, Tokenizer]:
    """The tokenizer of the start, the one that was named, or one that is trained anew on the project's own text; as
    tokenizer.json's text and loaded."""
    if folder is not None and path is not None:
        raise LonghandError("--tokenizer: --start has one already; leave it out")
    if folder is not None:
        path = folder / "tokenizer.json"
    if path is not None:
        return read_tokenizer(path)
    text = train_tokenizer(vocab_size, read_prose(), seed)
    return text, Tokenizer(json.loads(text))


def read_tokenizer(path: Path) -> tuple[str, Tokenizer]:
    loaded = Tokenizer.from_file(path)  # says what is wrong with it
    return path.read_text("utf-8"), loaded


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
