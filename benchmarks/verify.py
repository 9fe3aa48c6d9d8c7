"""How far `trace verify` finds a run from its recomputation, per type: `python benchmarks/verify.py [--questions 10]`.

The built-in model answers questions about the built-in documents, each in a session with a trace. Every row of logits
in it is compared with one that is computed anew from the same ids, in a session of its own, as `longhand trace verify`
does. Differences are scaled as its tolerance is (to logits of magnitude 16). "lost" is the control: the same comparison
with the id in the middle of the run's last response missing, as if a cache had dropped it; of each run the largest
difference counts, and the smallest of those is shown. A tolerance is sound where it lies between "largest" and "lost".
"torch" is without the library of CPU kernels. --model takes another checkpoint, which need not answer anything. Prints
a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from answers import builtin
from longhand import DEMO, Agent, Budget, Engine
from longhand.agent.ask import run_question
from longhand.agent.docs import DocsSearch
from longhand.agent.trace import Recorder
from longhand.agent.trace_file import Trace, read_trace
from longhand.agent.trace_logits import Difference, as_row, compare
from longhand.agent.trace_verify import tolerance, verify
from longhand.kernels.dispatch import choose_ops, without_library
from rich.console import Console
from rich.table import Table

FORMS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "NF4, float32": {"dtype": "float32", "quantization": "nf4"},
    "NF4, bfloat16": {"dtype": "bfloat16", "quantization": "nf4"},
    "float32, int8 cache": {"dtype": "float32", "kv_dtype": "int8"},
    "bfloat16, int8 cache": {"dtype": "bfloat16", "kv_dtype": "int8"},
}


def lost(trace: Trace, engine: Engine) -> float:
    """The largest difference of the rows behind the last response where the id in its middle is left out."""
    ids = trace.whole_ids("verified")
    where = max(span.start + len(span.ids) // 2 for span in trace.spans if span.source == "tool")
    session, found = engine.session(), []
    for packed in (packed for span in trace.spans for packed in span.logits):
        if packed["position"] > where:
            kept = ids[:where] + ids[where + 1 : packed["position"]]
            session.feed(kept[len(session) :])
            found.append(compare(packed, as_row(session.logits())))
    return max(difference.scaled for difference in found)


def measure(engine: Engine, questions: list[str], folder: Path, search: DocsSearch) -> dict[str, Any]:
    """Of all rows of all runs."""
    rows: list[Difference] = []
    missed: list[float] = []
    for number, question in enumerate(questions):
        agent = Agent(engine, search, Budget(thinking=200, answer=200), seed=number, today=date(2026, 1, 2))
        recorder = Recorder(folder / f"{number}.jsonl")
        run_question(agent, question, None, recorder=recorder)
        recorder.close()
        trace = read_trace(recorder.path)
        rows += [difference for checked in verify(trace, engine) for difference in checked.differences]
        if any(span.source == "tool" for span in trace.spans):
            missed.append(lost(trace, engine))
    scaled = sorted(difference.scaled for difference in rows)
    return {
        "rows": len(rows), "median": scaled[len(rows) // 2], "largest": scaled[-1],
        "lost": min(missed, default=None), "kl": max(difference.kl for difference in rows),
        "top1": sum(difference.top1 for difference in rows) / len(rows), "tolerance": tolerance(engine),
    }  # fmt: skip


def forms() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    for name, options in FORMS.items():
        yield name, choose_ops, options
        if name != "NF4, float32":
            yield f"{name}, torch", lambda device, quantized, kernels: without_library(quantized), options


def main() -> None:
    parser = argparse.ArgumentParser(description="how far a run is from its recomputation")
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    cases = list(builtin())
    questions = [case.question for case in cases[:: max(1, len(cases) // given.questions)]][: given.questions]
    table = Table("type", "rows", "median", "largest", "tolerance", "lost", "largest KL", "same likeliest id")
    measured = {}
    with tempfile.TemporaryDirectory() as name:
        search = DocsSearch(cases[0].folder, cache_dir=Path(name) / "cache")
        for form, ops, options in forms():
            with patch("longhand.engine.engine.choose_ops", ops):
                engine = Engine.from_pretrained(given.model, given.device, **{"quantization": None, **options})
            found = measured[form] = measure(engine, questions, Path(name), search)
            numbers = (f"{found[key]:.2g}" for key in ("median", "largest", "tolerance"))
            control = "-" if found["lost"] is None else f"{found['lost']:.2g}"
            table.add_row(form, str(found["rows"]), *numbers, control, f"{found['kl']:.1e}", f"{found['top1']:.2%}")
    Console(width=120).print(table)
    print(json.dumps({"bench": "verify", "model": Path(given.model).name, "questions": len(questions),
                      "device": given.device, "torch": torch.__version__, "types": measured}))  # fmt: skip


if __name__ == "__main__":
    main()
