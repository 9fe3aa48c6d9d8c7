"""What benchmarks/gpu.py measures with: a model of random weights, sessions over a cache of noise, and clocks."""

from __future__ import annotations

import statistics
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from longhand.engine.cache import KVCache
from longhand.engine.config import ModelConfig
from longhand.engine.decoder import Decoder, Linear
from longhand.engine.engine import Engine
from longhand.engine.session import Session
from longhand.kernels import reference
from longhand.kernels.dispatch import choose_ops
from longhand.kernels.triton_graph import GraphRecorder
from longhand.kernels.weights import BLOCK, NESTED_BLOCK, FourBit, Nested
from torch import Tensor, nn

SECONDS = 530.0  # of the 9 minutes that a run may take
CHUNK = 512  # ids forwarded at once, as a session does


@dataclass(frozen=True)
class Shape:
    """A model, and how much of what is measured on it."""

    config: ModelConfig
    dtype: torch.dtype
    contexts: tuple[int, ...]  # cached ids that a step is behind
    widths: tuple[int, ...]  # ids of a step
    appends: tuple[int, ...]  # ids that are fed behind a context
    turn: tuple[int, int, int]  # ids of a prompt, of a response, and sampled in between
    probe: tuple[int, int]  # bytes read and copied, and the side of the matrices, that the card is measured with
    sampled: int  # ids that a session is timed over


SHAPES = {
    "32b": Shape(
        ModelConfig(152064, 5120, 27648, 64, 40, 8, 128, 1e-5, 1e6, 40960, False), torch.bfloat16,
        (0, 1024, 8192, 32768), (1, 2, 4, 8, 16, 32), (64, 512, 2048), (1024, 512, 32), (1 << 31, 8192), 64,
    ),
    # To see on a CPU that every section runs; its figures mean nothing.
    "tiny": Shape(
        ModelConfig(320, 128, 256, 2, 4, 2, 32, 1e-5, 1e6, 40960, False), torch.float32,
        (0, 64), (1, 2), (16, 70), (24, 12, 4), (1 << 20, 64), 4,
    ),
}  # fmt: skip


class PlainOps:
    """The plain operations, with blocks as one call and what is recorded run as it is: for a CPU."""

    block = staticmethod(reference.PlainBlock)

    def __getattr__(self, name: str) -> Any:
        return getattr(reference, name)

    def record(self, function: Callable[[], object]) -> Callable[[], object]:
        function()
        return function


def make_ops(kernels: str, device: torch.device) -> Any:
    """kernels: as for `choose_ops`."""
    return choose_ops(device, True, kernels) if device.type == "cuda" else PlainOps()


@dataclass
class Bench:
    """What is measured on, and what was found."""

    device: torch.device
    shape: Shape
    ops: Any
    kernels: str = "triton"
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)
    found: dict[str, Any] = field(default_factory=dict)
    model: Decoder | None = None
    recorder: GraphRecorder | None = None

    @property
    def config(self) -> ModelConfig:
        return self.shape.config

    @property
    def dtype(self) -> torch.dtype:
        return self.shape.dtype

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second: the larger of reading and copying, where they were measured."""
        measured = self.found.get("bandwidth", {})
        return max((measured[key] for key in ("read", "copy") if key in measured), default=None)

    @property
    def kv_bytes(self) -> int:
        """Of a cached id."""
        return self.config.kv_bytes_per_token(self.dtype.itemsize)

    def decoder(self) -> Decoder:
        """The model, made when it is first asked for."""
        if self.model is None:
            self.model = make_decoder(self.config, self.ops, self.device, self.dtype)
        return self.model

    def engine(self, room: int) -> Engine:
        """The model behind sessions of so many ids."""
        return Engine(
            self.decoder(), NoTokenizer(self.config), self.device, self.dtype, self.dtype, room, "nf4", "", "random",  # type: ignore[arg-type]
        )  # fmt: skip

    def room(self, num_bytes: int) -> bool:
        """Whether so much memory is free, and half a GiB more."""
        if not self.on_gpu:
            return True
        free = torch.cuda.mem_get_info(self.device)[0]
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + kept > num_bytes + (1 << 29)

    def why_not(self, num_bytes: int) -> dict[str, str] | None:
        """What to say instead of measuring something that needs so many bytes."""
        if self.late():
            return {"skipped": "out of time"}
        return None if self.room(num_bytes) else {"skipped": "memory"}

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def cache(self, context: int, more: int) -> KVCache:
        """A cache that holds `context` positions of noise and has room for more."""
        cache = KVCache(self.config, self.device, self.dtype, context + more)
        fill(cache, context, more)
        return cache

    def session(self, context: int, more: int) -> Session:
        """A session of `context` ids, cached as noise, one pending id, and room for more."""
        session = self.engine(context + more + 1).session()
        session._append([1] * (context + 1), "prompt")
        fill(session._cache, context, more + 1)
        session._forwarded = context
        return session

    def captured(self, call: Callable[[], Any]) -> Callable[[], Any]:
        """The call as one launch, on a GPU; it is run a few times. With bitsandbytes, whose calls may wait for the
        device, it stays as it is where it cannot be captured, which is said. RuntimeError for our own kernels."""
        if not self.on_gpu:
            return call
        if self.recorder is None:
            self.recorder = GraphRecorder(self.device)
        try:
            return self.recorder.record(call)
        except RuntimeError as error:
            if self.kernels != "auto":
                raise
            print(f"no graph: {one_line(error)}", file=sys.stderr)
            return call

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], Any], repeats: int = 10, rounds: int = 3) -> float:
        """Seconds of a call: the median of some rounds, after one that does not count. The device is waited for."""
        taken = []
        for _ in range(rounds + 1):
            self.wait()
            started = time.perf_counter()
            for _ in range(repeats):
                call()
            self.wait()
            taken.append((time.perf_counter() - started) / repeats)
        return statistics.median(taken[1:])

    def rate(self, taken: float, num_bytes: int) -> dict[str, float]:
        """Seconds against the bytes that had to be read."""
        found = {"microseconds": taken * 1e6, "bytes": num_bytes, "bytes_per_second": num_bytes / taken}
        return found if self.bandwidth is None else {**found, "fraction": num_bytes / taken / self.bandwidth}


def attempt(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What is measured, or why it failed, whatever that is: what comes after it is worth its minutes."""
    try:
        return measure(*arguments)
    except Exception as error:
        return {"failed": one_line(error)}


def one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def fill(cache: KVCache, context: int, more: int) -> None:
    """Noise in the first `context` rows of a cache, and room for more."""
    cache.reserve(context + more)
    for rows in (*cache.keys, *cache.values):
        rows[:context].normal_()
    cache.position = context


class NoTokenizer:
    """What an engine asks of a tokenizer when nothing is text."""

    sha256 = ""

    def __init__(self, config: ModelConfig):
        self.defined = range(config.vocab_size)
        self.control = type("Control", (), {"stops": ()})


def random_nf4(rows: int, columns: int, device: torch.device, name: str = "") -> FourBit:
    """Random codes, and absmax of about 0.04 in 8 bits: weights of about 0.02. The same for the same name."""
    draw = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    blocks = rows * columns // BLOCK
    packed = torch.randint(0, 256, (rows * columns // 2,), dtype=torch.uint8, device=device, generator=draw)
    absmax = torch.randint(0, 256, (blocks,), dtype=torch.uint8, device=device, generator=draw)
    scales = torch.rand(-(-blocks // NESTED_BLOCK), device=device, generator=draw) * 0.01 + 0.005
    table = reference.dynamic_table().to(device)
    return FourBit(packed, absmax, (rows, columns), nested=Nested(scales, table, torch.tensor(0.04, device=device)))


def random_values(shape: torch.Size, device: torch.device, dtype: torch.dtype, name: str) -> nn.Parameter:
    """A norm of ones, or an embedding or bias of about 0.02; the same for the same name."""
    draw = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    value = torch.empty(shape, dtype=dtype, device=device)
    value.fill_(1) if "norm" in name else value.normal_(std=0.02, generator=draw)
    return nn.Parameter(value, requires_grad=False)


def make_decoder(config: ModelConfig, ops: Any, device: torch.device, dtype: torch.dtype) -> Decoder:
    """A decoder of random weights; every linear and the head in nested NF4."""
    with torch.device("meta"):
        decoder = Decoder(config, ops, device)
    for name, parameter in list(decoder.named_parameters()):
        path, _, attribute = name.rpartition(".")
        module = decoder.get_submodule(path)
        if isinstance(module, Linear) and attribute == "weight":
            module.set_quantized(random_nf4(*module.shape, device, name))
        else:
            setattr(module, attribute, random_values(parameter.shape, device, dtype, name))
    for block in decoder.model.layers:
        block.fuse()  # type: ignore[operator]
    return decoder.eval()


def linears(decoder: Decoder) -> dict[str, Linear]:
    return {name: module for name, module in decoder.named_modules() if isinstance(module, Linear)}


def weight_bytes(decoder: Decoder) -> int:
    """Bytes that a step reads: every quantized weight; of the rest everything but the embedding."""
    four_bits = sum(linear.quantized.num_bytes for linear in linears(decoder).values() if linear.quantized is not None)
    return four_bits + sum(
        value.numel() * value.element_size() for name, value in decoder.named_parameters() if "embed" not in name
    )


def step(bench: Bench, cache: KVCache, ids: Tensor) -> Callable[[], Tensor]:
    """One forward, launch by launch, and a greedy choice; the cache stays where it is, so every call does the same."""
    decoder = bench.decoder()

    @torch.inference_mode()
    def forward() -> Tensor:
        return decoder.logits(decoder.hidden(ids, cache)[-1]).argmax()

    return forward


def with_layers(shape: Shape, layers: int | None) -> Shape:
    """The same with fewer layers, for a short run."""
    return shape if layers is None else replace(shape, config=replace(shape.config, num_layers=layers))
