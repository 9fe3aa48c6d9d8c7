"""Decode speed: `python benchmarks/decode.py [--shape 0.5b|32b|builtin] [--contexts 64,1024,4096] [--peers auto]`.

One id reads every weight and every cached key and value once, so memory bandwidth is the ceiling. It is measured before
each block, printed first, and each engine's share of it is printed next to its tokens a second. Greedy ids,
one at a time, and `--ids` at a time: what a forward of 8 costs over a forward of 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from longhand import DEMO, Engine, SamplingParams
from longhand.engine.loops import LoopDetector
from peers import OURS, Runner, add_arguments, make_runners
from shapes import SHAPES
from timing import Series, between, finish, in_turns, ratio, read_bandwidth, short, table

BLOCK_SECONDS = 0.4
MAX_STEPS = 24


def decode_block(runner: Runner, context: int, ids: int) -> Callable[[], float]:
    """A block that returns the seconds of one forward of `ids` ids behind `context` cached ones."""

    def steps(count: int) -> float:
        runner.seek(context)
        token = 1
        started = time.perf_counter()
        for _ in range(count):
            token = runner.run([token % 256] * ids, ids)
        return (time.perf_counter() - started) / count

    steps(2)
    count = max(2, min(MAX_STEPS, int(BLOCK_SECONDS / steps(2))))
    return lambda: steps(count)


def measure(runners: dict[str, Runner], context: int, ids: Sequence[int], rounds: int) -> dict[tuple[str, int], Series]:
    blocks = {(name, n): decode_block(runner, context, n) for n in ids for name, runner in runners.items()}
    by_label = in_turns({f"{name}|{n}": block for (name, n), block in blocks.items()}, rounds)
    return {key: by_label[f"{key[0]}|{key[1]}"] for key in blocks}


def shape_results(arguments: argparse.Namespace) -> dict[str, Any]:
    shape, contexts = arguments.shape, [int(value) for value in arguments.contexts.split(",")]
    ids = sorted({1, *(int(value) for value in arguments.ids.split(","))})
    runners = make_runners(shape, arguments.peers, arguments.threads)
    bandwidth = statistics.median(read_bandwidth() for _ in range(5))
    ours, layers = runners[OURS], SHAPES[shape].num_layers
    per_id = "a forward of its 4 layers" if shape == "32b" else "an id"
    print(f"\nread bandwidth {bandwidth / 1e9:.1f} GB/s, {arguments.threads} threads: the ceiling of {OURS}")
    for context in contexts:
        num_bytes = ours.weight_bytes + context * ours.kv_bytes
        print(f"  context {context:5}: {num_bytes / 1e6:,.1f} MB {per_id}, {bandwidth / num_bytes:,.1f} tok/s")
    print()
    rows, shown, ratios, many = [], [], [], []
    for context in contexts:
        series = measure(runners, context, ids, arguments.repeats)
        for name, runner in runners.items():
            one = series[name, 1]
            num_bytes = runner.weight_bytes + (context + 1) * runner.kv_bytes
            speed, share = one.of(lambda seconds: 1 / seconds), one.fraction(num_bytes)
            row = {
                "engine": name, "weights": runner.note, "context": context, "bytes": num_bytes, "tok_s": speed,
                "fraction_of_bandwidth": short(share), "bandwidth_gb_s": short(statistics.median(one.bandwidth) / 1e9),
                "ms_per_layer": one.of(lambda seconds: 1e3 * seconds / layers),
            }  # fmt: skip
            rows.append(row)
            ahead = ratio(series[OURS, 1], one)
            if name != OURS:
                ratios.append({"peer": name, "context": context, **ahead})
            costs = []
            for n in ids[1:]:
                cost = ratio(one, series[name, n])
                many.append({"engine": name, "context": context, "ids": n, **cost})
                costs.append(f"{cost['median']:.2f}")
            shown.append(
                (name, str(context), f"{num_bytes / 1e6:,.0f}", between(speed),
                 f"{row['ms_per_layer']['median']:.2f}", f"{share:.2f}", "" if name == OURS else between(ahead),
                 *costs)
            )  # fmt: skip
    columns = ["", "context", "MB read", "tok/s", "ms a layer", "of bandwidth", "ours is x as fast"]
    title = f"decode, {shape}" + (": tok/s of four layers, no head" if shape == "32b" else "")
    table(title, [*columns, *(f"T({n})/T(1)" for n in ids[1:])], shown)
    return {"shape": shape, "rows": rows, "ours_over": ratios, "many_ids": many}


def builtin_results(arguments: argparse.Namespace) -> dict[str, Any]:
    """`Session.generate` of the built-in model, with one thread and with more."""
    engine, count = Engine.from_pretrained(DEMO, device="cpu"), 128
    prompt = engine.tokenizer.encode_literal("QwQ-32B is an open reasoning model of the Qwen team. " * 4)[:64]
    never = LoopDetector(min_ids=1 << 30)

    def block(threads: int) -> Callable[[], float]:
        def run() -> float:
            torch.set_num_threads(threads)
            session = engine.session()
            session.feed(prompt)
            for _ in session.generate(count, (), SamplingParams(temperature=0), never):
                pass
            if session.turns[-1].sampled != count:
                raise SystemExit(f"{session.turns[-1].sampled} ids of {count}: {session.finish_reason}")
            return session.turns[-1].decode_seconds / (count - 1)  # the first id's forward is the prompt's

        return run

    kinds = sorted({1, arguments.threads})
    series = in_turns({str(threads): block(threads) for threads in kinds}, arguments.repeats)
    speeds = {threads: series[str(threads)].of(lambda seconds: 1 / seconds) for threads in kinds}
    num_bytes = sum(p.numel() * p.element_size() for p in engine.decoder.parameters())
    print(
        f"{num_bytes / 1e6:.1f} MB of {engine.dtype} weights: they stay in the CPU's cache, so there is no ceiling here"
    )
    table("decode, the built-in model", ["threads", "tok/s"], [(str(t), between(speeds[t])) for t in kinds])
    return {"shape": "builtin", "rows": [{"engine": OURS, "threads": t, "tok_s": speeds[t]} for t in kinds]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=(*SHAPES, "builtin"), default="0.5b")
    parser.add_argument("--contexts", default="64,1024,4096", help="ids cached before")
    parser.add_argument("--ids", default="1,8", help="ids forwarded at once")
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = builtin_results(arguments) if arguments.shape == "builtin" else shape_results(arguments)
    finish("decode", arguments.threads, results, arguments.results)


if __name__ == "__main__":
    main()
