"""Meaning: how near English words stand to each other, and which way a text points, by a table of word vectors.

`meaning.safetensors` holds 9,000 stems of common English words, without names and numbers, in 64 signed bytes each.
They are GloVe's (Pennington, Socher and Manning 2014, https://nlp.stanford.edu/projects/glove/; in the public domain by
the PDDL), reduced by `benchmarks/word_vectors.py`. What the table does not know counts as far from everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Vector = NDArray[np.float32]

TABLE = Path(__file__).parent / "meaning.safetensors"
DIGITS = 4  # of a cosine that are kept: the order of a sum, which machines choose, does not reach them


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, int], Vector]:
    """The row of each stem, and the rows, of length 1."""
    file = load_file(TABLE)
    known = file["stems"].tobytes().decode("ascii").split()
    rows = file["vectors"].astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return {stem: row for row, stem in enumerate(known)}, rows


@lru_cache(maxsize=256)
def _cosines(stem: str) -> Vector | None:
    """Of a stem with every one of the table; None if it is not there."""
    places, rows = _table()
    row = places.get(stem)
    return None if row is None else np.round(rows @ rows[row], DIGITS)


def known(stems: Iterable[str]) -> list[int]:
    """The rows of those stems that the table has."""
    places, _ = _table()
    return sorted(places[stem] for stem in stems if stem in places)


def nearness(stem: str, rows: list[int]) -> float:
    """The largest cosine of a stem with one of these rows; 0 where there is none."""
    cosines = _cosines(stem) if rows else None
    return 0.0 if cosines is None else float(cosines[rows].max())


def direction(weights: Mapping[str, float]) -> Vector | None:
    """Where stems with these weights point together, as a vector of length 1; None if the table has none of them."""
    places, rows = _table()
    known = [(weight, places[stem]) for stem, weight in weights.items() if weight and stem in places]
    return _unit(np.array([weight for weight, _ in known], np.float32) @ rows[[row for _, row in known]])


def agreement(way: Vector | None, rows: list[int]) -> float:
    """The cosine of a direction with that of these rows together; 0 where there is none."""
    other = _unit(_table()[1][rows].sum(0))
    return 0.0 if way is None or other is None else round(float(way @ other), DIGITS)


def _unit(vector: Vector) -> Vector | None:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else None
