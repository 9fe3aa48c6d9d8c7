"""What a tool turn costs, by who keeps the cache: `python benchmarks/turns.py [--shape 0.5b|builtin] [--plots FOLDER]`.

A made-up run (a prompt, then turns of thinking, a call and a tool response) is replayed by Longhand in five ways, see
agent/replay_modes.py, and by peers that keep their cache: transformers with one cache that is appended to, llama.cpp
with its cells kept, and transformers as the seed's notebook drives it (notebook.py). All get the same ids. Then a
sweep: 64 ids behind a growing prefix, appended and encoded anew. The 0.5B shape has random weights: its times count,
its KL says nothing.

Prints tables, then one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
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
from longhand.engine.errors import LonghandError
from notebook import replay_notebook
from peers import OURS, LlamaCpp, Runner, Transformers, check_installed, make_runners
from rich.console import Console
from shapes import CONTEXT, CPU, SHAPES, our_decoder, transformers_model
from timing import SETTLE_SECONDS, finish, table

NOTEBOOK = "notebook"


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


def run_notebook(shape: str, runners: dict[str, Runner], engine: Engine, plan: Sequence[Turn]) -> list[dict[str, Any]]:
    """The notebook's loop: on the built-in model, or on the random one that is there already."""
    if shape == "builtin":
        from transformers import Qwen2ForCausalLM

        model = Qwen2ForCausalLM.from_pretrained(DEMO, dtype=torch.float32).eval()
    else:
        runner = runners.get("transformers")
        model = runner.model if isinstance(runner, Transformers) else transformers_model(SHAPES[shape], nf4=False)
    replay_notebook(model, engine, plan[:1], same_weights=False)  # warm
    return replay_notebook(model, engine, plan, same_weights=shape == "builtin")


def show_notebook(rows: Sequence[dict[str, Any]]) -> None:
    columns = ["turn", "computed", "reused", "lost", "differs", "positions", "first id", "stop checks", "KL"]
    said = []
    for row in rows:
        ended = ["-", "ends", "-", "-"]
        shift = f"{row['position_shift']} too low" if row["position_shift"] else "right"
        kl = "-" if row["divergence"] is None else f"{row['divergence']:.2g}"
        times = [f"{row[name] * 1e3:.0f} ms" for name in ("seconds", "stop_check_seconds")]
        said.append([*(str(row[name]) for name in ("turn", "computed", "reused", "lost")),
                     "-" if row["drift"] is None else str(row["drift"]),
                     *(ended if row["error"] else [shift, *times, kl])])  # fmt: skip
    table("the notebook's loop on transformers' generate", columns, said)
    for row in rows:
        if row["error"]:
            print(f"ends in turn {row['turn']}: {row['error']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=("0.5b", "builtin"), default="0.5b")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--thinking", type=int, default=256)
    parser.add_argument("--response", type=int, default=512)
    parser.add_argument("--prefixes", default="0,1024,2048,4096,8192")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", default="transformers,notebook,llama.cpp Q4_0",
                        help="auto, none or names; for builtin, notebook alone")  # fmt: skip
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--results", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = [name.strip() for name in arguments.peers.split(",")]
    others = [name for name in names if name != NOTEBOOK]
    if arguments.shape != "builtin":
        check_installed([name for name in others if name not in ("none", "auto")])
    engine = Engine.from_pretrained(DEMO, device="cpu") if arguments.shape == "builtin" else random_engine("0.5b")
    try:
        plan = replay_modes.made_up(engine, bench.corpus(), arguments.turns, arguments.prompt, arguments.thinking,
                                    arguments.response)  # fmt: skip
    except LonghandError as error:
        parser.error(str(error))
    replay_modes.replay(engine, plan[:1])  # warm
    report = bench.measure(engine, plan, replay_modes.MODES, bench.whole_numbers(arguments.prefixes, "--prefixes"),
                           checks=(256, 1024, 4096))  # fmt: skip
    bench.show(report, Console(width=100))
    report["peers"], runners = {}, {}
    if arguments.shape != "builtin" and others not in ([], ["none"]):
        runners = make_runners(arguments.shape, ",".join(others), arguments.threads)
        for runner in runners.values():
            replay_peer(runner, plan[:1])  # warm
        report["peers"] = {name: replay_peer(runner, plan) for name, runner in runners.items()}
        rows = [[name, *(f"{row['seconds'] * 1e3:.0f} ms" for row in turns)] for name, turns in report["peers"].items()]
        columns = ["cache kept", *(f"turn {turn + 1}" for turn in range(len(plan)))]
        table(f"the same turns, by engine ({OURS} without its session)", columns, rows)
    if NOTEBOOK in names or (names == ["auto"] and importlib.util.find_spec("transformers") is not None):
        report["notebook"] = run_notebook(arguments.shape, runners, engine, plan)
        show_notebook(report["notebook"])
    if arguments.plots is not None:
        for path in draw(report, arguments.plots):
            print(path)
    finish("turns", arguments.threads, report, arguments.results)


if __name__ == "__main__":
    main()
