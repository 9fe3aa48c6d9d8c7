"""Block: a heading or a paragraph of a document, and a table's rows as lines of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A heading (`level` 1 to 6) or a paragraph (`level` 0). Never empty."""

    level: int
    text: str


def table_lines(rows: list[list[str]], headed: bool = True) -> Iterator[str]:
    """Rows that make sense alone: "Height: 34 m" of two columns; of more, "Keel Bridge, Length: 81 m, Opened: 1932".
    headed: the first row names the columns."""
    head = rows[0] if headed else []
    for row in rows if len(rows) == 1 or not headed else rows[1:]:
        if len(row) <= 2:
            yield ": ".join(filter(None, row))
        else:
            names = [*head, *[""] * (len(row) + 1)]
            named = zip(names[1:], row[1:], strict=False)
            cells = [f"{name}: {cell}" if name else cell for name, cell in named if cell]
            yield ", ".join(filter(None, [row[0], *cells]))
