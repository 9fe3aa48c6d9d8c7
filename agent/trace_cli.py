"""`longhand trace`: show, verify, replay, export and branch a run. Heavy modules are imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..engine.errors import LonghandError
from .output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..engine.engine import Engine
    from .prepare import Options
    from .trace import Recorder
    from .trace_file import Trace
    from .trace_fork import Record

trace_app = typer.Typer(help="Show, verify, replay, export or branch a recorded run.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="a trace, as --trace writes it")]
Model = Annotated[str | None, typer.Option("--model", help="checkpoint folder or hub id (default: the trace's own)")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]


@trace_app.command()
def show(
    file: File,
    html: Annotated[Path | None, typer.Option("--html", help="write one page that needs nothing else to this file "
                                              "instead of printing")] = None,
    full: Annotated[bool, typer.Option("--full", help="leave no text out")] = False,
) -> None:  # fmt: skip
    """A readable view of a run: spans, searches, the answer, and what each turn reused."""
    from .trace_file import read_trace

    trace = read_trace(file)
    if html is None:
        from .trace_show import show_trace

        show_trace(Output(), trace, full)
        return
    from .trace_page import page

    write_whole("--html", html, page(trace), [file])
    Console(stderr=True, highlight=False).print(f"{html}", style="dim", markup=False, soft_wrap=True)


@trace_app.command()
def verify(
    file: File,
    model: Model = None,
    one_session: Annotated[bool, typer.Option("--one-session", help="feed one session from position to position: "
                                              "faster, but it reuses its own cache")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Proof of reuse: compute the logits of the run from scratch and compare. Exit code 1 outside the tolerance."""
    from . import trace_verify
    from .redact import json_line
    from .trace_file import read_trace

    trace = read_trace(file)
    trace.whole_ids("verified")
    engine = engine_of(trace, model)
    limit = trace_verify.tolerance(engine)
    checked = list(trace_verify.verify(trace, engine, one_session))
    largest = max(turn.largest for turn in checked)
    agreed, positions = sum(turn.agreed for turn in checked), sum(len(turn.differences) for turn in checked)
    ok = all(turn.scaled <= limit for turn in checked)  # false for NaN too
    if as_json:
        turns = [{"turn": turn.turn, "reused": turn.reused, "max_difference": turn.largest, "scaled": turn.scaled,
                  "kl": turn.kl, "top1": turn.agreed, "positions": len(turn.differences)}
                 for turn in checked]  # fmt: skip
        print(json_line({"turns": turns, "max_difference": largest, "tolerance": limit, "top1": agreed,
                         "positions": positions, "recomputed": trace.recomputed, "ok": ok}), flush=True)  # fmt: skip
    else:
        show_checked(checked, trace, f"{'within' if ok else 'OUTSIDE'} the tolerance of {limit:g}, which grows in "
                     f"proportion for logits above 16: max difference {largest:.2g}, top-1 agrees at {agreed} of "
                     f"{positions} positions")  # fmt: skip
    if not ok:
        raise typer.Exit(1)


def show_checked(checked: list[Any], trace: Trace, verdict: str) -> None:
    from rich.table import Table

    from .trace_verify import what_is_compared

    out = Output()
    table = Table(header_style="bold", caption=f"compared: {what_is_compared(trace.header['vocab'])}, "
                  "with what a session gives that reuses nothing", caption_justify="left")  # fmt: skip
    for name in ("turn", "reused", "positions", "max difference", "KL (nats)", "top-1"):
        table.add_column(name, justify="right")
    for turn in checked:
        table.add_row(str(turn.turn), str(turn.reused), ", ".join(str(d.position) for d in turn.differences),
                      f"{turn.largest:.2g}", f"{turn.kl:.2g}", f"{turn.agreed}/{len(turn.differences)}")  # fmt: skip
    out.print(table)
    out.print(verdict, soft_wrap=True)
    if trace.state:
        out.print(trace.state, style="yellow", soft_wrap=True)


def options_of(trace: Trace, model: str | None, **more: Any) -> Options:
    """Options that load what a trace was recorded with."""
    from dataclasses import fields

    from .prepare import LOADING, Options, SearchKind

    given: dict[str, Any] = dict.fromkeys(field.name for field in fields(Options))
    given |= {"quantization": "auto", "double_quant": False, "head": "bf16", "embedding": "device"}
    kept = trace.header.get("options")
    if isinstance(kept, dict):
        given |= {name: kept[name] for name in LOADING if name in kept}
    given |= {"search": SearchKind.auto, "model": model or trace.header["name"]}
    return Options(**{**given, "max_context": trace.header["max_context"], **more})


def engine_of(trace: Trace, model: str | None) -> Engine:
    """The engine that a trace was recorded with; another checkpoint is refused."""
    from .prepare import load_engine
    from .trace_verify import check_identity
    from .view import printable

    notes = Console(stderr=True, highlight=False)
    try:
        engine, _, loaded = load_engine(options_of(trace, model), notes)
    except LonghandError as error:
        raise LonghandError(f"{trace.path}: the model that it names cannot be loaded as it was: {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise LonghandError(f"{trace.path}: line 1 is damaged: its options load no model ({error})") from None
    check_identity(trace, engine)
    notes.print(printable(loaded[0]), style="dim", markup=False, soft_wrap=True)
    return engine


def make_record(
    path: Path | None, count: int, options: dict[str, Any], beside: Iterable[Path | None] = ()
) -> Record | None:
    """What writes the --trace of each of `count` sessions; None without it. LonghandError, before anything is loaded,
    for a file that cannot be written, or that is one of those `beside`, which are read or written, too."""
    if path is None:
        return None
    from .trace_fork import numbered

    for number in range(1, count + 1):
        target = numbered(path, number)
        if target.is_dir() or not target.parent.is_dir():
            why = "is a folder" if target.is_dir() else "its folder does not exist"
            raise LonghandError(f"--trace {target}: {why}")
        refuse_over("--trace", target, beside)

    def record(number: int) -> Recorder:
        from .trace import Recorder

        return Recorder(numbered(path, number), options)

    return record


def refuse_over(option: str, target: Path, beside: Iterable[Path | None]) -> None:
    """LonghandError where a file would be written over one that is in use."""
    for other in beside:
        if other is not None and target.resolve() == other.resolve():
            raise LonghandError(f"{option} {target}: would be written over {other}; name another file")


def write_whole(option: str, path: Path, text: str, beside: Iterable[Path]) -> None:
    """Write beside and rename, so that a half-written file never bears the name; not over one of those `beside`."""
    import os
    from contextlib import suppress

    if path.is_dir() or not path.name:
        raise LonghandError(f"{option} {path}: is a folder; name a file")
    refuse_over(option, path, beside)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        raise LonghandError(f"{option} {path}: cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):
            partial.unlink()


@trace_app.command()
def replay(file: File, model: Model = None, as_json: AsJson = False) -> None:
    """Run it again with its seed and its recorded searches, offline: the same ids, or exit code 1 and where they
    differ."""
    from . import trace_replay
    from .redact import json_line, redact
    from .trace_file import read_trace
    from .view import printable

    trace = read_trace(file)
    trace.whole_ids("replayed")
    engine = engine_of(trace, model)
    found = trace_replay.replay(trace, engine)
    same = found.position is None
    if as_json:
        print(json_line({"same": same, "position": found.position, "recorded": found.recorded,
                         "replayed": found.replayed, "recomputed": found.recomputed}), flush=True)  # fmt: skip
    else:
        out = Output()
        if same:
            out.print(f"the same {found.recorded} ids; recomputed {found.recomputed}", soft_wrap=True)
        else:
            said = [f"{pair[0]} {engine.tokenizer.decode([pair[0]])!r} ({pair[1]})" if pair else "nothing"
                    for pair in (found.was, found.now)]  # fmt: skip
            out.print(redact(printable(f"first difference at position {found.position}: recorded {said[0]}, now "
                                       f"{said[1]}")), markup=False, soft_wrap=True)  # fmt: skip
        if trace.state:
            out.print(trace.state, style="yellow", soft_wrap=True)
    if not same:
        raise typer.Exit(1)


@trace_app.command()
def export(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="traces, as --trace writes them")],
    sft: Annotated[Path, typer.Option("--sft", help="file to write: a JSON line of input_ids and labels per trace")],
) -> None:
    """Training samples: input_ids, and labels with -100 on every id that the model did not sample."""
    from .trace_export import export as lines
    from .trace_file import read_trace

    text = lines(map(read_trace, files))
    write_whole("--sft", sft, text, files)
    notes = Console(stderr=True, highlight=False)
    notes.print(f"{sft}: {len(files)} samples", style="dim", markup=False, soft_wrap=True)


@trace_app.command()
def branch(
    file: File,
    turn: Annotated[int, typer.Option("--turn", help="the turn that begins with the tool response to replace")],
    response_file: Annotated[list[Path] | None, typer.Option(
        "--response-file", help="what to feed there: a JSON list of title, url and content, a line of a cassette, or "
        "plain text; may be given more than once")] = None,
    query: Annotated[list[str] | None, typer.Option(
        "--query", help="search for this there instead of what the model asked; may be given more than once")] = None,
    model: Model = None,
    search: Annotated[str, typer.Option(help="where searches go from there on, as for ask")] = "auto",
    docs: Annotated[Path | None, typer.Option(help="folder of documents to search")] = None,
    cassette: Annotated[Path | None, typer.Option(help="recorded searches to replay")] = None,
    out: Annotated[Path | None, typer.Option("--trace", help="write the first branch to this file, the others to files "
                                             "with -2, -3, ... behind its name")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """What if the tool had said something else: go on from that boundary. What comes before it is computed once."""
    from . import branch as branches
    from .branch_view import show_branches
    from .prepare import SearchKind, loading, make_search
    from .trace_file import read_trace
    from .trace_replay import agent_of

    if bool(response_file) == bool(query):
        raise LonghandError("name either --response-file or --query")
    if search not in [kind.value for kind in SearchKind]:
        raise LonghandError(f"--search {search!r} is not one of {', '.join(kind.value for kind in SearchKind)}")
    trace = read_trace(file)
    trace.whole_ids("branched")
    responses = [branches.read_response(path) for path in response_file or []]
    options = options_of(trace, model, search=SearchKind(search), docs=docs, cassette=cassette)
    count = len(responses) + len(query or [])
    record = make_record(out, count, loading(options), [file, cassette, *(response_file or [])])
    notes = Console(stderr=True, highlight=False)
    source, _ = make_search(options, notes)
    responses += [branches.searched_response(source, wanted) for wanted in query or []]
    agent = agent_of(trace, engine_of(trace, model), source)
    prefix, found = branches.branch(trace, agent, turn, responses, record)
    show_branches(Output(), prefix, found, as_json)
