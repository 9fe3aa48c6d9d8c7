"""A trace on a terminal: the run span by span, and a table of its turns with what was reused."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..engine.session import TurnStats
from .redact import redact
from .trace_file import Span, Trace
from .view import printable, turns_table

COLOURS = {"prompt": "blue", "sampled": "green", "tool": "magenta", "forced": "yellow"}
BAR = 48  # characters
LONG = 600  # characters of a span's text that are shown without --full


def show_trace(out: Console, trace: Trace, full: bool = False) -> None:
    """Header, spans, bars and the table of turns; `full` leaves no text out."""
    header = trace.header
    _line(out, f"{trace.path}", "bold")
    _line(out, f"model {header['name']} on {header['device']}, {header['dtype']}, quantization "
               f"{header['quantization']}, kernels {header.get('kernels') or 'torch'}")  # fmt: skip
    _line(out, f"seed {header['seed']}, sampling {_pairs(header['sampling'])}; search {header['search']}; "
               f"date in the prompt {header['today']}")  # fmt: skip
    _line(out, f"longhand {header.get('longhand')}, torch {header.get('torch')}, checkpoint {header['model']}")
    if fork := header.get("fork"):
        _line(out, f"{fork['name']}: one of several ways on from its first {fork['ids']:,} ids, which were computed "
                   f"once for all of them, in {fork['seconds']:.3f} s", "cyan")  # fmt: skip
    for span in trace.spans:
        _span(out, span, full)
    for outcome in trace.outcomes:
        _outcome(out, outcome)
    out.print()
    _bars(out, trace)
    stats = [TurnStats(**{name: turn[name] for name in vars(TurnStats())}) for _, turn in trace.stats]
    out.print(turns_table(stats, trace.recomputed, [str(number) for number, _ in trace.stats]))
    if trace.state:
        _line(out, trace.state, "yellow")


def _span(out: Console, span: Span, full: bool) -> None:
    notes = f" ids {span.start}..{span.end}: {span.computed} computed on {span.cached} cached, {span.seconds:.3f} s"
    if span.redacted:
        notes += f", {span.redacted} ids redacted"
    if span.reason:
        notes += f", {span.reason}"
    head = Text.assemble("\n", (f"turn {span.turn} {span.source}", f"bold {COLOURS[span.source]}"), (notes, "dim"))
    out.print(head, soft_wrap=True)
    if span.search is not None:
        query = f"{span.search['query']}" if span.search["query"] else "(a call that could not be run)"
        _line(out, f"query: {query}", "cyan")
        if span.search["notice"]:
            _line(out, f"notice: {span.search['notice']}", "yellow")
        for number, result in enumerate(span.search["results"], 1):
            _line(out, f"{number} {result['title']} ({result['url']})", "magenta")
            _line(out, f"  {_cut(result['content'], full, 240)}", "dim")
        return
    text = span.question if span.question is not None and not full else span.text
    out.print(Text(printable(redact(_cut(text.strip("\n"), full, LONG)))), soft_wrap=True)


def _outcome(out: Console, outcome: dict[str, object]) -> None:
    if "error" in outcome:
        _line(out, f"\nended with an error: {outcome['error']}", "red")
        return
    _line(out, f"\nanswer ({outcome['finish_reason']})", "bold")
    _line(out, str(outcome["answer"]))
    for citation in outcome["citations"]:  # type: ignore[attr-defined]
        _line(out, f"source: {citation['title']} ({citation['url']})", "green")
    for item in outcome["unsupported"]:  # type: ignore[attr-defined]
        _line(out, f"unsupported: {item['reason']}{' (' + item['url'] + ')' if item.get('url') else ''}", "red")


def _bars(out: Console, trace: Trace) -> None:
    """Per turn: what was reused, computed anew and sampled, as a bar of the longest turn's length."""
    longest = max((turn["reused"] + turn["computed"] for _, turn in trace.stats), default=0) or 1
    table = Table.grid(padding=(0, 1))
    for number, turn in trace.stats:
        decoded = min(turn["sampled"], turn["computed"])
        parts = [("reused", turn["reused"], "━", "blue"), ("computed", turn["computed"] - decoded, "█", "magenta"),
                 ("sampled", decoded, "▒", "green")]  # fmt: skip
        bar = Text()
        for _, count, sign, colour in parts:
            bar.append(sign * (max(round(count * BAR / longest), 1) if count else 0), colour)
        table.add_row(f"turn {number}", bar)
    out.print(table)
    out.print(
        Text.assemble(("━ reused  ", "blue"), ("█ computed for what was fed  ", "magenta"), ("▒ sampled", "green"))
    )


def _cut(text: str, full: bool, length: int) -> str:
    return text if full or len(text) <= length else f"{text[: length // 2]} … {text[-length // 2 :]}"


def _pairs(values: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _line(out: Console, text: str, style: str = "") -> None:
    out.print(Text(printable(redact(text)), style), soft_wrap=True)
