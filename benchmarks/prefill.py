"""Prefill speed: `python benchmarks/prefill.py [--shape 0.5b|32b] [--ids 512] [--append 64] [--prefix 4096]`.

Three blocks an engine, in turns: a prompt of 512 ids over nothing; 64 ids over nothing; the same 64 over a cached
prefix of 4,096, which has to read the prefix's keys and values and compute its share of attention besides. How long
reading them once takes follows from the read bandwidth measured before each block.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from peers import OURS, UBATCH, Runner, add_arguments, make_runners
from shapes import SHAPES
from timing import Series, between, finish, in_turns, plain, ratio, read_bandwidth, spread, table

GFLOP = 1e9


def block(runner: Runner, prefix: int, count: int, outputs: int, repeats: int = 1) -> Callable[[], float]:
    """A block that returns the seconds of one forward of `count` ids behind `prefix` cached ones."""
    ids = [number % 200 for number in range(count)]

    def run() -> float:
        seconds = 0.0
        for _ in range(repeats):
            runner.seek(prefix)
            started = time.perf_counter()
            runner.run(ids, outputs)
            seconds += time.perf_counter() - started
        return seconds / repeats

    run()
    return run


def prefix_share(over: Series, nothing: Series, prefix_bytes: int) -> dict[str, float]:
    """Time over the prefix, divided by time over nothing plus reading the prefix once; round by round."""
    rounds = zip(over.seconds, nothing.seconds, over.bandwidth, strict=True)
    return spread([long / (short + prefix_bytes / bandwidth) for long, short, bandwidth in rounds])


def results(arguments: argparse.Namespace) -> dict[str, Any]:
    shape, count, more, prefix = arguments.shape, arguments.ids, arguments.append, arguments.prefix
    if max(count, more) > UBATCH:
        raise SystemExit(f"at most {UBATCH} ids at once")
    config = SHAPES[shape]
    runners = make_runners(shape, arguments.peers, arguments.threads)
    ours, bandwidth = runners[OURS], statistics.median(read_bandwidth() for _ in range(5))
    weights = sum(rows * columns for rows, columns in linears(config))
    gemm = matrix_speed(config.hidden_size, config.intermediate_size)
    work = 2 * weights * count
    read_seconds = prefix * ours.kv_bytes / bandwidth
    look = 4 * more * prefix * config.num_layers * config.num_heads * config.head_dim
    print(
        f"\nbfloat16 matrix product of torch {gemm / GFLOP:,.0f} GFLOP/s, {arguments.threads} threads: the linears "
        f"of the blocks over {count} ids are {work / GFLOP:,.0f} GFLOP, at best {count * gemm / work:,.0f} ids/s\n"
        f"read bandwidth {bandwidth / 1e9:.1f} GB/s: the keys and values of {prefix:,} ids, "
        f"{prefix * ours.kv_bytes / 1e6:.0f} MB, take {1e3 * read_seconds:.1f} ms\n"
        f"attention of {more} ids over them is {look / GFLOP:,.0f} GFLOP, at best {1e3 * look / gemm:.1f} ms\n"
    )
    # llama.cpp leaves the rows out whose logits nobody asked for from the last layer's MLP on. Fair for a prompt, but
    # not for a model of four layers: there, every engine gives all logits of a head that is next to nothing.
    every = shape == "32b"
    jobs = {"prompt": (0, count, 1), "nothing": (0, more, 2), "prefix": (prefix, more, 2)}
    blocks = {
        f"{name}|{job}": block(runner, start, length, length if every else 1, repeats)
        for job, (start, length, repeats) in jobs.items()
        for name, runner in runners.items()
    }
    series = in_turns(blocks, arguments.repeats)
    rows, ratios, shown = [], [], []
    for name, runner in runners.items():
        prompt, nothing, over = (series[f"{name}|{job}"] for job in jobs)
        share = prefix_share(over, nothing, prefix * runner.kv_bytes)
        row: dict[str, Any] = {
            "engine": name, "weights": runner.note, "prompt_ids_s": prompt.of(lambda seconds: count / seconds),
            "append_over_nothing_ms": nothing.of(lambda seconds: 1e3 * seconds),
            "append_over_prefix_ms": over.of(lambda seconds: 1e3 * seconds),
            "prefix_over_nothing_and_reading": share,
        }  # fmt: skip
        rows.append(row)
        ahead = ratio(series[f"{OURS}|prompt"], prompt)
        if name != OURS:
            append = ratio(series[f"{OURS}|prefix"], over)
            ratios.append({"peer": name, "prompt": ahead, "append_over_prefix": append})
        shown.append(
            (name, between(row["prompt_ids_s"]), "" if name == OURS else between(ahead),
             between(row["append_over_nothing_ms"]), between(row["append_over_prefix_ms"]), between(share))
        )  # fmt: skip
    columns = ("", f"prompt of {count}, ids/s", "ours is x as fast", f"{more} over nothing, ms",
               f"{more} over {prefix:,}, ms", "over nothing + reading")  # fmt: skip
    table(f"prefill, {shape}" + (": four layers, no head" if every else ""), columns, shown)
    own = rows[0]["prompt_ids_s"]["median"]
    print(f"{OURS}: {plain(own * work / count / GFLOP)} GFLOP/s, counting the linears of the blocks only")
    found = {"gemm_gflop_s": round(gemm / GFLOP), "read_prefix_ms": round(1e3 * read_seconds, 2),
             "prefix_attention_ms_at_gemm_speed": round(1e3 * look / gemm, 2)}  # fmt: skip
    return {"shape": shape, "ids": count, "append": more, "prefix": prefix, **found, "rows": rows, "ours_over": ratios}


def linears(config: Any) -> list[tuple[int, int]]:
    hidden, wide = config.hidden_size, config.intermediate_size
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    layer = [(q, hidden), (kv, hidden), (kv, hidden), (hidden, q), (wide, hidden), (wide, hidden), (hidden, wide)]
    return layer * config.num_layers


def matrix_speed(hidden: int, wide: int) -> float:
    """FLOP a second of torch's bfloat16 product of 512 rows with a matrix of the MLP: the best of five."""
    x, weight = torch.randn(512, hidden).bfloat16(), torch.randn(wide, hidden).bfloat16()
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - started)
    return 2 * 512 * hidden * wide / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=tuple(SHAPES), default="0.5b")
    parser.add_argument("--ids", type=int, default=512, help="ids of the prompt")
    parser.add_argument("--append", type=int, default=64, help="ids that are appended over nothing and over the prefix")
    parser.add_argument("--prefix", type=int, default=4096)
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    finish("prefill", arguments.threads, results(arguments), arguments.results)


if __name__ == "__main__":
    main()
