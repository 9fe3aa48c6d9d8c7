"""Checkpoint: a folder with config.json, tokenizer.json and safetensors, checked before any tensor is read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..kernels.weights import Quantized
from . import stored
from .config import ModelConfig
from .decoder import Decoder, Linear
from .errors import LonghandError
from .memory import allocation
from .tokenizer import Tokenizer
from .writer import SIZES

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
Progress = Callable[[int, int], None]  # bytes read, bytes in all


@dataclass(frozen=True)
class Quantize:
    """What to quantize to NF4 while a checkpoint streams: the linears of the blocks and, with `head`, an untied
    lm_head. `nested`: double quantization, the absmax in 8 bits too."""

    nested: bool = False
    head: bool = False

    def covers(self, name: str) -> bool:
        return self.head or name != "lm_head.weight"


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
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
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
                    for name in file.keys():  # noqa: SIM118  (not a dict)
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

    def check(self, decoder: Decoder) -> list[str]:
        """Every parameter of the decoder is here in its shape, as floats or in the form that config.json names, and
        nothing else is. Returns the parameters' names in the files' order."""
        wanted = {name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}
        headers = {name: (dtype, shape) for name, (_, dtype, shape) in self.tensors.items()}
        extra = set(self.tensors) - set(wanted)
        if self.config.tie_word_embeddings:
            extra.discard("lm_head.weight")  # some writers store the tied head once more
        place: dict[str, int] = {}
        order = {name: index for index, name in enumerate(self.tensors)}
        for name, shape in wanted.items():
            form = self.parts(name)
            if form:
                try:
                    stored.check(self._form(), name.removesuffix(".weight"), (shape[0], shape[1]), headers)
                except LonghandError as error:
                    raise LonghandError(f"{self.tensors[form[0]][0]}: {error}") from None
            elif name not in self.tensors:
                raise LonghandError(f"{self.folder}: tensor {name} is missing")
            else:
                path, dtype, found = self.tensors[name]
                if found != shape:
                    raise LonghandError(
                        f"{path}: tensor {name} has shape {list(found)}, config.json wants {list(shape)}"
                    )
                if dtype not in DTYPES:
                    raise LonghandError(f"{path}: tensor {name} is {dtype}; supported are {', '.join(DTYPES)}")
            extra.difference_update(form)
            place[name] = order[form[0] if form else name]
        if self.config.quantization is not None and not any(map(self.parts, wanted)):
            raise LonghandError(
                f"{self.folder / 'config.json'}: quantization_config names {self.config.quantization.method}, but no "
                "tensor is stored so; remove it if the weights are unquantized"
            )
        for name in sorted(name for name in extra if not self._is_empty_bias(name, wanted)):
            raise LonghandError(f"{self.tensors[name][0]}: tensor {name} is not part of a Qwen2 model of this config")
        return sorted(wanted, key=place.__getitem__)

    def check_even(self, names: Iterable[str]) -> None:
        """LonghandError for a tensor of an odd number of values, which NF4 cannot hold."""
        for name in sorted(names):
            if math.prod(self.tensors[name][2]) % 2:
                raise LonghandError(f"{self.folder}: tensor {name} has an odd number of values; NF4 packs two a byte")

    def _is_empty_bias(self, name: str, wanted: dict[str, tuple[int, ...]]) -> bool:
        """Whether it is a bias of zeros, which AutoGPTQ stored with every linear (its issue 601)."""
        weight = wanted.get(f"{name.removesuffix('.bias')}.weight")
        form = self.config.quantization
        if not name.endswith("proj.bias") or weight is None or form is None or form.method != "gptq":
            return False
        return self.tensors[name][2] == weight[:1] and not self.read(name).any()

    def parts(self, name: str) -> list[str]:
        """The tensors that make up the parameter `name` if it is stored in four bits, else none."""
        if self.config.quantization is None or (not name.endswith("proj.weight") and name != "lm_head.weight"):
            return []
        return stored.parts(name.removesuffix(".weight"), self.tensors)

    def _form(self) -> stored.Stored:
        assert self.config.quantization is not None
        return self.config.quantization

    def num_bytes_of(self, name: str) -> int:
        """Bytes that a parameter takes in the files."""
        headers = [self.tensors[part] for part in self.parts(name) or [name]]
        return sum(math.prod(shape) * SIZES.get(dtype, 1) for _, dtype, shape in headers)

    def read(self, name: str) -> Tensor:
        """One stored tensor, mapped from its file. The file is opened for each, since what was touched of a mapped file
        counts as memory until it is closed."""
        path = self.tensors[name][0]
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor(name)  # type: ignore[no-any-return]
        except (OSError, SafetensorError) as error:
            raise LonghandError(f"{path}: cannot be read ({error})") from None

    def read_quantized(self, name: str, shape: tuple[int, int]) -> Quantized:
        """A parameter that is stored in four bits."""
        try:
            return stored.read(self._form(), name.removesuffix(".weight"), shape, self.read, self.tensors)
        except LonghandError as error:
            raise LonghandError(f"{self.tensors[self.parts(name)[0]][0]}: {error}") from None


def load_decoder(
    checkpoint: Checkpoint, decoder: Decoder, device: torch.device, dtype: torch.dtype, quantize: Quantize | None,
    progress: Progress | None = None, host_embedding: bool = False,
) -> None:  # fmt: skip
    """Stream the checkpoint into a decoder that was made on the meta device, parameter by parameter: at no time are two
    whole copies of the weights in memory. What is stored in four bits stays so; with `quantize` the other linears are
    quantized on the way. Embedding, norms and biases stay in `dtype`."""
    linears = {f"{name}.weight": module for name, module in decoder.named_modules() if isinstance(module, Linear)}
    names = checkpoint.check(decoder)
    if quantize is not None:
        checkpoint.check_even(filter(quantize.covers, linears))
    done, total = 0, checkpoint.num_bytes
    for name in names:
        size = checkpoint.num_bytes_of(name)
        linear = linears.get(name)
        if linear is not None and checkpoint.parts(name):
            with allocation(f"tensor {name}", size, device):
                linear.set_quantized(checkpoint.read_quantized(name, linear.shape).to(device))
        elif linear is not None and quantize is not None and quantize.covers(name):
            tensor = checkpoint.read(name)
            with allocation(f"tensor {name}", tensor.numel(), device):
                linear.set_quantized(decoder.ops.quantize_nf4(tensor.to(device), quantize.nested))
        else:
            tensor = checkpoint.read(name)
            place = torch.device("cpu") if host_embedding and name == "model.embed_tokens.weight" else device
            with allocation(f"tensor {name}", tensor.numel() * dtype.itemsize, place):
                # A copy: what safetensors returns may point into the mapped file.
                _assign(decoder, name, tensor.to(place, dtype, copy=True))
        done += size
        if progress is not None:
            progress(done, total)
    if checkpoint.config.tie_word_embeddings and "lm_head.weight" in checkpoint.tensors:
        head = checkpoint.read("lm_head.weight")
        if not torch.equal(head.to(device, dtype), decoder.model.embed_tokens.weight):
            raise LonghandError(
                f"{checkpoint.tensors['lm_head.weight'][0]}: lm_head.weight differs from the embedding, but "
                "config.json says tie_word_embeddings"
            )
    for block in decoder.model.layers:
        block.fuse()  # type: ignore[operator, union-attr]


def _assign(decoder: Decoder, name: str, tensor: Tensor) -> None:
    module, _, attribute = name.rpartition(".")
    setattr(decoder.get_submodule(module), attribute, nn.Parameter(tensor, requires_grad=False))
