"""The learning curve of a training, drawn from its log by matplotlib: PNG and SVG."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ...engine.errors import LonghandError
from . import log


def draw(out: Path) -> list[Path]:
    """Loss and share of labels hit over the steps, as curve.png and curve.svg. LonghandError without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise LonghandError("no learning curve is drawn without matplotlib: pip install matplotlib")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = log.read_log(out / log.NAME)
    steps = [row["step"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
    left.plot(steps, [row["loss"] for row in rows], "o-", markersize=2, color="#c8553d")
    left.set_yscale("log")
    left.set_title("loss (nats)", fontsize=10, loc="left")
    right.plot(steps, [row["hit"] for row in rows], "o-", markersize=2, color="#1b7f5c")
    right.set_title("share of labels hit", fontsize=10, loc="left")
    for axes in (left, right):
        axes.set_xlabel("step")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    paths = [out / f"curve.{kind}" for kind in ("png", "svg")]
    for path in paths:
        figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return paths
