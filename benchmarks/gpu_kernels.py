"""Sections of benchmarks/gpu.py about the card and the kernels: bandwidth, kernels, launches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from gpu_bench import Bench, attempt, linears, random_nf4, random_values, step
from longhand.engine.config import ModelConfig
from longhand.engine.rope import RotaryTable
from longhand.kernels import reference
from longhand.kernels.weights import BlockWeights
from torch import Tensor

OTHER_WEIGHTS = 256 << 20  # bytes read in between, so that none is still in the L2 cache


def bandwidth(bench: Bench) -> dict[str, Any]:
    """Bytes a second read (a sum) and copied (read and written), and bf16 operations a second of a matrix product."""
    size, side = bench.shape.probe
    a = torch.ones(size // 4, device=bench.device)
    b = torch.empty_like(a)
    read, copy = bench.seconds(lambda: a.sum()), bench.seconds(lambda: b.copy_(a))
    m = torch.randn(side, side, device=bench.device).to(bench.dtype)
    product = bench.seconds(lambda: m @ m)
    return {"read": size / read, "copy": 2 * size / copy, "matmul": 2 * side**3 / product}


def check(ops: Any, shape: tuple[int, int], device: torch.device, dtype: torch.dtype, rows: int) -> float:
    """The largest error of a quantized product against float64, as a part of what rounding may cost. Above 1: wrong."""
    weight = random_nf4(*shape, device)
    x = torch.randn(rows, shape[1], device=device).to(dtype)
    got = ops.quantized_linear(x, ops.pack(weight)).double()
    exact, worst = reference.dequantize(weight, torch.float32), 0.0
    for start in range(0, shape[0], 4096):  # float64 copies of all of it would not fit on every card
        part = exact[start : start + 4096].double()
        want, sizes = x.double() @ part.T, x.double().abs() @ part.abs().T
        limit = torch.finfo(dtype).eps * (sizes + want.abs()) + 2**-20 * sizes  # the last for sums in float32
        worst = worse(worst, (got[:, start : start + 4096] - want).abs() / limit)
    return worst


def check_attention(ops: Any, config: ModelConfig, context: int, device: torch.device, dtype: torch.dtype) -> float:
    """As `check`."""
    q = torch.randn(3, config.num_heads, config.head_dim, device=device).to(dtype)
    k, v = torch.randn(2, context, config.num_kv_heads, config.head_dim, device=device).to(dtype)
    want = reference.attention(q.double(), k.double(), v.double()).double()
    sizes = reference.attention(q.double(), k.double(), v.double().abs()).double()
    limit = 2 * torch.finfo(dtype).eps * (sizes + want.abs()) + 1e-6
    return worse(0.0, (ops.attention(q, k, v).double() - want).abs() / limit)


def worse(worst: float, errors: Tensor) -> float:
    """The larger of two; what is not a number is infinitely wrong."""
    return max(worst, errors.nan_to_num(nan=float("inf")).max().item())


def block_weights(config: ModelConfig, device: torch.device, dtype: torch.dtype, pack: Any) -> BlockWeights:
    """Of one decoder block, random; the same in each call."""
    q, kv, hidden = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim, config.hidden_size
    shapes = {"q": (q, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, q),
              "gate": (config.intermediate_size, hidden), "up": (config.intermediate_size, hidden),
              "down": (hidden, config.intermediate_size)}  # fmt: skip
    made = tuple(
        (
            pack(random_nf4(*shape, device, name)),
            random_values(torch.Size(shape[:1]), device, dtype, name).data if name in "qkv" else None,
        )
        for name, shape in shapes.items()
    )
    norms = [random_values(torch.Size([hidden]), device, dtype, name).data.abs() * 20 for name in ("first", "second")]
    return BlockWeights(made, (norms[0], norms[1]), 1e-5, config.num_heads, config.num_kv_heads, config.head_dim)


@torch.inference_mode()
def check_block(bench: Bench, rows: int, context: int) -> dict[str, Any]:
    """A fused block against its twin in float64: its largest error, as a part of twice the one of the plain operations
    in the block's own dtype. Then again and again, also with the position on the device: every time the same bits."""
    config, device, dtype = bench.config, bench.device, bench.dtype
    block = bench.ops.block(block_weights(config, device, dtype, bench.ops.pack))
    if block is None:
        return {"skipped": "no fused block"}
    x = torch.randn(rows, config.hidden_size, device=device).to(dtype)
    noise = torch.randn(2, context + rows, config.num_kv_heads, config.head_dim, device=device).to(dtype)
    cos, sin = RotaryTable(config, device).at(context, context + rows)

    def run(call: Any, wide: torch.dtype, position: int | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys, values = noise.to(wide).clone()
        return call(x.to(wide).clone(), cos, sin, keys, values, position), keys, values

    exact = reference.PlainBlock(_wide(block_weights(config, device, dtype, reference.pack)))
    want = run(exact, torch.float64, context)
    plain = run(reference.PlainBlock(block_weights(config, device, dtype, reference.pack)), dtype, context)
    got = run(block, dtype, context)
    worst = 0.0
    for mine, theirs, right in zip(got, plain, want, strict=True):
        limit = 2 * (theirs.double() - right).abs().max() + torch.finfo(dtype).eps * right.abs().max()
        worst = worse(worst, (mine.double() - right).abs() / limit)
    on_device = torch.tensor([0, context], dtype=torch.int32, device=device)[1]
    differing = 0
    for turn in range(50 if bench.on_gpu else 3):
        again = run(block, dtype, on_device if turn % 2 else context)
        differing += not all(torch.equal(a, b) for a, b in zip(again, got, strict=True))
    return {"error": worst, "differing": differing}


def _wide(weights: BlockWeights) -> BlockWeights:
    linears = tuple((weight, bias if bias is None else bias.double()) for weight, bias in weights.linears)
    norms = (weights.norms[0].double(), weights.norms[1].double())
    return BlockWeights(linears, norms, weights.eps, weights.heads, weights.kv_heads, weights.head_dim)


def linear_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """The different shapes [N, K] of a block's linears, and the head's."""
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    hidden, wide = config.hidden_size, config.intermediate_size
    return {"q": (q, hidden), "k": (kv, hidden), "o": (hidden, q), "gate": (wide, hidden), "down": (hidden, wide),
            "head": (config.vocab_size, hidden)}  # fmt: skip


def kernels(bench: Bench) -> dict[str, Any]:
    """Each product, attention and the fused block checked; products and attention then timed against the bytes they
    read. Weights take turns, so that none is still in the L2 cache. What is wrong is not timed."""
    found: dict[str, Any] = {}
    for name, shape in linear_shapes(bench.config).items():
        found[name] = attempt(_product, bench, shape)
    for context in bench.shape.contexts[1:]:
        found[f"attention {context}"] = attempt(_attention, bench, context)
    for rows in (1, 5, 16):
        found[f"block {rows}"] = attempt(check_block, bench, rows, bench.shape.contexts[1] - 3)
    wrong = [name for name, row in found.items() if row.get("error", 0) > 1 or row.get("differing")]
    return {**found, "failed": f"wrong: {', '.join(wrong)}"} if wrong else found


def _product(bench: Bench, shape: tuple[int, int]) -> dict[str, float]:
    error = max(check(bench.ops, shape, bench.device, bench.dtype, rows) for rows in (1, 7, 16, 64))
    return {"error": error, **(_timed_product(bench, shape) if error <= 1 else {})}


def _attention(bench: Bench, context: int) -> dict[str, float]:
    error = check_attention(bench.ops, bench.config, context, bench.device, bench.dtype)
    return {"error": error, **(_timed_attention(bench, context) if error <= 1 else {})}


def _timed_product(bench: Bench, shape: tuple[int, int]) -> dict[str, float]:
    copies = -(-OTHER_WEIGHTS // (shape[0] * shape[1] // 2)) if bench.on_gpu else 2
    weights = [bench.ops.pack(random_nf4(*shape, bench.device, str(number))) for number in range(copies)]
    x = torch.randn(1, shape[1], device=bench.device).to(bench.dtype)

    @torch.inference_mode()
    def every() -> None:
        for weight in weights:
            bench.ops.quantized_linear(x, weight)

    return bench.rate(bench.seconds(bench.captured(every)) / copies, weights[0].num_bytes)


def _timed_attention(bench: Bench, context: int) -> dict[str, float]:
    config = bench.config
    num_bytes = 2 * bench.dtype.itemsize * context * config.num_kv_heads * config.head_dim
    copies = max(1, OTHER_WEIGHTS // num_bytes) if bench.on_gpu else 1
    shape = (copies, context, config.num_kv_heads, config.head_dim)
    k, v = torch.randn(2, *shape, device=bench.device, dtype=bench.dtype)
    q = torch.randn(1, config.num_heads, config.head_dim, device=bench.device).to(bench.dtype)

    @torch.inference_mode()
    def every() -> None:
        for keys, values in zip(k, v, strict=True):
            bench.ops.attention(q, keys, values)

    return bench.rate(bench.seconds(bench.captured(every)) / copies, num_bytes)


def launches(bench: Bench) -> dict[str, Any]:
    """Of one step behind 1,024 ids, as a graph: how many kernels to a layer, the part of the time between the first
    one's start and the last one's end in which none runs, and each kernel's time; the products' against the bytes of
    their weights. By torch's profiler, which slows kernels a little."""
    context = bench.shape.contexts[1]
    ids = torch.ones(1, dtype=torch.int64, device=bench.device)
    cache = bench.cache(context, 1)  # a graph does not keep what it reads alive
    replay = bench.captured(step(bench, cache, ids))
    activities = [torch.profiler.ProfilerActivity.CUDA if bench.on_gpu else torch.profiler.ProfilerActivity.CPU]
    replay()
    bench.wait()
    with torch.profiler.profile(activities=activities) as profile:
        replay()
        bench.wait()
    kind = torch.autograd.DeviceType.CUDA if bench.on_gpu else torch.autograd.DeviceType.CPU
    events = [
        (event.name, event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == kind and event.time_range.end > event.time_range.start
    ]
    if not events:
        return {"skipped": "the profiler saw no kernels (is CUPTI there?)"}
    return summary(bench, events)


def summary(bench: Bench, events: list[tuple[str, float, float]]) -> dict[str, Any]:
    """Of kernels (name, start, end), in microseconds."""
    layers = bench.config.num_layers
    span = max(end for _, _, end in events) - min(start for _, start, _ in events)
    found: dict[str, Any] = {
        "kernels": len(events), "kernels_per_layer": len(events) / layers, "microseconds": span,
        "idle": 1 - busy((start, end) for _, start, end in events) / span,
    }  # fmt: skip
    of = {"q": "qkv_product", "k": "qkv_product", "v": "qkv_product", "o": "added_product", "down": "added_product",
          "gate": "gated_product", "up": "gated_product"}  # fmt: skip
    sizes: dict[str, int] = {}
    for name, linear in linears(bench.decoder()).items():
        kernel = of.get(name.rpartition(".")[2].removesuffix("_proj"))
        if kernel is not None and linear.quantized is not None:
            sizes[kernel] = sizes.get(kernel, 0) + linear.quantized.num_bytes
    totals: dict[str, list[float]] = {}
    for name, start, end in events:
        totals.setdefault(name, []).append(end - start)
    for name, times in sorted(totals.items(), key=lambda item: -sum(item[1]))[:16]:
        row = {"count": len(times), "microseconds": sum(times), "microseconds_each": sum(times) / len(times)}
        size = sizes.get(name)
        found[name[:60]] = row if size is None else {**row, **bench.rate(sum(times) / 1e6, size)}
    return found


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """How long at least one of them runs."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
