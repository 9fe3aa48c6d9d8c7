"""`longhand train`: what it is told, and how it says where it stands. What trains is in agent/demo/, imported when the
command runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..engine.errors import LonghandError

if TYPE_CHECKING:
    from .demo.job import Job
    from .demo.log import Row

# Options without a default here have the recipe's, so that --resume can tell what was given.
NEW = "what is trained"
RUN = "how it runs (the result does not depend on it, but for rounding)"
WRITE = "samples instead of a training"


def option(text: str, panel: str) -> Any:
    return typer.Option(help=text.replace("[", r"\["), rich_help_panel=panel)  # else rich takes it for markup


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="folder for the checkpoint, its log and its learning curve")] = Path(
        "runs/demo"),
    resume: Annotated[bool, typer.Option("--resume", help="go on with the training that stopped in --out; options are "
                                         "those it was begun with")] = False,
    steps: Annotated[int | None, option("optimizer steps [default: 4500]", NEW)] = None,
    batches: Annotated[int | None, option("batches per step [default: 2]", NEW)] = None,
    tokens: Annotated[int | None, option("ids per batch, padding included [default: 6144]", NEW)] = None,
    start: Annotated[str | None, option("begin with this checkpoint (folder or hub id) and its tokenizer [default: a "
                                        "new model of 3.6 M parameters]", NEW)] = None,
    tokenizer: Annotated[Path | None, option("tokenizer.json of a new model [default: a new one is trained]",
                                             NEW)] = None,
    data: Annotated[list[Path] | None, option("train on the lines of this file, as `longhand trace export --sft` "
                                              "writes them; may be given more than once [default: generated runs]",
                                              NEW)] = None,
    mix: Annotated[float | None, option("share of batches from --data, the rest from generated runs [default: 1]",
                                        NEW)] = None,
    seed: Annotated[int | None, option("of the parameters and the samples [default: 20261122]", NEW)] = None,
    dtype: Annotated[str | None, option("of products: bfloat16 or float32; parameters are float32 [default: bfloat16]",
                                        NEW)] = None,
    rate: Annotated[float | None, option("factor on the learning rates; lower it with --start [default: 1]",
                                         NEW)] = None,
    decay_from: Annotated[float | None, option("part of the steps after which the rates fall [default: 0.3]",
                                               NEW)] = None,
    whole_prompt_from: Annotated[float | None, option("part of the steps after which generated runs have the whole "
                                                      "prompt before them [default: 0.5]", NEW)] = None,
    leave_out: Annotated[str | None, option("behaviours that generated runs do not show, with commas between them, as "
                                            "'two hops,limit'; a chat holds facts and talk even so [default: none]",
                                     NEW)] = None,
    copy_steps: Annotated[int | None, option("first steps, spent on copying prose [default: a new model 250 at most, "
                                             "with --start 0]", NEW)] = None,
    device: Annotated[str | None, option("cpu, cuda or cuda:N [default: a GPU if there is one]", RUN)] = None,
    processes: Annotated[int | None, option("that share the batches of a step [default: on a CPU one each, as far as "
                                            "cores go; on a GPU 1]", RUN)] = None,
    threads: Annotated[int, option("per process", RUN)] = 1,
    save_every: Annotated[int, option("steps between checkpoints, each with the state for --resume", RUN)] = 500,
    write_data: Annotated[Path | None, option("write generated runs to this file, for --data; goes with --count, "
                                              "--seed, --start and --tokenizer", WRITE)] = None,
    count: Annotated[int | None, option("how many [default: 1000]", WRITE)] = None,
) -> None:  # fmt: skip
    """Train a search agent: on runs that are generated, or on exported traces; only what the model sampled is learned.
    Ctrl-C leaves a state that --resume goes on from."""
    given = {"steps": steps, "batches": batches, "tokens": tokens, "mix": mix, "seed": seed, "dtype": dtype,
             "rate": rate, "decay_from": decay_from, "whole_prompt_from": whole_prompt_from,
             "leave_out": leave_out, "copy_steps": copy_steps}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if write_data is not None:
        for name in context.params.keys() - {"write_data", "count", "seed", "start", "tokenizer"}:
            if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE":
                raise LonghandError(f"--{name.replace('_', '-')} is about a training; --write-data only writes samples")
        write_samples(write_data, 1000 if count is None else count, seed, start, tokenizer)
        return
    if count is not None:
        raise LonghandError("--count goes with --write-data: it says how many samples to write")
    from .demo.job import new_job, resumed_job
    from .demo.train import train as run

    make = resumed_job if resume else new_job
    job = make(out, given, start, tokenizer, data or [], device=device, processes=processes, threads=threads,
               save_every=save_every)  # fmt: skip
    notes = Console(stderr=True, highlight=False)
    notes.print(summary(job), style="dim", markup=False, soft_wrap=True)
    with progress(notes, job) as report:
        done = run(job, report)
    if done < job.recipe.steps:
        notes.print(f"stopped after step {done}; go on with: longhand train --out {out} --resume", markup=False,
                    soft_wrap=True)  # fmt: skip
        raise typer.Exit(130)
    notes.print(f"{out}: trained; longhand ask --model {out} ...", markup=False, soft_wrap=True)
    draw_curve(notes, out)


def summary(job: Job) -> str:
    """What is about to be trained, in one line."""
    recipe = job.recipe
    rows = f"; samples from --data: {len(job.data):,}, in {recipe.mix:.0%} of the batches" if job.data else ""
    shared = f" in {job.processes} processes" if job.processes > 1 else ""
    return (f"{recipe.num_layers} layers of {recipe.hidden_size}, vocabulary {recipe.vocab_size:,}; "
            f"{recipe.steps:,} steps of {recipe.batches} x {recipe.tokens:,} ids{rows}; {job.device}{shared}, "
            f"{recipe.dtype}")  # fmt: skip


@contextmanager
def progress(console: Console, job: Job) -> Iterator[Callable[[Row], None]]:
    """A bar on a terminal; elsewhere a line where the log has one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    before: list[Row] = []

    def speed(row: Row) -> tuple[float, float]:
        """ids/s and seconds left, by what was trained since this began."""
        first = before[0] if before else row
        before[:] = [first]
        steps, seconds = row.step - first.step, row.seconds - first.seconds
        if not steps or not seconds:
            return 0.0, 0.0
        return (row.ids - first.ids) / seconds, (job.recipe.steps - row.step) * seconds / steps

    def line(row: Row) -> None:
        rate, left = speed(row)
        if row.step % job.log_every == 0 or row.step == job.recipe.steps:
            console.print(f"step {row.step}/{job.recipe.steps}  loss {row.loss:.4f}  hit {row.hit:.4f}  "
                          f"{rate:,.0f} ids/s  {left / 60:.0f} min left", soft_wrap=True)  # fmt: skip

    if not console.is_terminal:
        yield line
        return
    text = TextColumn("loss {task.fields[loss]:.4f}  hit {task.fields[hit]:.4f}  {task.fields[rate]:,.0f} ids/s")
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), text, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=job.recipe.steps, loss=0.0, hit=0.0, rate=0.0)

        def move(row: Row) -> None:
            bar.update(task, completed=row.step, loss=row.loss, hit=row.hit, rate=speed(row)[0])

        yield move


def draw_curve(notes: Console, out: Path) -> None:
    """The learning curve, or a line about why there is none: the checkpoint is there all the same."""
    from .demo.curve import draw

    try:
        said = f"learning curve: {', '.join(map(str, draw(out)))}"
    except LonghandError as error:
        said = str(error)
    notes.print(said, style="dim", markup=False, soft_wrap=True)


def write_samples(path: Path, count: int, seed: int | None, start: str | None, tokenizer: Path | None) -> None:
    """--write-data: generated runs as lines, and the tokenizer beside them if it was trained for them."""
    from .demo.data import write_data
    from .demo.job import choose_tokenizer, open_start
    from .demo.pages import read_prose
    from .demo.recipe import Recipe
    from .view import progress as bar

    if count < 1:
        raise LonghandError(f"--count must be 1 or more, not {count}")
    if path.is_dir() or not path.parent.is_dir():
        raise LonghandError(f"--write-data {path}: {'is a folder' if path.is_dir() else 'its folder does not exist'}")
    seed = Recipe.seed if seed is None else seed
    folder, _ = open_start(start)
    text, loaded = choose_tokenizer(Recipe.vocab_size, seed, folder, tokenizer)
    notes = Console(stderr=True, highlight=False)
    with bar(notes, "writing", "samples") as report:
        write_data(path, count, loaded, read_prose(), seed, lambda done: report(done, count))
    how = f"--start {start}" if start else f"--tokenizer {tokenizer}"
    if start is None and tokenizer is None:
        beside = path.with_name(f"{path.stem}.tokenizer.json")
        beside.write_text(text, "utf-8")
        how = f"--tokenizer {beside}"
    notes.print(f"{path} (samples: {count:,}); longhand train --data {path} {how}", markup=False, soft_wrap=True)
