"""The command line: `longhand ask` and `longhand chat`. Heavy modules are imported only when a command runs."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..engine.errors import LonghandError

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from .agent import Agent
    from .events import Answer
    from .search import Search

QWQ = "Qwen/QwQ-32B"
# Parameters. A smaller model's operations are over before a second thread has woken up, and where another process is
# busy each of them waits for it: 7 against 220 ids a second were seen.
ONE_THREAD_BELOW = 50_000_000
app = typer.Typer(
    help="A token-level inference engine for QwQ-32B (Qwen2), and the search agent that runs on it.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip


class SearchKind(str, Enum):
    auto = "auto"
    tavily = "tavily"
    docs = "docs"
    replay = "replay"


Model = Annotated[str | None, typer.Option(help=f"checkpoint folder or hub id [default: {QWQ} where a CUDA GPU and a "
                                                "local copy are, else the built-in model]")]  # fmt: skip
SearchOption = Annotated[SearchKind, typer.Option("--search", help="auto: docs if --docs is given, else tavily if "
                                                  "TAVILY_API_KEY is set, else the built-in documents")]  # fmt: skip
Docs = Annotated[Path | None, typer.Option(help="folder of .md, .txt and .html files to search")]
Cassette = Annotated[Path | None, typer.Option(help="recorded searches to replay (with --search replay)")]
Record = Annotated[Path | None, typer.Option(help="append every search to this file, for --search replay")]
MaxSearches = Annotated[int, typer.Option(help="searches per question")]
MaxResults = Annotated[int | None, typer.Option(help="results per search [default: 3 for docs, 5 for tavily]")]
Thinking = Annotated[int | None, typer.Option(help="ids of thinking per question [default: no limit]")]
AnswerIds = Annotated[int, typer.Option("--answer", help="ids of answer per question")]
Temperature = Annotated[float, typer.Option(help="0 is greedy")]
TopP = Annotated[float, typer.Option(help="smallest set of ids with this probability")]
TopK = Annotated[int, typer.Option(help="most probable ids only; 0 for all")]
MinP = Annotated[float, typer.Option(help="ids with at least this share of the best one's probability")]
Seed = Annotated[int, typer.Option(help="equal seeds give equal answers")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N")]
Quantization = Annotated[str, typer.Option(help="auto (nf4 above a billion parameters), nf4 or none")]
MaxContext = Annotated[int | None, typer.Option(help="ids that a session may hold [default: the model's limit]")]
Trace = Annotated[Path | None, typer.Option(help="write the run to this file, as JSON lines")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]


@dataclass(frozen=True)
class Options:
    """What ask and chat have in common."""

    model: str | None
    search: SearchKind
    docs: Path | None
    cassette: Path | None
    record: Path | None
    max_searches: int
    max_results: int | None
    thinking: int | None
    answer: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    device: str | None
    quantization: str
    max_context: int | None


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="the question; '-' reads it from standard input")],
    model: Model = None, search: SearchOption = SearchKind.auto, docs: Docs = None, cassette: Cassette = None,
    record: Record = None, max_searches: MaxSearches = 5, max_results: MaxResults = None, thinking: Thinking = None,
    answer: AnswerIds = 2048, temperature: Temperature = 0.6, top_p: TopP = 0.95, top_k: TopK = 40,
    min_p: MinP = 0.0, seed: Seed = 0, device: Device = None, quantization: Quantization = "auto",
    max_context: MaxContext = None, trace: Trace = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Ask one question and get an answer with citations."""
    options = Options(model, search, docs, cassette, record, max_searches, max_results, thinking, answer, temperature,
                      top_p, top_k, min_p, seed, device, quantization, max_context)  # fmt: skip
    out, notes = Console(highlight=False), Console(stderr=True, highlight=False)
    from .agent import check_question

    question = check_question(sys.stdin.read(1_000_000) if question == "-" else question)
    if trace is not None and (trace.is_dir() or not trace.parent.is_dir()):
        raise LonghandError(f"--trace {trace}: {'is a folder' if trace.is_dir() else 'its folder does not exist'}")
    agent = make_agent(options, notes)
    result, interrupted = run_question(agent, question, None if as_json else out)
    if as_json:
        from .trace import json_line

        print(json_line(as_object(result, agent)), flush=True)
    if trace is not None:
        from .trace import write_trace

        write_trace(trace, trace_header(agent, question), result)
    if interrupted:
        raise typer.Exit(130)


@app.command()
def chat(
    model: Model = None, search: SearchOption = SearchKind.auto, docs: Docs = None, cassette: Cassette = None,
    record: Record = None, max_searches: MaxSearches = 5, max_results: MaxResults = None, thinking: Thinking = None,
    answer: AnswerIds = 2048, temperature: Temperature = 0.6, top_p: TopP = 0.95, top_k: TopK = 40,
    min_p: MinP = 0.0, seed: Seed = 0, device: Device = None, quantization: Quantization = "auto",
    max_context: MaxContext = None,
) -> None:  # fmt: skip
    """Ask many questions over one session: what was said before stays in the cache."""
    options = Options(model, search, docs, cassette, record, max_searches, max_results, thinking, answer, temperature,
                      top_p, top_k, min_p, seed, device, quantization, max_context)  # fmt: skip
    out, notes = Console(highlight=False), Console(stderr=True, highlight=False)
    agent = make_agent(options, notes)
    notes.print("[dim]an empty line or Ctrl-D ends the chat, Ctrl-C ends an answer, /new starts a new session[/]")
    session = None
    while True:
        try:
            question = out.input("\n[bold]> [/]").strip()
        except (EOFError, KeyboardInterrupt):
            out.print()
            return
        if not question:
            return
        if question == "/new":
            session = None
            continue
        try:
            run_question(agent, question, out, session)
            session = agent.session
        except LonghandError as error:
            if getattr(error, "fatal", False):
                raise
            notes.print(one_line(error), markup=False, style="red", soft_wrap=True)


def make_agent(options: Options, notes: Console) -> Agent:
    """Engine, search and agent as the options say; everything that can be refused is refused before the model loads."""
    from ..engine.sampler import SamplingParams
    from .agent import Agent
    from .budget import Budget
    from .view import printable

    budget = Budget(options.max_searches, options.thinking, options.answer)
    sampling = SamplingParams(options.temperature, options.top_p, options.top_k, options.min_p)
    if options.seed < 0:
        raise LonghandError(f"--seed must be a whole number, 0 or more, not {options.seed}")
    search, searched = make_search(options, notes)
    engine, loaded = load_engine(options, notes)
    for note in (searched, *loaded):  # told only now: what is refused takes one line
        notes.print(printable(note), style="dim", markup=False, soft_wrap=True)
    return Agent(engine, search, budget, sampling, options.seed)


def make_search(options: Options, notes: Console) -> tuple[Search, str]:
    """The source of results that --search, --docs, --cassette and the environment ask for, and a note of it."""
    from .search import RecordingSearch, ReplaySearch

    kind = options.search
    if kind is SearchKind.auto:
        if options.docs is not None:
            kind = SearchKind.docs
        elif options.cassette is not None:
            kind = SearchKind.replay
        else:
            kind = SearchKind.tavily if os.environ.get("TAVILY_API_KEY") else SearchKind.docs
    for option, given, wants in (
        ("--docs", options.docs, SearchKind.docs),
        ("--cassette", options.cassette, SearchKind.replay),
    ):
        if given is not None and kind is not wants:
            raise LonghandError(f"{option} goes with --search {wants.value}, not with --search {kind.value}")
    if options.max_results is not None and kind is SearchKind.replay:
        raise LonghandError("--max-results does not go with --search replay: what was recorded is replayed")
    search: Search
    if kind is SearchKind.tavily:
        from .tavily import TavilySearch

        search = TavilySearch(max_results=5 if options.max_results is None else options.max_results)
        note = "the web, through Tavily"
    elif kind is SearchKind.replay:
        if options.cassette is None:
            raise LonghandError("--search replay needs --cassette FILE, the recorded searches")
        search = ReplaySearch(options.cassette)
        note = f"recorded, from {options.cassette}"
    else:
        from .docs import DocsSearch
        from .view import progress

        folder = options.docs or Path(__file__).parent / "demo" / "docs"
        with progress(notes, "indexing", "files") as report:
            limit = 3 if options.max_results is None else options.max_results
            search = DocsSearch(folder, max_results=limit, progress=report)
        note = f"{options.docs}" if options.docs else "the built-in documents (no TAVILY_API_KEY, no --docs)"
    return search if options.record is None else RecordingSearch(search, options.record), f"search: {note}"


def load_engine(options: Options, notes: Console) -> tuple[Engine, list[str]]:
    """The model that --model names, or the default, and notes that say which and why."""
    import torch

    from .. import DEMO
    from ..engine.engine import Engine
    from .view import progress

    model: str | Path
    if options.model is not None:
        model, why = options.model, "as asked"
    else:
        model, why = default_model()
    quantization = None if options.quantization.lower() == "none" else options.quantization
    with progress(notes, "loading", "bytes") as report:
        engine = Engine.from_pretrained(
            model, device=options.device, quantization=quantization, max_context=options.max_context, progress=report
        )
    if engine.device.type == "cpu" and engine.config.num_parameters < ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    name = "the built-in model" if Path(model) == DEMO else str(model)
    said = [f"model: {name} on {engine.device}, {engine.quantization or engine.dtype} ({why})"]
    if Path(model) == DEMO:
        said.append(f"The built-in model only demonstrates the loop; for real work use --model {QWQ} on a GPU.")
    return engine, said


def default_model() -> tuple[str | Path, str]:
    """QwQ-32B where it can run, else the built-in model; and the reason."""
    import torch

    from .. import DEMO
    from ..engine.hub import local_copy

    if not torch.cuda.is_available():
        return DEMO, "there is no CUDA GPU"
    if local_copy(QWQ) is None:
        return DEMO, f"{QWQ} is not on this machine"
    return QWQ, "there is a CUDA GPU and a local copy"


def run_question(agent: Agent, question: str, out: Console | None, session: Any = None) -> tuple[Answer, bool]:
    """Run a question, showing it on `out`; Ctrl-C ends it with what there is. Returns the answer and whether it was
    interrupted."""
    from .events import Finished
    from .view import View

    view = View(out) if out is not None else None
    answer: Answer | None = None
    try:
        for event in agent.run(question, session):
            if view is not None:
                view.show(event)
            if isinstance(event, Finished):
                answer = event.answer
    except KeyboardInterrupt:
        answer = agent.interrupted()
        if answer is None:
            raise
    assert answer is not None
    if view is not None:
        view.close_part()
        view.answer(answer)
    return answer, answer.finish_reason == "interrupted"


def as_object(answer: Answer, agent: Agent) -> dict[str, Any]:
    """What `ask --json` prints."""
    engine = agent.engine
    return {
        "answer": answer.text,
        "citations": [{"title": citation.title, "url": citation.url} for citation in answer.citations],
        "unsupported": [vars(item) for item in answer.unsupported],
        "searches": [{"query": query, "results": [r.as_dict() for r in results]} for query, results in answer.searches],
        "turns": [vars(turn) for turn in answer.turns],
        "recomputed": answer.recomputed,
        "finish_reason": answer.finish_reason,
        "model": engine.name,
        "device": str(engine.device),
    }


def trace_header(agent: Agent, question: str) -> dict[str, Any]:
    """What a trace must say for its run to be understood and repeated."""
    from .. import __version__
    from .prompt import TEMPLATE_VERSION

    return {
        "question": question, "name": agent.engine.name, **agent.engine.identity, "search": agent.search.name,
        "template": TEMPLATE_VERSION, "today": str(agent.today or date.today()), "sampling": vars(agent.sampling),
        "budget": vars(agent.budget), "seed": agent.seed, "device": str(agent.engine.device), "longhand": __version__,
    }  # fmt: skip


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


def one_line(error: Exception) -> str:
    """What a person is told of an error: one line that holds no secret and steers no terminal."""
    from .trace import redact
    from .view import printable

    return redact(printable(f"longhand: {' '.join(str(error).split())}"))


def main() -> None:
    """Entry point: a LonghandError becomes one line on standard error and exit code 2."""
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # bytes that are no text, and characters that the terminal lacks
            stream.reconfigure(errors=errors)
    try:
        app()
    except LonghandError as error:
        print(one_line(error), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
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
