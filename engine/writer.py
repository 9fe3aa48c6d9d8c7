"""A safetensors file written tensor by tensor, each at its place, so that no more than one is in memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8", torch.int32: "I32",
          torch.float64: "F64", torch.int64: "I64", torch.int8: "I8", torch.bool: "BOOL"}  # fmt: skip
SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "U8": 1, "I8": 1, "BOOL": 1}  # bytes of a value


class SafetensorsWriter:
    """`tensors` maps each name to (dtype as safetensors spells it, shape). The file appears at `path` when the `with`
    block ends without an error and every tensor was written; until then it is `path` + ".tmp"."""

    def __init__(self, path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]):
        self.path, self.tensors = path, dict(tensors)
        self.partial = path.with_name(path.name + ".tmp")
        self.missing = set(self.tensors)
        # Wide types first, as the format's own writer does it: then every tensor is aligned to its type.
        order = sorted(self.tensors, key=lambda name: (-SIZES[self.tensors[name][0]], name))
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self.offsets: dict[str, int] = {}
        end = 0
        for name in order:
            dtype, shape = self.tensors[name]
            self.offsets[name], end = end, end + math.prod(shape) * SIZES[dtype]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [self.offsets[name], end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.start = 8 + len(text)
        self.file = self.partial.open("wb")
        self.file.write(len(text).to_bytes(8, "little") + text)
        self.file.truncate(self.start + end)

    def write(self, name: str, tensor: Tensor) -> None:
        """Put a tensor at its place; its dtype and shape must be those that were announced."""
        found = (DTYPES[tensor.dtype], tuple(tensor.shape))
        if found != self.tensors[name]:
            raise ValueError(f"{name} is {found}, not {self.tensors[name]}")
        self.file.seek(self.start + self.offsets[name])
        self.file.write(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        self.missing.discard(name)

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = kind is None and not self.missing
        with self.file:
            if done:
                self.file.flush()
                os.fsync(self.file.fileno())
        if done:
            self.partial.replace(self.path)
            return
        self.partial.unlink(missing_ok=True)
        if kind is None:
            raise ValueError(f"never written: {', '.join(sorted(self.missing)[:3])}")
