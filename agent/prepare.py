"""What ask and chat set up before a question is asked: the search, the check that the model fits, the model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..engine.errors import LonghandError

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.fit import Fit
    from ..engine.peak import Peak
    from ..engine.session import Session
    from .agent import Agent
    from .search import Search, SearchResult

QWQ = "Qwen/QwQ-32B"
# Parameters. A smaller model's operations are over before a second thread has woken up, and where another process is
# busy each of them waits for it: 7 against 220 ids a second were seen.
ONE_THREAD_BELOW = 50_000_000


class SearchKind(str, Enum):
    auto = "auto"
    tavily = "tavily"
    docs = "docs"
    replay = "replay"


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
    double_quant: bool
    head: str
    embedding: str
    kv_dtype: str | None
    max_context: int | None
    yarn: float | None


LOADING = ("model", "device", "quantization", "double_quant", "head", "embedding", "kv_dtype", "max_context", "yarn")


def loading(options: Options) -> dict[str, Any]:
    """Those options that say how the model is loaded, for a trace's header."""
    return {name: getattr(options, name) for name in LOADING}


@dataclass(frozen=True)
class Memory:
    """What loading and running were predicted to take, and a meter of what they do. `fit` is None where the free memory
    cannot be told."""

    fit: Fit | None
    peak: Peak

    def as_dict(self, session: Session | None) -> dict[str, int | None]:
        """Bytes: `predicted` and `peak` of the process on a CPU, of torch's allocator on a GPU, and the `baseline` in
        both, which was taken before the model."""
        predicted = None
        if self.fit is not None and session is not None:
            predicted = self.peak.baseline + self.fit.predicted(session)
        return {"predicted": predicted, "peak": self.peak.read(), "baseline": self.peak.baseline}


def make_agent(options: Options, notes: Console) -> tuple[Agent, Memory]:
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
    engine, memory, loaded = load_engine(options, notes)
    for note in (searched, *loaded):  # told only now: what is refused takes one line
        notes.print(printable(note), style="dim", markup=False, soft_wrap=True)
    return Agent(engine, search, budget, sampling, options.seed), memory


class RedactedSearch:
    """Results without a secret that a service echoes: it never becomes ids, nor a line of a cassette."""

    def __init__(self, inner: Search) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        return self._inner.name

    def search(self, query: str) -> list[SearchResult]:
        return self.search_within(query, None)

    def search_within(self, query: str, wider: str | None) -> list[SearchResult]:
        from .redact import redact
        from .search import SearchError, search_within

        try:
            found = search_within(self._inner, query, wider)
        except SearchError as error:
            raise SearchError(redact(str(error)), fatal=error.fatal) from None
        return [result.redacted() for result in found]


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
    search = RedactedSearch(search)
    return search if options.record is None else RecordingSearch(search, options.record), f"search: {note}"


def load_engine(options: Options, notes: Console) -> tuple[Engine, Memory, list[str]]:
    """The model that --model names, or the default, and notes that say which and why. One that does not fit is refused
    before it is read."""
    import torch

    from .. import DEMO
    from ..engine.engine import Engine
    from ..engine.peak import Peak
    from .view import progress

    model: str | Path
    if options.model is not None:
        model, why = options.model, "as asked"
    else:
        model, why = default_model()
    name = "the built-in model" if Path(model) == DEMO else str(model)
    fit, context = check_fit(options, model, name, notes)
    path, kept = use_copy(model, options, notes)
    copied = path != model
    peak = Peak(options.device)
    with progress(notes, "loading", "bytes") as report:
        engine = Engine.from_pretrained(
            path, device=options.device, quantization=none_or(options.quantization), kv_dtype=options.kv_dtype,
            max_context=context, progress=report, double_quant=options.double_quant and not copied,
            head=None if copied else options.head, embedding=options.embedding,
            yarn=options.yarn,
        )  # fmt: skip
    peak.loaded()
    if engine.device.type == "cpu" and engine.config.num_parameters < ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    said = [f"model: {name} on {engine.device}, {engine.quantization or engine.dtype} ({why})"]
    if kept:
        said.append(kept)
    if fit is not None and context is not None and options.max_context is None and context < fit.limit:
        said.append(f"context: {context:,} ids fit in memory; the model allows {fit.limit:,}")
    if Path(model) == DEMO:
        said.append(f"The built-in model only demonstrates the loop; for real work use --model {QWQ} on a GPU.")
    return engine, Memory(fit, peak), said


def use_copy(model: str | Path, options: Options, notes: Console) -> tuple[str | Path, str]:
    """The 4-bit copy in the cache of a large model that is to be quantized, made the first time, and a note that says
    so. Where it cannot be kept, the model itself: it is quantized while it loads."""
    from ..engine.checkpoint import Quantize
    from ..engine.config import ModelConfig
    from ..engine.hub import resolve
    from ..engine.options import QUANTIZE_ABOVE, choose_device
    from ..engine.quantize import cached_copy
    from .docs_index import cache_folder
    from .view import progress

    folder = resolve(model)
    config = ModelConfig.from_file(folder / "config.json")
    if options.quantization not in ("auto", "nf4") or config.quantization or config.num_parameters <= QUANTIZE_ABOVE:
        return model, ""
    quantize = Quantize(options.double_quant, options.head == "nf4" and not config.tie_word_embeddings)
    device = str(choose_device(options.device))
    try:
        with progress(notes, "quantizing once", "bytes") as report:
            copy = cached_copy(folder, cache_folder() / "quantized", quantize, device, report)
    except (LonghandError, OSError) as error:
        return model, f"quantized while loading: no 4-bit copy could be kept ({error})"
    return copy, f"4-bit copy: {copy}"


def check_fit(options: Options, model: str | Path, name: str, notes: Console) -> tuple[Fit | None, int | None]:
    """How the model fits in what the device has free, and the context to load it with: as asked, else what fits. One
    that does not fit is refused, with the table of `longhand fit`."""
    from ..engine.fit import fit_model
    from ..engine.hub import resolve_config
    from .sizes import advice, show_fit

    fit = fit_model(
        resolve_config(model), options.device, none_or(options.quantization), options.kv_dtype, options.double_quant,
        options.head, options.embedding, context=options.max_context, yarn=options.yarn,
    )  # fmt: skip
    if fit is None:
        return None, options.max_context
    if fit.impossible:
        show_fit(notes, fit, name)
        raise LonghandError(f"{fit.refusal(name)}; {advice(fit)}")
    return fit, fit.default_context() if options.max_context is None else options.max_context


def none_or(quantization: str) -> str | None:
    """--quantization as the engine takes it."""
    return None if quantization.lower() == "none" else quantization


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
