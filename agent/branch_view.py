"""Branches on a terminal: each answer, what they have in common, and one table of what each computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from ..engine.session import TurnStats
from .branch import Branch
from .events import Answer
from .redact import json_line
from .view import printable, turns_table


def show_branches(out: Console, prefix: TurnStats, branches: Iterable[Branch], as_json: bool = False) -> None:
    """Print every branch as soon as it is there, then the table."""
    done = []
    for branch in branches:
        done.append(branch)
        if not as_json:
            out.print(Text(f"\n{printable(branch.name)} (seed {branch.seed})", "bold blue"))
            out.print(Text(printable(branch.answer.text)), soft_wrap=True)
            for item in branch.answer.unsupported:
                out.print(Text(f"unsupported: {printable(item.reason)}", "red"), soft_wrap=True)
            if branch.trace is not None:
                out.print(Text(f"trace: {printable(str(branch.trace))}", "dim"), soft_wrap=True)
    same = Counter(" ".join(branch.answer.text.split()) for branch in done).most_common(1)[0][1]
    recomputed = sum(branch.answer.recomputed for branch in done)
    if as_json:
        objects = [{"name": branch.name, "seed": branch.seed, **_as_object(branch.answer),
                    "trace": None if branch.trace is None else str(branch.trace)} for branch in done]  # fmt: skip
        print(json_line({"prefix": vars(prefix), "branches": objects, "same": same, "recomputed": recomputed}),
              flush=True)  # fmt: skip
        return
    rows, names = [prefix], ["prefix, once"]
    for branch in done:
        rows += branch.answer.turns
        name = printable(branch.name) if len(branch.name) <= 14 else printable(branch.name[:13]) + "…"
        names += [f"{name} ({n})" for n in range(1, len(branch.answer.turns) + 1)]
    out.print(f"\n{same} of {len(done)} answers are the same")
    out.print(turns_table(rows, recomputed, names))


def _as_object(answer: Answer) -> dict[str, object]:
    return {
        "answer": answer.text, "citations": [vars(citation) for citation in answer.citations],
        "unsupported": [vars(item) for item in answer.unsupported], "finish_reason": answer.finish_reason,
        "searches": [{"query": q, "results": [r.as_dict() for r in results]} for q, results in answer.searches],
        "turns": [vars(turn) for turn in answer.turns], "recomputed": answer.recomputed,
    }  # fmt: skip
