"""What decode.py, prefill.py and operations.py share: blocks taken in turns, the read bandwidth, one JSON line."""

from __future__ import annotations

import json
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

# OpenMP's threads spin for milliseconds after their last work, and the engines bring two such runtimes: let one rest.
SETTLE_SECONDS = 0.03
READ_BYTES = 1 << 30

_read: list[torch.Tensor] = []
_started = time.perf_counter()


def read_bandwidth() -> float:
    """Bytes a second that torch reads when it sums 1 GiB with its threads: the best of three passes."""
    if not _read:
        _read.append(torch.ones(READ_BYTES // 4))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        _read[0].sum()
        seconds.append(time.perf_counter() - started)
    return READ_BYTES / min(seconds)


@dataclass
class Series:
    """One thing measured once a round: seconds, and the read bandwidth beside each."""

    seconds: list[float] = field(default_factory=list)
    bandwidth: list[float] = field(default_factory=list)

    def of(self, formula: Callable[[float], float]) -> dict[str, float]:
        """Median, min and max of a formula of the seconds."""
        return spread([formula(seconds) for seconds in self.seconds])

    def fraction(self, num_bytes: float) -> float:
        """Median share of the bandwidth that reading num_bytes in these seconds makes."""
        return statistics.median(num_bytes / s / b for s, b in zip(self.seconds, self.bandwidth, strict=True))


def spread(values: Sequence[float]) -> dict[str, float]:
    return {name: short(of(values)) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


def short(value: float) -> float:
    return float(f"{value:.4g}")


def ratio(ours: Series, theirs: Series) -> dict[str, float]:
    """How many times as fast as theirs ours is, round by round."""
    return spread([b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)])


def in_turns(blocks: dict[str, Callable[[], float]], rounds: int) -> dict[str, Series]:
    """Run every block once a round, A B C A B C, each right after the read bandwidth. A block returns seconds.

    One round more is run first and dropped.
    """
    series = {name: Series() for name in blocks}
    for number in range(rounds + 1):
        for name, block in blocks.items():
            bandwidth = read_bandwidth()
            time.sleep(SETTLE_SECONDS)
            seconds = block()
            if number:
                series[name].seconds.append(seconds)
                series[name].bandwidth.append(bandwidth)
    return series


def machine(threads: int) -> dict[str, Any]:
    """What the numbers were taken on, and with which command."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    cores = sum(line.startswith("processor") for line in lines)
    command = shlex.join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "date": date.today().isoformat(), "cpu": model, "cores": cores, "threads": threads, "torch": torch.__version__,
        "commit": _commit(), "command": command,
    }  # fmt: skip


def _commit() -> str | None:
    command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        shown.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(shown)


def between(values: dict[str, float]) -> str:
    """`median (min..max)`"""
    return "{} ({}..{})".format(*(plain(values[name]) for name in ("median", "min", "max")))


def plain(value: float) -> str:
    """Three digits or so."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def finish(benchmark: str, threads: int, results: dict[str, Any], file: Path | None) -> None:
    """Print the JSON line, and add it to a file."""
    took = {"run_seconds": round(time.perf_counter() - _started)}
    line = json.dumps({"benchmark": benchmark, **machine(threads), **took, **results})
    print(line)
    if file is not None:
        with file.open("a") as lines:
            lines.write(line + "\n")
