"""`longhand bench`: what keeping the cache across tool turns saves, as tables, JSON and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ..engine.errors import LonghandError

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from .replay_modes import Measured, Turn

app = typer.Typer(help="Measure what keeping the cache across tool turns saves.", no_args_is_help=True)
DOCS = Path(__file__).parent / "demo" / "docs"
CAPTION = (
    "times: of append. differs: at the first id that is not the run's.\n"
    "lost: ids that were fed and never reach the model.\n"
    "KL: of the first id's distribution from append's, in nats."
)
QUESTION = "How many layers does QwQ-32B have?"


@app.callback()
def bench() -> None:
    """Keeps `turns` a command of its own."""


@app.command()
def turns(
    question: Annotated[str, typer.Argument(help="asked once, and the run replayed")] = QUESTION,
    model: Annotated[str | None, typer.Option(help="checkpoint folder or hub id (default: the built-in model)")] = None,
    trace: Annotated[Path | None, typer.Option(help="replay this recorded run instead of asking")] = None,
    made_up: Annotated[int, typer.Option(help="replay a made-up run of so many turns instead of asking")] = 0,
    prompt: Annotated[int, typer.Option(help="of a made-up run: ids of the prompt")] = 600,
    thinking: Annotated[int, typer.Option(help="of a made-up run: ids sampled in each turn")] = 80,
    response: Annotated[int, typer.Option(help="of a made-up run: ids of each tool response")] = 300,
    prefixes: Annotated[str, typer.Option(help="prefix lengths for the sweep, with commas; '' for none")] = "",
    modes: Annotated[str, typer.Option(help="some of append,re-encode,re-tokenize,re-template,notebook")] = "",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N")] = None,
    plots: Annotated[Path | None, typer.Option(help="write pictures (PNG and SVG) to this folder")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON line and nothing else")] = False,
) -> None:
    """Replay a run with tool turns as an engine that appends, and as stacks that encode their history anew."""
    from .. import DEMO
    from ..engine.engine import Engine
    from .replay_modes import MODES

    wanted = [mode.strip() for mode in modes.split(",") if mode.strip()] or list(MODES)
    lengths = whole_numbers(prefixes, "--prefixes")
    if plots is not None:
        from .bench_plot import require_matplotlib

        require_matplotlib()
        if plots.exists() and not plots.is_dir():
            raise LonghandError(f"--plots {plots}: is not a folder")
    engine = Engine.from_pretrained(DEMO if model is None else model, device=device)
    plan = make_plan(engine, question, trace, made_up, prompt, thinking, response)
    report = measure(engine, plan, wanted, lengths)
    if not as_json:
        show(report, Console())
    if plots is not None:
        from .bench_plot import draw

        for path in draw(report, plots):
            Console(stderr=True).print(f"written: {path}", style="dim", soft_wrap=True)
    print(json.dumps(report))


def whole_numbers(text: str, option: str) -> list[int]:
    """'0,1024' as numbers; LonghandError names the option."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise LonghandError(f"{option} {text!r}: wants whole numbers with commas between them, such as 0,1024,4096")
    return [int(part) for part in parts]


def make_plan(
    engine: Engine, question: str, trace: Path | None, made_up: int, prompt: int, thinking: int, response: int
) -> list[Turn]:
    """The run to replay: recorded, made up, or asked now."""
    from . import replay_modes

    if trace is not None and made_up:
        raise LonghandError("--trace and --made-up: one run is replayed, choose one")
    if trace is not None:
        return replay_modes.plan_of(read_spans(trace, engine))
    if made_up:
        return replay_modes.made_up(engine, corpus(), made_up, prompt, thinking, response)
    from .agent import Agent
    from .docs import DocsSearch

    answer = Agent(engine, DocsSearch(DOCS)).ask(question)
    return replay_modes.plan_of([(span["source"], span["ids"]) for span in answer.trace])


def corpus() -> str:
    """The built-in documents, as text to fill prompts with."""
    return "\n".join(path.read_text("utf-8") for path in sorted(DOCS.glob("*.md")))


def read_spans(path: Path, engine: Engine) -> list[tuple[str, list[int]]]:
    """Source and ids of each span of a trace; LonghandError where it is none, or of another vocabulary."""
    from .trace_file import read_trace

    recorded = read_trace(path)
    recorded.whole_ids("replayed")
    spans = [(span.source, span.ids) for span in recorded.spans]
    unknown = next((i for _, ids in spans for i in ids if not engine.defines(i)), None)
    if unknown is not None:
        raise LonghandError(
            f"--trace {path}: id {unknown} is none of {engine.name}'s; give the --model it was made with"
        )
    return spans


def measure(
    engine: Engine,
    plan: Sequence[Turn],
    modes: Sequence[str],
    prefixes: Sequence[int] = (),
    checks: Sequence[int] = (256, 512, 1024),
) -> dict[str, Any]:
    """Everything that the table and the pictures show, as one object for JSON."""
    from .. import DEMO
    from ..engine.memory import read_bandwidth
    from . import replay_modes

    rows = replay_modes.replay(engine, plan, modes)
    name = "the built-in model" if engine.name == str(DEMO) else engine.name
    room = engine.new_cache().max_context - 64
    lengths = [length for length in prefixes if length <= room]
    return {
        "model": name, "device": str(engine.device), "quantization": engine.quantization,
        "dtype": str(engine.dtype).removeprefix("torch."),
        "kv_bytes_per_id": engine.new_cache().bytes_per_token, "bandwidth": read_bandwidth(engine.device),
        "plan": [{"fed": len(turn.fed), "sampled": len(turn.sampled)} for turn in plan],
        "turns": [vars(row) for row in rows],
        "totals": {mode: totals([row for row in rows if row.mode == mode]) for mode in modes},
        "sweep": replay_modes.sweep(engine, corpus(), lengths) if lengths else [],
        "stop_checks": replay_modes.stop_checks(engine, corpus(), checks),
    }  # fmt: skip


def totals(rows: Sequence[Measured]) -> dict[str, float]:
    return {name: sum(getattr(row, name) for row in rows) for name in ("computed", "lost", "seconds")}


def show(report: dict[str, Any], console: Console) -> None:
    """The report as tables."""
    kind = report["quantization"] or report["dtype"]
    console.print(f"{report['model']} on {report['device']}, {kind}", markup=False, highlight=False)
    table = Table(title="time to the first id of each turn", caption=CAPTION, caption_justify="left", box=SIMPLE_HEAD,
                  collapse_padding=True, pad_edge=False)  # fmt: skip
    for name in ("turn", "mode", "computed", "reused", "lost", "ms", "times", "differs", "KL"):
        table.add_column(name, justify="left" if name == "mode" else "right", no_wrap=True)
    first = {row["turn"]: row["seconds"] for row in report["turns"] if row["mode"] == "append"}
    before = None
    for row in report["turns"]:
        times = f"{row['seconds'] / first[row['turn']]:.1f}" if row["turn"] in first else "-"
        drift = "-" if row["drift"] is None else str(row["drift"])
        said = ["ends", "-", drift, "-"] if row["error"] else [f"{row['seconds'] * 1e3:.1f}", times, drift,
                                                               f"{row['divergence']:.2g}"]  # fmt: skip
        table.add_row(str(row["turn"]) if row["turn"] != before else "", row["mode"], str(row["computed"]),
                      str(row["reused"]), str(row["lost"]), *said)  # fmt: skip
        before = row["turn"]
    for mode, total in report["totals"].items():
        table.add_row("all", mode, str(total["computed"]), "", str(total["lost"]),
                      f"{total['seconds'] * 1e3:.1f}", "", "", "")  # fmt: skip
    console.print(table)
    for row in report["turns"]:
        if row["error"]:
            console.print(f"{row['mode']} ends in turn {row['turn']}: {row['error']}", markup=False, highlight=False)
    if report["sweep"]:
        table = Table(title=f"{report['sweep'][0]['appended']} ids behind a prefix")
        for name in ("prefix", "appended", "encoded anew", "times"):
            table.add_column(name, justify="right")
        for row in report["sweep"]:
            table.add_row(f"{row['prefix']:,}", f"{row['append_seconds'] * 1e3:.1f} ms",
                          f"{row['reencode_seconds'] * 1e3:.1f} ms",
                          f"{row['reencode_seconds'] / row['append_seconds']:.1f}")  # fmt: skip
        console.print(table)
    table = Table(title="telling that a call has ended, over a whole turn")
    for name in ("ids", "by id", "by pattern in the decoded text"):
        table.add_column(name, justify="right")
    for row in report["stop_checks"]:
        table.add_row(str(row["ids"]), f"{row['by_id_seconds'] * 1e3:.3f} ms", f"{row['by_text_seconds'] * 1e3:.1f} ms")
    console.print(table)
