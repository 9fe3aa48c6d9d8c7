"""One operation at a time: `python benchmarks/operations.py [--shape 0.5b,32b] [--only linears|attention]`.

NF4 linears for 1 to 512 rows at the shapes of the two models, against bitsandbytes' Linear4bit, torch's bfloat16 linear
and torch's int4 one; attention of 1 to 64 queries over a cached prefix, against torch's. Every block walks over so many
copies of its weights that the CPU's last-level cache holds none of them when their turn comes again.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from longhand.kernels.dispatch import choose_ops
from shapes import CPU, SHAPES, four_bits, linear_4bit, noise
from timing import finish, in_turns, plain, ratio, read_bandwidth, short, table
from torch.nn import functional

ROWS = (1, 2, 4, 8, 16, 64, 512)
QUERIES = (1, 16, 64)
CONTEXTS = (1024, 4096)
COPIES_BYTES = 96 << 20  # three times the last-level cache that this was written on
BLOCK_SECONDS = 0.06
GROUP = 64
Call = Callable[[torch.Tensor], torch.Tensor]


def linears(shape: str) -> dict[str, tuple[int, int]]:
    config = SHAPES[shape]
    hidden, wide = config.hidden_size, config.intermediate_size
    found = {"q, o": (hidden, hidden), "gate, up": (wide, hidden), "down": (hidden, wide)}
    return {**found, "head": (config.vocab_size, hidden)} if shape == "0.5b" else found


def longhand_linear(rows: int, columns: int) -> tuple[Call, int]:
    ops = choose_ops(CPU, quantized=True)
    weight = ops.pack(four_bits(rows, columns))
    return lambda x: ops.quantized_linear(x, weight), weight.num_bytes


def bitsandbytes_linear(rows: int, columns: int) -> tuple[Call, int]:
    layer = linear_4bit(rows, columns)
    with torch.inference_mode():
        layer(torch.zeros(1, columns, dtype=torch.bfloat16))  # repacks
    return layer, layer.weight.numel() + 2 * layer.weight.quant_state.absmax.numel()


def bfloat16_linear(rows: int, columns: int) -> tuple[Call, int]:
    weight = noise(rows, columns).clone()
    return lambda x: functional.linear(x, weight), 2 * rows * columns


def int4_linear(rows: int, columns: int) -> tuple[Call, int]:
    """Integers with a scale and a zero per 64: not NF4, but as many bits."""
    codes = torch.randint(0, 16, (rows, columns), dtype=torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    scales = torch.rand(columns // GROUP, rows, 2).bfloat16() * 0.01
    multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
    return lambda x: multiply(x, packed, GROUP, scales), rows * columns // 2 + 2 * scales.numel()


def linear_makers(peers: bool) -> dict[str, Callable[[int, int], tuple[Call, int]]]:
    found = {"longhand": longhand_linear}
    if peers and importlib.util.find_spec("bitsandbytes"):
        found["bitsandbytes"] = bitsandbytes_linear
    if peers:
        found["torch bfloat16"] = bfloat16_linear
    if peers and hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        found["torch int4"] = int4_linear
    return found


def walking(calls: list[Callable[[], object]]) -> Callable[[], float]:
    """A block that goes on through the calls, over and over, and returns the seconds of one."""
    position = 0

    def steps(count: int) -> float:
        nonlocal position
        started = time.perf_counter()
        for _ in range(count):
            calls[position]()
            position = (position + 1) % len(calls)
        return (time.perf_counter() - started) / count

    steps(2)
    count = max(2, min(4 * len(calls), int(BLOCK_SECONDS / steps(2))))
    return lambda: steps(count)


def measure(calls: dict[str, list[Callable[[], object]]], num_bytes: dict[str, int], flop: int, rounds: int) -> Any:
    """Per engine: microseconds, GB/s of what it has to read, GFLOP/s, share of the read bandwidth."""
    series = in_turns({name: walking(every) for name, every in calls.items()}, rounds)
    found = {}
    for name, times in series.items():
        found[name] = {
            "us": times.of(lambda seconds: 1e6 * seconds), "gb_s": times.of(lambda s, n=name: num_bytes[n] / s / 1e9),
            "gflop_s": times.of(lambda seconds: flop / seconds / 1e9),
            "fraction_of_bandwidth": short(times.fraction(num_bytes[name])),
        }  # fmt: skip
        if name != "longhand":
            found[name]["ours_is_x_as_fast"] = ratio(series["longhand"], times)
    return found


def shown(label: str, count: int, found: Any) -> tuple[str, ...]:
    own = found["longhand"]
    figures = [plain(own[name]["median"]) for name in ("us", "gb_s", "gflop_s")]
    peers = [plain(row["ours_is_x_as_fast"]["median"]) for name, row in found.items() if name != "longhand"]
    return (label, str(count), *figures, f"{own['fraction_of_bandwidth']:.2f}", *peers)


@torch.inference_mode()
def measure_linears(shape: str, peers: bool, rounds: int) -> list[dict[str, Any]]:
    rows, lines, names = [], [], list(linear_makers(peers))
    for label, (n, k) in linears(shape).items():
        made, num_bytes = {}, {}
        for name, maker in linear_makers(peers).items():
            first, num_bytes[name] = maker(n, k)
            made[name] = [first, *(maker(n, k)[0] for _ in range(COPIES_BYTES // num_bytes[name]))]
        for m in ROWS:
            x = noise(m, k)
            calls = {name: [lambda c=c, x=x: c(x) for c in every] for name, every in made.items()}
            found = measure(calls, num_bytes, 2 * m * n * k, rounds)
            rows.append({"op": "linear", "shape": shape, "name": label, "n": n, "k": k, "m": m, "engines": found})
            lines.append(shown(f"{label} {n:,} x {k:,}", m, found))
    heads = ("linear", "rows", "us", "GB/s", "GFLOP/s", "of bandwidth", *(f"x {name}" for name in names[1:]))
    table(f"NF4 linear, {shape}", heads, lines)
    return rows


@torch.inference_mode()
def measure_attention(shape: str, peers: bool, rounds: int) -> list[dict[str, Any]]:
    """Both take keys and values in the layout that suits them: ours [S, heads, D], torch's [heads, S, D]."""
    config, ops = SHAPES[shape], choose_ops(CPU, quantized=True)
    heads, kv, width = config.num_heads, config.num_kv_heads, config.head_dim
    rows, lines = [], []
    for context in CONTEXTS:
        num_bytes = 2 * 2 * context * kv * width
        copies = [noise(2, context, kv, width).clone() for _ in range(COPIES_BYTES // num_bytes + 1)]
        others = [copy.transpose(1, 2).contiguous()[:, None] for copy in copies] if peers else []
        for m in QUERIES:
            q = noise(m, heads, width) * 50
            calls: dict[str, list[Callable[[], object]]] = {
                "longhand": [lambda c=c, q=q: ops.attention(q, c[0], c[1]) for c in copies]
            }
            if peers:
                calls["torch"] = [attend(q, other, context) for other in others]
            bytes_read = dict.fromkeys(calls, num_bytes)
            found = measure(calls, bytes_read, 4 * m * context * heads * width, rounds)
            rows.append({"op": "attention", "shape": shape, "cached": context, "m": m, "engines": found})
            lines.append(shown(f"over {context:,}", m, found))
    columns = ("attention", "queries", "us", "GB/s", "GFLOP/s", "of bandwidth", *(["x torch"] if peers else []))
    table(f"attention, {shape}: {heads} heads, {kv} of keys and values, {width} wide", columns, lines)
    return rows


def attend(q: torch.Tensor, other: torch.Tensor, context: int) -> Callable[[], object]:
    query, m = q.transpose(0, 1)[None], q.shape[0]
    mask = None if m == 1 else torch.ones(m, context, dtype=torch.bool).tril(context - m)
    return lambda: functional.scaled_dot_product_attention(query, other[0], other[1], attn_mask=mask, enable_gqa=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="0.5b,32b")
    parser.add_argument("--only", choices=("linears", "attention"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="rounds; every engine runs once in each")
    parser.add_argument("--peers", choices=("auto", "none"), default="auto")
    parser.add_argument("--results", type=Path, help="a file that the JSON line is added to")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    level = getattr(choose_ops(CPU, quantized=True), "level", "no native library")
    bandwidth = max(read_bandwidth() for _ in range(3))
    print(f"read bandwidth {bandwidth / 1e9:.1f} GB/s with {arguments.threads} threads; kernels: {level}\n")
    rows = []
    for shape in arguments.shape.split(","):
        if arguments.only != "attention":
            rows += measure_linears(shape, arguments.peers == "auto", arguments.repeats)
        if arguments.only != "linears":
            rows += measure_attention(shape, arguments.peers == "auto", arguments.repeats)
    found = {"level": level, "bandwidth_gb_s": short(bandwidth / 1e9), "rows": rows}
    finish("operations", arguments.threads, found, arguments.results)


if __name__ == "__main__":
    main()
