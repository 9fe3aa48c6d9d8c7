"""Checkpoint: a folder with config.json, tokenizer.json and safetensors, checked before any tensor is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .config import ModelConfig
from .decoder import Decoder, Linear
from .errors import LonghandError
from .memory import allocation
from .tokenizer import Tokenizer

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
Progress = Callable[[int, int], None]  # bytes read, bytes in all


class Checkpoint:
    """What a folder holds. `tensors` maps each name to (file, dtype, shape), taken from the safetensors headers."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.config = ModelConfig.from_file(folder / "config.json")
        self.tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
        if max(self.tokenizer.defined) >= self.config.vocab_size:
            raise LonghandError(
                f"{folder / 'tokenizer.json'}: id {max(self.tokenizer.defined)} has no row in the embedding: "
                f"vocab_size is {self.config.vocab_size}"
            )
        self.files = self._files()
        self.tensors = self._tensors()

    def _files(self) -> dict[Path, set[str] | None]:
        # File -> the names that the index puts there; None for a single file, which may hold anything.
        index = self.folder / "model.safetensors.index.json"
        single = self.folder / "model.safetensors"
        if not index.exists():
            if not single.exists():
                raise LonghandError(f"{self.folder}: holds neither model.safetensors nor {index.name}")
            return {single: None}
        try:
            weight_map = json.loads(index.read_text("utf-8"))["weight_map"]
            files: dict[Path, set[str] | None] = {}
            for name, file in weight_map.items():
                if Path(file).name != file or file in ("", ".."):
                    raise LonghandError(f"{index}: {file!r} is not a file name")
                names = files.setdefault(self.folder / file, set())
                assert names is not None
                names.add(name)
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise LonghandError(f"{index}: not a safetensors index ({type(error).__name__}: {error})") from None
        for path in files:
            if not path.exists():
                raise LonghandError(f"{path}: missing; {index.name} names it")
        return files

    def _tensors(self) -> dict[str, tuple[Path, str, tuple[int, ...]]]:
        found: dict[str, tuple[Path, str, tuple[int, ...]]] = {}
        for path, expected in self.files.items():
            try:
                with safe_open(path, framework="pt") as file:
                    names = set(file.keys())
                    for name in names:
                        part = file.get_slice(name)
                        found[name] = (path, part.get_dtype(), tuple(part.get_shape()))
            except (OSError, SafetensorError) as error:
                raise LonghandError(f"{path}: truncated or not a safetensors file ({error})") from None
            if expected is not None and names != expected:
                name = sorted(names ^ expected)[0]
                where = "is in the index but not in the file" if name in expected else "is not in the index"
                raise LonghandError(f"{path}: tensor {name} {where}")
        return found

    @property
    def num_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)

    def fingerprint(self) -> str:
        """A hash that tells checkpoints apart without reading them: config, headers, and blocks spread over each file.
        Two checkpoints that differ in a few single values may share it."""
        digest = hashlib.sha256(repr(self.config).encode())
        for path in sorted(self.files):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for block in range(32):
                    file.seek(size * block // 32)
                    digest.update(file.read(4096))
        return digest.hexdigest()[:32]

    def check(self, decoder: Decoder) -> None:
        """Every parameter of the decoder is here in its shape and a float dtype, and nothing else is."""
        wanted = {name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}
        extra = set(self.tensors) - set(wanted)
        if self.config.tie_word_embeddings:
            extra.discard("lm_head.weight")  # some writers store the tied head once more
        for name in sorted(set(wanted) - set(self.tensors)):
            raise LonghandError(f"{self.folder}: tensor {name} is missing")
        for name in sorted(extra):
            raise LonghandError(f"{self.tensors[name][0]}: tensor {name} is not part of a Qwen2 model of this config")
        for name, shape in wanted.items():
            path, dtype, found = self.tensors[name]
            if found != shape:
                raise LonghandError(f"{path}: tensor {name} has shape {list(found)}, config.json wants {list(shape)}")
            if dtype not in DTYPES:
                raise LonghandError(f"{path}: tensor {name} is {dtype}; supported are {', '.join(DTYPES)}")

    def read(self, names: set[str]) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) one by one, in the files' order; the caller decides where each goes."""
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118  (not a dict)
                        if name in names:
                            yield name, file.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise LonghandError(f"{path}: cannot be read ({error})") from None


def load_decoder(
    checkpoint: Checkpoint, decoder: Decoder, device: torch.device, dtype: torch.dtype, nf4: bool,
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """Stream the checkpoint into a decoder that was made on the meta device, tensor by tensor: at no time are two
    whole copies of the weights in memory. With `nf4` the blocks' linears are quantized on the way; embedding, head
    and norms stay in `dtype`."""
    checkpoint.check(decoder)
    linears = {f"{name}.weight": module for name, module in decoder.model.named_modules(prefix="model")
               if isinstance(module, Linear)}  # fmt: skip
    names = {name for name, _ in decoder.named_parameters()}
    done = 0
    for name, stored in checkpoint.read(names):
        size = stored.numel() * stored.element_size()
        with allocation(f"tensor {name}", stored.numel() * (1 if nf4 and name in linears else dtype.itemsize), device):
            if nf4 and name in linears:
                linears[name].set_quantized(decoder.ops.quantize_nf4(stored.to(device)))
            else:
                # A copy: what safetensors returns may point into the mapped file.
                _assign(decoder, name, stored.to(device, dtype, copy=True))
        done += size
        if progress is not None:
            progress(done, checkpoint.num_bytes)
    if checkpoint.config.tie_word_embeddings and "lm_head.weight" in checkpoint.tensors:
        for _, head in checkpoint.read({"lm_head.weight"}):
            if not torch.equal(head.to(device, dtype), decoder.model.embed_tokens.weight):
                raise LonghandError(
                    f"{checkpoint.tensors['lm_head.weight'][0]}: lm_head.weight differs from the embedding, but "
                    "config.json says tie_word_embeddings"
                )


def _assign(decoder: Decoder, name: str, tensor: Tensor) -> None:
    module, _, attribute = name.rpartition(".")
    setattr(decoder.get_submodule(module), attribute, nn.Parameter(tensor, requires_grad=False))
