"""Pictures of a bench report, by matplotlib: PNG and SVG."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..engine.errors import LonghandError

COLOURS = {"append": "#1b7f5c", "re-encode": "#c8553d", "re-tokenize": "#e0a030", "re-template": "#6c5b9e",
           "notebook": "#7a7a7a"}  # fmt: skip
SOURCES = {"fed": "#8fa9c4", "sampled": "#3a5a80"}


def require_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise LonghandError("--plots needs matplotlib: pip install matplotlib")


def draw(report: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Write the pictures; yields each path."""
    require_matplotlib()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LonghandError(f"--plots {folder}: cannot be written ({error.strerror})") from None
    pictures = {"turns": _turns, "ids": _ids, **({"prefix": _prefix} if report["sweep"] else {})}
    for name, paint in pictures.items():
        figure, axes = pyplot.subplots(figsize=(7.2, 3.6), layout="constrained")
        paint(axes, report)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for kind in ("png", "svg"):
            path = folder / f"{name}.{kind}"
            figure.savefig(path, dpi=150)
            yield path
        pyplot.close(figure)


def _turns(axes: Any, report: dict[str, Any]) -> None:
    modes = list(report["totals"])
    numbers = sorted({row["turn"] for row in report["turns"]})
    width = 0.8 / len(modes)
    for place, mode in enumerate(modes):
        rows = [row for row in report["turns"] if row["mode"] == mode]
        bars = axes.bar([row["turn"] + (place - (len(modes) - 1) / 2) * width for row in rows],
                        [row["seconds"] * 1e3 for row in rows], width * 0.92, label=mode,
                        color=COLOURS[mode])  # fmt: skip
        axes.bar_label(bars, labels=[_label(row) for row in rows], fontsize=6, padding=1)
    axes.set_xticks(numbers, [f"turn {n}" for n in numbers])
    axes.set_ylabel("ms to the first id")
    axes.set_title("What a turn costs before it answers (on the bars: ids computed)", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8)


def _label(row: dict[str, Any]) -> str:
    """What a bar's height does not say: a turn that lost ids is not fast."""
    lost = f"\n{row['lost']:,} lost" if row["lost"] else ""
    return "ends" if row["error"] else f"{row['computed']:,}{lost}"


def _prefix(axes: Any, report: dict[str, Any]) -> None:
    rows = report["sweep"]
    lengths = [row["prefix"] for row in rows]
    axes.plot(lengths, [row["reencode_seconds"] * 1e3 for row in rows], "o-", color=COLOURS["re-encode"],
              label="prefix encoded anew")  # fmt: skip
    axes.plot(lengths, [row["append_seconds"] * 1e3 for row in rows], "o-", color=COLOURS["append"],
              label=f"{rows[0]['appended']} ids appended")  # fmt: skip
    least = rows[0]["append_seconds"]
    floor = [(least + n * report["kv_bytes_per_id"] / report["bandwidth"]) * 1e3 for n in lengths]
    axes.plot(lengths, floor, "--", color="#666666", linewidth=1,
              label="first point + cache bytes / read bandwidth")  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("ids in the prefix")
    axes.set_ylabel("ms")
    axes.set_title("A tool response behind a growing prefix", fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8)


def _ids(axes: Any, report: dict[str, Any]) -> None:
    """The conversation as a strip: where its ids came from; and under it, a row per turn, which of them the turn
    computed and which it found in the cache."""
    from matplotlib.patches import Patch

    at, edges = 0, []
    for turn in report["plan"]:
        for kind in ("fed", "sampled"):
            axes.barh(0, turn[kind], left=at, height=0.7, color=SOURCES[kind])
            at += turn[kind]
        edges.append(at)
    appended = [row for row in report["turns"] if row["mode"] == "append"]
    for row in appended:
        axes.barh(row["turn"], row["reused"], height=0.5, color="#d7e6df")
        axes.barh(row["turn"], row["computed"], left=row["reused"], height=0.5, color=COLOURS["append"])
    axes.set_yticks([0, *(row["turn"] for row in appended)], ["ids", *(f"turn {row['turn']}" for row in appended)])
    axes.invert_yaxis()
    axes.set_xlabel("position")
    axes.set_title("Where ids come from, and what each turn computes of them", fontsize=10, loc="left")
    names = {"fed: prompt, tool response": SOURCES["fed"], "sampled": SOURCES["sampled"], "reused": "#d7e6df",
             "computed": COLOURS["append"]}  # fmt: skip
    legend = [Patch(color=colour, label=name) for name, colour in names.items()]
    axes.legend(handles=legend, frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.16))
