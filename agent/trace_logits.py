"""Logits in a trace: one row packed into JSON, and a packed row compared with a fresh one.

A row is {"position": p, "logsumexp": x, "ids": [...], "values": [...], "row": "..."}: the logits for position p, that
is behind ids[:p], as the run had them. `ids` and `values` are the TOP largest, best first; `row` is the whole row,
float32 little-endian in base64, for vocabularies of at most FULL_ROW rows. Above that only the top and the logsumexp
are kept, and only they are compared.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOP = 64
FULL_ROW = 8192
UNIT = 16.0  # a tolerance is meant for logits of this magnitude

Row = NDArray[np.float32]


def as_row(logits: Any) -> Row:
    """A tensor [vocab] as float32 in memory of its own."""
    return np.array(logits.detach().float().cpu().numpy(), dtype=np.float32)


def pack(row: Row, position: int) -> dict[str, Any]:
    """A row as it stands in a trace."""
    top = np.argsort(-row, kind="stable")[:TOP]
    packed: dict[str, Any] = {
        "position": position, "logsumexp": round(_logsumexp(row), 6), "ids": top.tolist(),
        "values": [round(float(value), 6) for value in row[top]],
    }  # fmt: skip
    if len(row) <= FULL_ROW:
        packed["row"] = base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
    return packed


@dataclass(frozen=True)
class Difference:
    """Of one position: nats for `kl` (the run's distribution from the fresh one), logits for `largest`."""

    position: int
    largest: float  # absolute
    kl: float
    top1: bool  # the most probable id is the same
    compared: int  # logits
    peak: float = 0.0  # largest magnitude among them

    @property
    def scaled(self) -> float:
        """`largest` per UNIT of the row's magnitude, where that is above UNIT: floating-point numbers round in
        proportion to their size."""
        return self.largest / max(1.0, self.peak / UNIT)


def compare(packed: dict[str, Any], fresh: Row) -> Difference:
    """A packed row against a fresh one. Raises ValueError or KeyError where the packed one is damaged."""
    ids, values = packed["ids"], np.array(packed["values"], dtype=np.float64)
    if not ids or len(ids) != len(values) or not all(isinstance(i, int) and 0 <= i < len(fresh) for i in ids):
        raise ValueError("ids and values do not belong together")
    position, top1 = int(packed["position"]), int(fresh.argmax()) == ids[0]
    new = fresh.astype(np.float64)
    if "row" in packed:
        old = _unpacked(packed["row"], len(fresh))
        kl, peak = _kl(_logprobs(old), _logprobs(new)), float(np.abs(old).max())
        return Difference(position, float(np.abs(old - new).max()), kl, top1, len(old), peak)
    stored, again = float(packed["logsumexp"]), _logsumexp(fresh)
    largest = max(float(np.abs(values - new[ids]).max()), abs(stored - again))
    kl = _kl(_with_rest(values - stored), _with_rest(new[ids] - again))
    return Difference(position, largest, kl, top1, len(ids), float(np.abs(values).max()))


def _unpacked(text: str, size: int) -> NDArray[np.float64]:
    try:
        row = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, TypeError) as error:
        raise ValueError(str(error)) from None
    if len(row) != size:
        raise ValueError(f"{len(row)} logits for a vocabulary of {size}")
    return row.astype(np.float64)


def _logsumexp(row: Row | NDArray[np.float64]) -> float:
    largest = float(row.max())
    return largest + math.log(float(np.exp(row.astype(np.float64) - largest).sum()))


def _logprobs(row: NDArray[np.float64]) -> NDArray[np.float64]:
    return row - _logsumexp(row)


def _with_rest(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probabilities with one more for all ids that are not among them."""
    rest = max(1.0 - float(np.exp(logprobs).sum()), 1e-12)
    return np.append(logprobs, math.log(rest))


def _kl(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    return max(float((np.exp(old) * (old - new)).sum()), 0.0)
