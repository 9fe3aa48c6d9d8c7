"""Quantize a checkpoint once: a bitsandbytes 4-bit copy that this engine and transformers load.

Tensors are read, quantized and written one by one. The copy grows in a folder beside the target, file by file, and
gets the target's name when it is whole; an interrupted run goes on at the unfinished file.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..kernels.dispatch import Ops, choose_ops
from ..kernels.reference import TABLES
from ..kernels.weights import BLOCK, NESTED_BLOCK, FourBit
from .checkpoint import Checkpoint, Progress, Quantize
from .decoder import Decoder, Linear
from .errors import LonghandError
from .options import choose_device
from .writer import SafetensorsWriter

RECORD = "longhand.json"  # what the copy was made from
STATE_BYTES = 256  # of a quant_state, filled up with spaces: its place is set before its numbers are known
BESIDE = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.json", "merges.txt",
          "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "LICENSE")  # fmt: skip
Header = tuple[str, tuple[int, ...]]


def quantize_checkpoint(
    source: Path, target: Path, quantize: Quantize, device: str = "cpu", progress: Progress | None = None
) -> None:
    """Write an NF4 copy of the unquantized checkpoint folder `source` to the new folder `target`.

    progress(bytes_read, bytes_in_all) of the source. Raises LonghandError naming the file; what was finished stays in
    `target` + ".partial" for the next attempt.
    """
    checkpoint = Checkpoint(source)
    choose_device(device)
    linears = _linears(checkpoint, quantize)
    if target.exists():
        raise LonghandError(f"{target}: exists already; remove it or name another folder")
    partial = target.with_name(target.name + ".partial")
    record = _Record(partial, checkpoint, quantize)
    with _alone(partial):
        _write(checkpoint, partial, record, linears, quantize, device, progress)
    partial.rename(target)


def _write(
    checkpoint: Checkpoint, partial: Path, record: _Record, linears: set[str], quantize: Quantize, device: str,
    progress: Progress | None,
) -> None:  # fmt: skip
    ops = choose_ops(torch.device(device), True)
    done, total = 0, checkpoint.num_bytes
    for path in checkpoint.files:
        names = [name for name, (file, _, _) in checkpoint.tensors.items() if file == path]
        if not record.has(path):
            digest = _sha256(path)
            _check_space(partial, path)
            with SafetensorsWriter(partial / path.name, _headers(checkpoint, names, linears, quantize)) as writer:
                for name in names:
                    _convert(checkpoint, name, name in linears, quantize, ops, device, writer)
                    done += checkpoint.num_bytes_of(name)
                    if progress is not None:
                        progress(done, total)
            record.add(path, digest)
        else:
            done += sum(map(checkpoint.num_bytes_of, names))
            if progress is not None:
                progress(done, total)
    _finish(checkpoint, partial, linears, quantize)


def cached_copy(
    source: Path, folder: Path, quantize: Quantize, device: str = "cpu", progress: Progress | None = None
) -> Path:
    """The NF4 copy of a checkpoint in the cache `folder`, made if it is not there or the source has changed since."""
    checkpoint = Checkpoint(source)
    mark = hashlib.sha256(f"{checkpoint.fingerprint()} {quantize}".encode()).hexdigest()[:16]
    target = folder / f"{source.resolve().name}-nf4-{mark}"
    if target.is_dir():
        try:
            record = _Record(target, checkpoint, quantize)
            if all(record.has(path) for path in checkpoint.files):
                return target
        except LonghandError:  # another source of that name and fingerprint, or files that changed
            pass
        shutil.rmtree(target)
    quantize_checkpoint(source, target, quantize, device, progress)
    return target


def _linears(checkpoint: Checkpoint, quantize: Quantize) -> set[str]:
    """Names of the weights to quantize; raises if that cannot be done."""
    config = checkpoint.config
    if config.quantization is not None:
        raise LonghandError(f"{checkpoint.folder}: is stored in 4 bits already ({config.quantization.method})")
    if quantize.head and config.tie_word_embeddings:
        raise LonghandError(f"{checkpoint.folder}: its lm_head is the embedding; it cannot be quantized by itself")
    with torch.device("meta"):
        decoder = Decoder(config, choose_ops(torch.device("cpu"), False), torch.device("cpu"))
    checkpoint.check(decoder)
    names = {f"{name}.weight" for name, module in decoder.named_modules() if isinstance(module, Linear)}
    covered = set(filter(quantize.covers, names))
    checkpoint.check_even(covered)
    return covered


def _headers(checkpoint: Checkpoint, names: list[str], linears: set[str], quantize: Quantize) -> dict[str, Header]:
    """The tensors of one file of the copy."""
    found: dict[str, Header] = {}
    for name in names:
        _, dtype, shape = checkpoint.tensors[name]
        if name not in linears:
            found[name] = (dtype, shape)
            continue
        blocks = -(-shape[0] * shape[1] // BLOCK)
        found[name] = ("U8", (shape[0] * shape[1] // 2, 1))
        found[f"{name}.absmax"] = ("U8" if quantize.nested else "F32", (blocks,))
        found[f"{name}.quant_map"] = ("F32", (16,))
        if quantize.nested:
            found[f"{name}.nested_absmax"] = ("F32", (-(-blocks // NESTED_BLOCK),))
            found[f"{name}.nested_quant_map"] = ("F32", (256,))
        found[f"{name}.quant_state.bitsandbytes__nf4"] = ("U8", (STATE_BYTES,))
    return found


def _convert(
    checkpoint: Checkpoint, name: str, linear: bool, quantize: Quantize, ops: Ops, device: str,
    writer: SafetensorsWriter,
) -> None:  # fmt: skip
    tensor = checkpoint.read(name)
    if not linear:
        writer.write(name, tensor)
        return
    dtype = str(tensor.dtype).removeprefix("torch.")
    weight = ops.quantize_nf4(tensor.to(device), quantize.nested)
    for part, value in _parts(weight, dtype):
        writer.write(name + part, value)


def _parts(weight: FourBit, dtype: str) -> Iterator[tuple[str, Tensor]]:
    """A quantized weight as the tensors that bitsandbytes stores, by the ends of their names."""
    state: dict[str, Any] = {"quant_type": "nf4", "blocksize": weight.block, "dtype": dtype, "shape": weight.shape}
    yield "", weight.packed.view(-1, 1)
    yield ".absmax", weight.absmax
    yield ".quant_map", torch.tensor(TABLES["nf4"])
    if weight.nested is not None:
        yield ".nested_absmax", weight.nested.scales
        yield ".nested_quant_map", weight.nested.table
        state |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32",
                  "nested_offset": weight.nested.offset.item()}  # fmt: skip
    blob = json.dumps(state).encode().ljust(STATE_BYTES)
    assert len(blob) == STATE_BYTES, blob
    yield ".quant_state.bitsandbytes__nf4", torch.tensor(list(blob), dtype=torch.uint8)


def _finish(checkpoint: Checkpoint, partial: Path, linears: set[str], quantize: Quantize) -> None:
    """Everything but the weights: config.json, the index of a sharded checkpoint, the tokenizer's files."""
    config = json.loads((checkpoint.folder / "config.json").read_text("utf-8"))
    kept = [] if "lm_head.weight" in linears or checkpoint.config.tie_word_embeddings else ["lm_head"]
    config["quantization_config"] = {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": quantize.nested, "bnb_4bit_compute_dtype": checkpoint.config.dtype,
        "bnb_4bit_quant_storage": "uint8", "llm_int8_skip_modules": kept,
    }  # fmt: skip
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    if (checkpoint.folder / "model.safetensors.index.json").exists():
        weight_map: dict[str, str] = {}
        total = 0
        for path in checkpoint.files:
            names = [name for name, (file, _, _) in checkpoint.tensors.items() if file == path]
            headers = _headers(checkpoint, names, linears, quantize)
            weight_map |= dict.fromkeys(headers, path.name)
            total += (partial / path.name).stat().st_size
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (partial / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    for name in BESIDE:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, partial / name)


class _Record:
    """What is finished, and from which source files: sizes, times and hashes, in a file of the copy's folder."""

    def __init__(self, partial: Path, checkpoint: Checkpoint, quantize: Quantize):
        self.path = partial / RECORD
        mine = {"source": str(checkpoint.folder.resolve()), "double_quant": quantize.nested, "head": quantize.head,
                "config": hashlib.sha256((checkpoint.folder / "config.json").read_bytes()).hexdigest()}  # fmt: skip
        self.raw: dict[str, Any] = {**mine, "files": {}}
        try:
            partial.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self.raw = json.loads(self.path.read_text("utf-8"))
            else:
                self._save()
        except (OSError, ValueError) as error:
            raise LonghandError(f"{partial}: cannot be used ({error}); name another folder, or remove it") from None
        if {key: self.raw.get(key) for key in mine} != mine or not isinstance(self.raw.get("files"), dict):
            raise LonghandError(
                f"{partial}: was begun from another source or with other options; remove it to begin anew"
            )

    def has(self, path: Path) -> bool:
        """Whether this source file's part of the copy is finished; raises if the source has changed since."""
        known = self.raw["files"].get(path.name)
        if known is None or not (self.path.parent / path.name).exists():
            return False
        stat = path.stat()
        same = stat.st_size == known["bytes"] and (
            stat.st_mtime_ns == known["mtime_ns"] or _sha256(path) == known["sha256"]
        )
        if not same:
            raise LonghandError(
                f"{path}: has changed since its part of {self.path.parent} was written; remove that folder"
            )
        return True

    def add(self, path: Path, digest: str) -> None:
        stat = path.stat()
        self.raw["files"][path.name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest}
        self._save()

    def _save(self) -> None:
        partial = self.path.with_name(RECORD + ".tmp")
        partial.write_text(json.dumps(self.raw, indent=2) + "\n", "utf-8")
        partial.replace(self.path)


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """No other process writes to the folder meanwhile; the lock ends with the process."""
    with (partial / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LonghandError(f"{partial}: another process is writing to it; wait for it") from None
        yield
        (partial / "lock").unlink()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_space(partial: Path, path: Path) -> None:
    # A quantized file is at most as large as its source.
    free, wanted = shutil.disk_usage(partial).free, path.stat().st_size
    if free < wanted:
        raise LonghandError(
            f"{partial}: {free / 1e9:.1f} GB are free, {wanted / 1e9:.1f} GB may be needed for {path.name}"
        )
