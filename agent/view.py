"""View: events on a terminal as they happen, or as plain text where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .events import Answer, Event, Finished, Forced, Token, ToolCall, ToolResponse
from .redact import RedactedStream, redact

if TYPE_CHECKING:
    from ..engine.session import TurnStats

STYLES = {"thinking": "dim italic", "call": "cyan", "answer": "bold"}
LABELS = {"thinking": "thinking", "call": "search", "answer": "answer"}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text without what would steer a terminal (escape sequences, bidirectional overrides and lone surrogates are shown
    as U+FFFD), and without a secret."""
    return _UNPRINTABLE.sub("\ufffd", redact(text))


class View:
    """Prints the events of a run. Thinking, call, response and answer each have a label and a colour of their own."""

    def __init__(self, console: Console):
        self.console = console
        self.part: str | None = None
        self.stream = RedactedStream()
        self.at_line_start = True

    def show(self, event: Event) -> None:
        if isinstance(event, Token):
            self.token(event)
        elif isinstance(event, ToolCall):
            self.close_part()
            if event.error:
                self.line("call refused", event.error, "yellow")
        elif isinstance(event, ToolResponse):
            self.response(event)
        elif isinstance(event, Forced):
            self.close_part()
            self.line("forced", f"thinking closed ({event.reason})", "yellow")
        elif isinstance(event, Finished):
            self.close_part()

    def token(self, token: Token) -> None:
        if self.part is not None and self.part != token.part:
            self.close_part()
        text = printable(self.stream.push(token.text))
        if self.part != token.part:
            text = text.lstrip("\n")
            if not text.strip():
                return
            self.part = token.part
            self.console.print(f"\n[bold blue]{LABELS[token.part]}[/]")
        if text:
            self.console.print(Text(text, STYLES[token.part]), end="", soft_wrap=True)
            self.at_line_start = text.endswith("\n")

    def close_part(self) -> None:
        if held := self.stream.flush():
            self.console.print(Text(printable(held), STYLES.get(self.part or "", "")), end="", soft_wrap=True)
            self.at_line_start = False
        if self.part is not None and not self.at_line_start:
            self.console.print()
        self.part, self.at_line_start = None, True

    def response(self, event: ToolResponse) -> None:
        self.close_part()
        self.console.print("\n[bold blue]response[/]", end="")
        note = f" {event.ids} ids appended" + (", from this run's own results" if event.repeated else "")
        self.console.print(f"[dim]{note}{', cut to fit the context' if event.cut else ''}[/]")
        if event.notice:
            self.console.print(Text(printable(event.notice), "yellow"), soft_wrap=True)
        elif not event.results:
            self.console.print("[dim]no results[/]")
        for number, result in enumerate(event.results, 1):
            content = " ".join(printable(result.content).split())
            title, url = " ".join(printable(result.title).split()), printable(result.url)
            self.console.print(Text.assemble((f"{number} {title}", "green"), " ", (url, "dim")), soft_wrap=True)
            self.console.print(
                Text(f"  {content[:240]}{'…' if len(content) > 240 else ''}", "green dim"), soft_wrap=True
            )
            for told, texts in (("names", result.links), ("lacks", result.lacks)):
                if texts:
                    self.console.print(Text(f"  {told} {printable(', '.join(texts))}", "dim"), soft_wrap=True)

    def line(self, label: str, text: str, style: str) -> None:
        self.console.print(Text.assemble("\n", (label, f"bold {style}"), " ", printable(text)), soft_wrap=True)

    def answer(self, answer: Answer) -> None:
        """What closes a run: citations, what is unsupported, and the table of turns."""
        for citation in answer.citations:
            self.console.print(Text(f"source: {printable(citation.title)} ({printable(citation.url)})", "green"),
                               soft_wrap=True)  # fmt: skip
        for item in answer.unsupported:
            where = f" ({item.url})" if item.url else ""
            self.line("unsupported", f"{item.reason}{where}", "red")
        if answer.finish_reason != "stop":
            self.line("ended early", answer.finish_reason, "yellow")
        self.console.print()
        self.console.print(turns_table(answer.turns, answer.recomputed))


def turns_table(turns: Sequence[TurnStats], recomputed: int, names: Sequence[str] | None = None) -> Table:
    """One row per turn, with what was reused and how long it took. `names` of the rows: default their numbers."""
    table = Table(title=None, caption=f"recomputed {recomputed}", caption_justify="left", header_style="bold")
    for name in ("turn", "fed", "computed", "reused", "sampled", "first token", "tokens/s"):
        table.add_column(name, justify="right", no_wrap=name == "turn")
    for number, turn in enumerate(turns, 1):
        rate = f"{turn.sampled / turn.decode_seconds:.0f}" if turn.decode_seconds else "-"
        name = names[number - 1] if names else str(number)
        table.add_row(Text(name), str(turn.fed), str(turn.computed), str(turn.reused), str(turn.sampled),
                      f"{turn.prefill_seconds:.2f} s", rate)  # fmt: skip
    return table


@contextmanager
def progress(console: Console, what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that vanishes when done; unit is "bytes" or "files". Nothing is shown where there is no terminal."""
    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
