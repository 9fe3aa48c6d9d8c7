"""The command line: `longhand ask`, `chat`, `fit`, `quantize`, `train`, `trace` and `bench`. Heavy modules are imported
when a command runs."""

from __future__ import annotations

import io
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..engine.errors import LonghandError
from .ask import as_object, print_memory, run_question
from .bench import app as bench_app
from .output import Output
from .prepare import QWQ, Options, SearchKind, loading, make_agent, none_or
from .trace_cli import make_record, trace_app
from .train_cli import train

# Click's UsageError, or that of the copy of click within newer versions of typer.
UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # type: ignore[assignment]

app = typer.Typer(
    help="A token-level inference engine for QwQ-32B (Qwen2), and the search agent that runs on it.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
app.add_typer(trace_app, name="trace")
app.add_typer(bench_app, name="bench")

Model = Annotated[str | None, typer.Option(help=f"checkpoint folder or hub id (default: {QWQ} where a CUDA GPU and a "
                                                "local copy are, else the built-in model)")]  # fmt: skip
SearchOption = Annotated[SearchKind, typer.Option("--search", help="auto: docs if --docs is given, else tavily if "
                                                  "TAVILY_API_KEY is set, else the built-in documents")]  # fmt: skip
Docs = Annotated[Path | None, typer.Option(help="folder of .md, .txt and .html files to search")]
Cassette = Annotated[Path | None, typer.Option(help="recorded searches to replay (with --search replay)")]
Record = Annotated[Path | None, typer.Option(help="append every search to this file, for --search replay")]
MaxSearches = Annotated[int, typer.Option(help="searches per question")]
MaxResults = Annotated[int | None, typer.Option(help="results per search (default: 3 for docs, 5 for tavily)")]
Thinking = Annotated[int | None, typer.Option(help="ids of thinking per question (default: no limit)")]
AnswerIds = Annotated[int, typer.Option("--answer", help="ids of answer per question")]
Temperature = Annotated[float, typer.Option(help="0 is greedy")]
TopP = Annotated[float, typer.Option(help="smallest set of ids with this probability")]
TopK = Annotated[int, typer.Option(help="most probable ids only; 0 for all")]
MinP = Annotated[float, typer.Option(help="ids with at least this share of the best one's probability")]
Seed = Annotated[int, typer.Option(help="equal seeds give equal answers")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N")]
Quantization = Annotated[str, typer.Option(help="auto (nf4 above a billion parameters), nf4 or none")]
DoubleQuant = Annotated[bool, typer.Option("--double-quant/--no-double-quant", help="with nf4: absmax in 8 bits too")]
Head = Annotated[str, typer.Option(help="lm_head beside nf4 linears: nf4 or bf16 (as it is stored)")]
Embedding = Annotated[str, typer.Option(help="device, or host: its rows are gathered from host memory")]
KVDtype = Annotated[str | None, typer.Option("--kv-dtype", help="of the KV cache: float32, bfloat16, float16 or int8 "
                                             "(default: that of activations)")]  # fmt: skip
MaxContext = Annotated[int | None, typer.Option(help="ids that a session may hold (default: the model's limit, or what "
                                                "fits in memory)")]  # fmt: skip
Yarn = Annotated[float | None, typer.Option(help="YaRN by this factor, for long contexts: 4 on QwQ-32B")]
Trace = Annotated[Path | None, typer.Option(help="write the run to this file, as JSON lines")]
Samples = Annotated[int, typer.Option(help="answers to compare, each from a fork behind the prompt with the next seed; "
                                      "the prompt is computed once. --trace: a file each, with -2, -3, ... behind the "
                                      "name")]  # fmt: skip
ChatTrace = Annotated[Path | None, typer.Option("--trace", help="write the session to this file, as JSON lines; what "
                                                "follows /new to a file with -2, -3, ... behind its name")]  # fmt: skip
Verbose = Annotated[bool, typer.Option("--verbose", help="end with the memory that was predicted, and the peak")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]


class Head4(str, Enum):
    nf4 = "nf4"
    bf16 = "bf16"


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="the question; '-' reads it from standard input")],
    model: Model = None, search: SearchOption = SearchKind.auto, docs: Docs = None, cassette: Cassette = None,
    record: Record = None, max_searches: MaxSearches = 5, max_results: MaxResults = None, thinking: Thinking = None,
    answer: AnswerIds = 2048, temperature: Temperature = 0.6, top_p: TopP = 0.95, top_k: TopK = 40,
    min_p: MinP = 0.0, seed: Seed = 0, device: Device = None, quantization: Quantization = "auto",
    double_quant: DoubleQuant = False, head: Head = "bf16", embedding: Embedding = "device",
    kv_dtype: KVDtype = None, max_context: MaxContext = None, yarn: Yarn = None,
    trace: Trace = None, samples: Samples = 1, as_json: AsJson = False, verbose: Verbose = False,
) -> None:  # fmt: skip
    """Ask one question and get an answer with citations."""
    options = Options(model, search, docs, cassette, record, max_searches, max_results, thinking, answer,
                      temperature, top_p, top_k, min_p, seed, device, quantization, double_quant, head,
                      embedding, kv_dtype, max_context, yarn)  # fmt: skip
    out, notes = Output(), Console(stderr=True, highlight=False)
    from .agent import check_question

    question = check_question(sys.stdin.read(1_000_000) if question == "-" else question)
    if samples < 1:
        raise LonghandError(f"--samples must be a whole number, 1 or more, not {samples}")
    traces = make_record(trace, samples, loading(options), [cassette, record])
    agent, memory = make_agent(options, notes)
    if samples > 1:
        from .branch import fork_samples
        from .branch_view import show_branches

        show_branches(out, *fork_samples(agent, question, samples, traces), as_json=as_json)
        if verbose and not as_json:
            print_memory(out, memory.as_dict(agent.session))
        return
    recorder = None if traces is None else traces(1)
    result, interrupted = run_question(agent, question, None if as_json else out, recorder=recorder)
    if as_json:
        from .redact import json_line

        print(json_line(as_object(result, agent, memory)), flush=True)
    elif verbose:
        print_memory(out, memory.as_dict(agent.session))
    if interrupted:
        raise typer.Exit(130)


@app.command()
def chat(
    model: Model = None, search: SearchOption = SearchKind.auto, docs: Docs = None, cassette: Cassette = None,
    record: Record = None, max_searches: MaxSearches = 5, max_results: MaxResults = None, thinking: Thinking = None,
    answer: AnswerIds = 2048, temperature: Temperature = 0.6, top_p: TopP = 0.95, top_k: TopK = 40,
    min_p: MinP = 0.0, seed: Seed = 0, device: Device = None, quantization: Quantization = "auto",
    double_quant: DoubleQuant = False, head: Head = "bf16", embedding: Embedding = "device",
    kv_dtype: KVDtype = None, max_context: MaxContext = None, yarn: Yarn = None, trace: ChatTrace = None,
) -> None:  # fmt: skip
    """Ask many questions over one session: what was said before stays in the cache."""
    options = Options(model, search, docs, cassette, record, max_searches, max_results, thinking, answer,
                      temperature, top_p, top_k, min_p, seed, device, quantization, double_quant, head,
                      embedding, kv_dtype, max_context, yarn)  # fmt: skip
    out, notes = Output(), Console(stderr=True, highlight=False)
    traces = make_record(trace, 1, loading(options), [cassette, record])
    agent, _ = make_agent(options, notes)
    notes.print("[dim]an empty line or Ctrl-D ends the chat, Ctrl-C ends an answer, /new starts a new session[/]")
    session, sessions = None, 1
    recorder = None if traces is None else traces(1)
    while True:
        try:
            question = out.input("\n[bold]> [/]").strip()
        except (EOFError, KeyboardInterrupt):
            out.print()
            return
        if not question:
            return
        if question == "/new":
            session, sessions = None, sessions + 1
            recorder = None if traces is None else traces(sessions)
            continue
        before = agent.current
        try:
            run_question(agent, question, out, session, recorder)
            session = agent.session
        except LonghandError as error:
            if getattr(error, "fatal", False):
                raise
            if agent.current not in (None, before):
                session = agent.session  # the question was fed before it failed; what comes next goes on behind it
            notes.print(one_line(error), markup=False, style="red", soft_wrap=True)


@app.command()
def fit(
    model: Annotated[str, typer.Argument(help="checkpoint folder, config.json or hub id; no weights are read")],
    memory: Annotated[str | None, typer.Option(help="what the device has, as 24GiB, 24GB or 23.5G (as GiB) "
                                               "(default: what it has free now)")] = None,
    context: Annotated[int | None, typer.Option(help="ids of the session that is to fit (default: 512)")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; with --memory also a GPU that is not "
                                               "here")] = None,
    quantization: Quantization = "auto", double_quant: DoubleQuant = False, head: Head = "bf16",
    embedding: Embedding = "device", kv_dtype: KVDtype = None, yarn: Yarn = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """What a model needs on a device and the largest context that is safe, before any weight is read."""
    from ..engine.fit import fit_model
    from ..engine.hub import resolve_config
    from .redact import json_line
    from .sizes import advice, parse_size, show_fit

    given = None if memory is None else parse_size(memory)
    found = fit_model(resolve_config(model, or_file=True), device, none_or(quantization), kv_dtype, double_quant, head,
                      embedding, given, context, yarn)  # fmt: skip
    if found is None:
        raise LonghandError("the free memory cannot be told here: name a size with --memory")
    if as_json:
        print(json_line({**found.as_dict(), "model": model}), flush=True)
        return
    out = Output()
    show_fit(out, found, model)
    if not found.fits:
        out.print(f"does not fit: {advice(found)}", soft_wrap=True)


@app.command()
def quantize(
    source: Annotated[str, typer.Argument(metavar="SRC", help="unquantized checkpoint folder or hub id")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="new folder for the 4-bit copy")],
    double_quant: Annotated[bool, typer.Option("--double-quant/--no-double-quant", help="absmax in 8 bits too")] = True,
    head: Annotated[Head4, typer.Option(help="of an untied lm_head: nf4, or bf16 (as it is stored)")] = Head4.bf16,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
) -> None:
    """Write a 4-bit (NF4) copy that Longhand and transformers load; goes on where it was interrupted."""
    from ..engine.checkpoint import Quantize
    from ..engine.hub import resolve
    from ..engine.memory import gib
    from ..engine.options import choose_device
    from ..engine.quantize import quantize_checkpoint
    from .view import progress

    notes = Console(stderr=True, highlight=False)
    on, folder = choose_device(device), resolve(source)
    with progress(notes, "quantizing", "bytes") as report:
        quantize_checkpoint(folder, target, Quantize(double_quant, head is Head4.nf4), str(on), report)
    size = sum(path.stat().st_size for path in target.glob("*.safetensors"))
    notes.print(f"{target}: {gib(size)} in 4 bits; longhand ask --model {target} ...", markup=False, style="dim")


app.command()(train)


def print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"longhand {__version__}")
        raise typer.Exit()


@app.callback()
def longhand(
    version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    pass


def one_line(error: Exception | str) -> str:
    """What a person is told of an error: one line that holds no secret and steers no terminal."""
    from .redact import redact
    from .view import printable

    return redact(printable(f"longhand: {' '.join(str(error).split())}"))


def main() -> None:
    """Entry point: a user's mistake becomes one line on standard error and exit code 2."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # bytes that are no text, and characters that the terminal lacks
            stream.reconfigure(errors=errors)
    try:
        sys.exit(app(prog_name="longhand", standalone_mode=False))
    except LonghandError as error:
        print(one_line(error), file=sys.stderr)
        sys.exit(2)
    except UsageError as error:
        if error.format_message():  # none where there was no argument: the help was printed
            where = error.ctx.command_path if error.ctx is not None else "longhand"
            print(one_line(f"{error.format_message().rstrip('.')} (see {where} --help)"), file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("longhand: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader went away (`longhand ask ... | head`): nothing left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # of a path that nobody expected: a name that is too long, a folder that cannot be entered
        print(one_line(error), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
