"""Sizes of memory, in and out: `--memory 24GiB` read, and the table of `longhand fit` shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..engine.errors import LonghandError
from .view import printable

if TYPE_CHECKING:
    from ..engine.fit import Fit

Rows = Sequence[Sequence[str]]
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str) -> int:
    """Bytes of '24GiB', '24GB' (10**9), '23.5G' (as GiB) or '25769803776'; LonghandError for anything else."""
    match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,9})?)\s*([kmgt]?)(i?b)?", text.strip().lower(), re.ASCII)
    if match is None or (match[3] == "ib" and not match[2]):
        raise LonghandError(f"--memory {text!r} is not a size; write it like 24GiB, 24GB or 23.5G")
    size = int(float(match[1]) * (1000 if match[2] and match[3] == "b" else 1024) ** POWERS[match[2]])
    if not 2**20 <= size < 2**60:
        raise LonghandError(f"--memory {text!r} is {size:,} bytes; write a size with its unit, like 24GiB")
    return size


def size(count: int) -> str:
    """Bytes for a person: '17.55 GiB', '256.0 KiB'."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if abs(count) >= 2**power:
            return f"{count / 2**power:.{2 if unit == 'GiB' else 1}f} {unit}"
    return f"{count} B"


def advice(fit: Fit) -> str:
    """What would let a session of the asked context fit, or the longest that does."""
    rows = fit.switches()
    enough = [row for row in rows if row["option"] and row["max_context"] >= fit.context]
    if enough:
        return f"try {enough[0]['option']}"
    shorter = fit.max_context()
    ways = [f"--max-context {shorter}"] if shorter else []
    if rows and rows[-1]["max_context"] >= fit.context:
        ways.append(" ".join(row["option"] for row in rows if row["option"]))
    if ways:
        return f"try {', or '.join(ways)}"
    return "no single switch is enough: free memory, or use a larger device or a smaller model"


def show_fit(console: Console, fit: Fit, name: str) -> None:
    """Where the bytes go, the largest context per KV type, and what each switch buys: tables on a terminal, aligned
    columns where there is none."""
    found = fit.as_dict()
    work, kv = found["workspace"], found["kv_bytes_per_token"]
    largest = max(work, key=work.__getitem__)
    running = found["running_bytes"]
    when = "at the peak" if running >= found["loading_bytes"] else f"while loading; then {size(running)}"
    lost = "CUDA, its allocator" if fit.setup.device == "cuda" else "heap, the last logits"
    parts = [
        *((part, size(count), "") for part, count in found["parts"].items()),
        ("cache", size(kv * fit.context), f"{fit.context:,} ids of {size(kv)}, {fit.setup.kv_dtype}"),
        ("workspace", size(found["workspace_bytes"]), f"most of it: {largest}"),
        ("beside", size(found["beside_bytes"]), "libraries and tokenizer, buffers"),
        ("reserve", size(found["reserve_bytes"]), lost),
        ("needed", size(found["needed_bytes"]), when),
        ("memory", size(fit.memory), f"{fit.setup.device}: {'as given' if fit.given else 'free now'}"),
        ("fits", "yes" if fit.fits else "no", f"with {fit.context:,} ids of context"),
    ]
    kinds = [
        (kind, size(found["kv_bytes_per_token_by_type"][kind]), f"{ids:,}")
        for kind, ids in found["max_context"].items()
    ]
    switches = [
        (row["name"], row["option"] or "-", size(row["saved_bytes"]), f"{row['max_context']:,}")
        for row in found["switches"]
    ]
    show_table(console, (printable(name), "bytes", ""), parts)
    show_table(console, ("KV type", "per id", f"largest context (model: {fit.limit:,})"), kinds)
    show_table(console, ("switch", "option", "saves", "largest context"), switches)


def show_table(console: Console, header: Sequence[str], rows: Rows) -> None:
    if not rows:
        return
    if console.is_terminal:
        table = Table(header_style="bold")
        for index, column in enumerate(header):
            table.add_column(Text(column), justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [cell.ljust(width) if not index else cell.rjust(width)
                 for index, (cell, width) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        console.print(Text("  ".join(cells).rstrip()), soft_wrap=True)
    console.print()
