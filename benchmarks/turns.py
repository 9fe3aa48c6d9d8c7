"""What a tool turn costs, by who keeps the cache: `python benchmarks/turns.py [--shape 0.5b|builtin] [--plots FOLDER]`.

A made-up run (a prompt, then turns of thinking, a call and a tool response) is replayed by Longhand in four ways, see
agent/replay_modes.py, and by peers that keep their cache: transformers with one cache that is appended to, and
llama.cpp with its cells kept. All get the same counts of ids. Then a sweep: 64 ids behind a growing prefix, appended
and encoded anew. The 0.5B shape has random weights: its times count, its KL says nothing.

Prints tables, then one JSON line.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from longhand import DEMO, Engine
from longhand.agent import bench, replay_modes
from longhand.agent.bench_plot import draw
from longhand.agent.replay_modes import Turn
from longhand.engine.checkpoint import Checkpoint
from peers import OURS, LlamaCpp, Runner, make_runners
from rich.console import Console
from shapes import CONTEXT, CPU, SHAPES, our_decoder
from timing import SETTLE_SECONDS, finish, table


def random_engine(shape: str) -> Engine:
    """An engine of this shape with random weights, and the built-in model's tokenizer."""
    tokenizer = Checkpoint(DEMO).tokenizer
    return Engine(our_decoder(SHAPES[shape]), tokenizer, CPU, torch.bfloat16, torch.bfloat16, CONTEXT + 1024, "nf4",
                  "random", f"random weights in the {shape} shape")  # fmt: skip


def start_over(runner: Runner, room: int) -> None:
    """An empty cache with room for so many ids; llama.cpp's contexts have a size."""
    if not isinstance(runner, LlamaCpp):
        runner.seek(0)
        return
    runner.seek(room)
    runner.api.llama_memory_seq_rm(runner.api.llama_get_memory(runner.context), 0, 0, -1)
    runner.position = 0


def replay_peer(runner: Runner, plan: Sequence[Turn]) -> list[dict[str, Any]]:
    """Seconds to the first id of each turn, with the cache kept."""
    start_over(runner, sum(len(turn.fed) + len(turn.sampled) for turn in plan))
    rows: list[dict[str, Any]] = []
    pending: list[int] = []
    at = 0
    for number, turn in enumerate(plan, 1):
        ids = [*pending, *turn.fed]
        time.sleep(SETTLE_SECONDS)
        started = time.perf_counter()
        for start in range(0, len(ids), 512):
            runner.run(ids[start : start + 512])
        rows.append({"turn": number, "computed": len(ids), "reused": at, "seconds": time.perf_counter() - started})
        runner.run(turn.sampled[:-1])
        at, pending = at + len(ids) + len(turn.sampled) - 1, list(turn.sampled[-1:])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=("0.5b", "builtin"), default="0.5b")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--thinking", type=int, default=256)
    parser.add_argument("--response", type=int, default=512)
    parser.add_argument("--prefixes", default="0,1024,2048,4096,8192")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default="transformers,llama.cpp Q4_0", help="auto, none or names; not for builtin")
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    engine = Engine.from_pretrained(DEMO, device="cpu") if arguments.shape == "builtin" else random_engine("0.5b")
    plan = replay_modes.made_up(engine, bench.corpus(), arguments.turns, arguments.prompt, arguments.thinking,
                                arguments.response)  # fmt: skip
    replay_modes.replay(engine, plan[:1])  # warm
    report = bench.measure(engine, plan, replay_modes.MODES, bench.whole_numbers(arguments.prefixes, "--prefixes"),
                           checks=(256, 1024, 4096))  # fmt: skip
    bench.show(report, Console(width=100))
    report["peers"] = {}
    if arguments.shape != "builtin" and arguments.peers != "none":
        runners = make_runners(arguments.shape, arguments.peers, arguments.threads)
        for runner in runners.values():
            replay_peer(runner, plan[:1])  # warm
        report["peers"] = {name: replay_peer(runner, plan) for name, runner in runners.items()}
        rows = [[name, *(f"{row['seconds'] * 1e3:.0f} ms" for row in turns)] for name, turns in report["peers"].items()]
        columns = ["cache kept", *(f"turn {turn + 1}" for turn in range(len(plan)))]
        table(f"the same turns, by engine ({OURS} without its session)", columns, rows)
    if arguments.plots is not None:
        for path in draw(report, arguments.plots):
            print(path)
    finish("turns", arguments.threads, report, arguments.results)


if __name__ == "__main__":
    main()
