"""The log of a training: one line of log.jsonl for some steps, with their means."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

NAME = "log.jsonl"


@dataclass(frozen=True)
class Row:
    """What is told after each step. `hit`: share of the labels that greedy decoding would have hit; `ids` (padding
    included) and `seconds` are counted from the first step on."""

    step: int
    loss: float
    hit: float
    ids: int
    seconds: float


@dataclass
class Log:
    """Gathers rows into lines. `window`: loss and hit of the steps since the last line."""

    path: Path
    every: int
    window: list[tuple[float, float]] = field(default_factory=list)

    def go_on(self, step: int, window: list[tuple[float, float]]) -> None:
        """Drop the lines behind a step: it will be gone beyond once more."""
        self.window = [(loss, hit) for loss, hit in window]
        kept = [row for row in read_log(self.path) if row["step"] <= step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def add(self, row: Row, last: bool) -> None:
        self.window.append((row.loss, row.hit))
        if row.step % self.every and not last:
            return
        loss, hit = (sum(values) / len(values) for values in zip(*self.window, strict=True))
        line = {"step": row.step, "loss": round(loss, 4), "hit": round(hit, 4), "seconds": round(row.seconds),
                "tokens": row.ids}  # fmt: skip
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.window = []


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log; one that was cut off is passed over."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
