"""QwQ-32B's shape on one CUDA GPU in at most 9 minutes: `python benchmarks/gpu.py [--sections a,b] [--json FILE]`.

Needs torch, triton, numpy, safetensors and tokenizers, and for triton a C compiler and Python's headers (gcc,
python3-dev); transformers with bitsandbytes is the peer if both are installed. The weights are random nibbles and
scales, made on the device. Every kernel is checked against float64 before anything is timed. The card's read and copy
bandwidth and matrix rate are measured, and printed, first.

A section that fails says so in a line, and the others go on; the exit code is 1 then. What was found is written after
each section.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
if importlib.util.find_spec("longhand") is None:  # a checkout that is not installed: its root is the package
    spec = importlib.util.spec_from_file_location(
        "longhand", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["longhand"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["longhand"])

from gpu_bench import SECONDS, SHAPES, Bench, attempt, make_ops, with_layers  # noqa: E402
from gpu_kernels import bandwidth, kernels, launches  # noqa: E402
from gpu_steps import append, decode, graph, memory, peer, turns, width  # noqa: E402
from longhand.engine.options import KERNELS  # noqa: E402

SECTIONS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "bandwidth": bandwidth, "kernels": kernels, "decode": decode, "graph": graph, "launches": launches, "width": width,
    "turns": turns, "memory": memory, "append": append, "peer": peer,
}  # fmt: skip


def table(name: str, found: dict[str, Any]) -> str:
    """Lines of `what: value`, as deep as the results go."""
    lines = [name]

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{prefix} {key}".strip(), inner)
        elif isinstance(value, list):
            for number, inner in enumerate(value, 1):
                add(f"{prefix} {number}", inner)
        else:
            whole = isinstance(value, int) and not isinstance(value, bool)
            shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if whole else str(value)
            lines.append(f"  {prefix:<60} {shown:>16}")

    add("", found)
    return "\n".join(lines)


def failed(found: Any) -> bool:
    """Whether anything in it did."""
    return isinstance(found, dict) and ("failed" in found or any(map(failed, found.values())))


def measure(bench: Bench, sections: Sequence[str], save: Callable[[], object] = lambda: None) -> bool:
    """Run sections in their order, each whatever became of the others; whether all of them passed."""
    passed = True
    for name in (section for section in SECTIONS if section in sections):
        started = time.monotonic()
        if bench.late():
            bench.found[name] = {"skipped": "out of time"}
        else:
            bench.found[name] = attempt(SECTIONS[name], bench)
        passed = passed and not failed(bench.found[name])
        bench.found[name]["section_seconds"] = time.monotonic() - started
        print(table(name, bench.found[name]), flush=True)
        save()
    return passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of " + ",".join(SECTIONS))
    parser.add_argument("--kernels", choices=[*KERNELS[1:], KERNELS[0]], default="triton", help="auto: what is chosen")
    parser.add_argument("--layers", type=int, help="fewer for a short run")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="no section begins after so many")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    # Only to see that the sections run: their figures mean nothing there.
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="32b", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sections = arguments.sections.split(",")
    if not set(sections) <= set(SECTIONS):
        parser.error(f"sections are {', '.join(SECTIONS)}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("needs a CUDA GPU: torch sees none", file=sys.stderr)
        raise SystemExit(2)
    on_gpu = arguments.device == "cuda"
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    bench = Bench(
        device, with_layers(SHAPES[arguments.shape], arguments.layers), make_ops(arguments.kernels, device),
        arguments.kernels, time.monotonic() + arguments.seconds,
    )  # fmt: skip
    header = {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu", "torch": torch.__version__,
        "cuda": torch.version.cuda, "triton": version("triton"), "kernels": arguments.kernels,
        "shape": arguments.shape, "layers": bench.config.num_layers,
    }  # fmt: skip
    print(table("machine", header), flush=True)

    def save() -> None:
        arguments.json.write_text(json.dumps({"machine": header, **bench.found}, indent=2) + "\n")

    passed = measure(bench, sections, save)
    print(json.dumps({"machine": header, **bench.found}))
    raise SystemExit(0 if passed else 1)


def version(package: str) -> str | None:
    return importlib.metadata.version(package) if importlib.util.find_spec(package) else None


if __name__ == "__main__":
    main()
