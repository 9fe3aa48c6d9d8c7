"""Quantize, load and run a model of QwQ-32B's width: `python benchmarks/quantize.py FOLDER [--layers 4] [--consume]`.

Makes a random bf16 checkpoint in FOLDER/source, quantizes it into FOLDER/copy in a process of its own, loads the copy
in another and runs a prompt and two tool turns on it. Prints seconds and peak memory of each, and fails if quantizing
took more than the largest tensor x 3 + 1 GiB.

--consume   write each source shard just before it is quantized and empty it right after, so that the whole model of 64
            layers (65.5 GB) needs little disk
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from longhand import Engine, SamplingParams
from longhand.engine.checkpoint import Quantize
from longhand.engine.fit import fit_model
from longhand.engine.peak import Peak
from longhand.engine.quantize import quantize_checkpoint
from random_model import Noise, shards, write_holes, write_rest, write_shard

GIB = 2**30


def peak_rss() -> int:
    """The largest resident size that this process has had, bytes; pages of mapped files count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("needs Linux: /proc/self/status has no VmHWM")


def empty(path: Path) -> None:
    """Give the blocks of a file back to the disk and keep its size and header."""
    size = path.stat().st_size
    with path.open("rb+") as file:
        header = file.read(8 + int.from_bytes(file.read(8), "little"))
        file.seek(0)
        file.truncate(0)
        file.write(int.to_bytes(len(header), 8, "little") + header)
        file.truncate(size)


def make_source(source: Path, layers: int, consume: bool) -> Callable[[int, int], None]:
    """Write the source; with `consume` only the first shard has its weights at first, and the progress function that
    is returned fills the next one when one is done."""
    write_rest(source, layers)
    noise, ends, total = Noise(), [], 0
    for number, (file, shapes) in enumerate(shards(layers)):
        if consume and number:
            write_holes(source / file, shapes)
        else:
            write_shard(source / file, shapes, noise)
        total += sum(2 * torch.Size(shape).numel() for shape in shapes.values())
        ends.append(total)
    files = list(shards(layers))

    def progress(done: int, _: int) -> None:
        if consume and done in ends and done < total:
            number = ends.index(done)
            empty(source / files[number][0])
            write_shard(source / files[number + 1][0], files[number + 1][1], noise)

    return progress


def quantize(folder: Path, layers: int, consume: bool, head: bool, results: Any) -> None:
    progress = make_source(folder / "source", layers, consume)
    started = time.perf_counter()
    quantize_checkpoint(folder / "source", folder / "copy", Quantize(nested=True, head=head), progress=progress)
    results["quantize_seconds"] = round(time.perf_counter() - started, 1)
    results["quantize_peak_bytes"] = peak_rss()


def run(folder: Path, prompt: int, response: int, sampled: int, results: Any) -> None:
    fit, peak = fit_model(folder / "copy" / "config.json", "cpu"), Peak("cpu")
    started = time.perf_counter()
    engine = Engine.from_pretrained(folder / "copy", device="cpu")
    results["load_seconds"] = round(time.perf_counter() - started, 1)
    results["load_peak_bytes"] = peak_rss()
    peak.loaded()
    session, rng = engine.session(), random.Random(0)
    for length, source in ((prompt, "prompt"), (response, "tool"), (response, "tool")):
        session.feed([rng.randrange(256) for _ in range(length)], source)
        for _ in session.generate(sampled, stop=(), sampling=SamplingParams(temperature=0.6)):
            pass
    results["turns"] = [
        {"fed": t.fed, "computed": t.computed, "reused": t.reused, "sampled": t.sampled,
         "prefill_seconds": round(t.prefill_seconds, 2), "decode_seconds": round(t.decode_seconds, 2)}
        for t in session.turns
    ]  # fmt: skip
    results["recomputed"] = session.recomputed
    results["run_peak_bytes"] = peak.read()
    results["run_predicted_bytes"] = peak.baseline + fit.predicted(session) if fit is not None else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder for source and copy; both are removed at the end")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--consume", action="store_true")
    parser.add_argument("--head", choices=("nf4", "bf16"), default="bf16")
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--response", type=int, default=128)
    parser.add_argument("--sampled", type=int, default=4)
    arguments = parser.parse_args()
    folder = arguments.folder
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager:
        results = manager.dict()
        steps = (
            (quantize, (folder, arguments.layers, arguments.consume, arguments.head == "nf4", results)),
            (run, (folder, arguments.prompt, arguments.response, arguments.sampled, results)),
        )
        for step, given in steps:
            process = spawn.Process(target=step, args=given)
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{step.__name__} ended with status {process.exitcode}")
        found: dict[str, Any] = dict(results)
    copy = sum(path.stat().st_size for path in (folder / "copy").glob("*.safetensors"))
    shutil.rmtree(folder / "source")
    shutil.rmtree(folder / "copy")
    largest = 152064 * 5120 * 2
    bound = 3 * largest + GIB
    row = {
        "layers": arguments.layers, "head": arguments.head, "threads": torch.get_num_threads(), "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(), "copy_bytes": copy, **found,
        "quantize_bound_bytes": bound,
    }  # fmt: skip
    print(f"quantized in {found['quantize_seconds']} s, peak {found['quantize_peak_bytes'] / GIB:.2f} GiB "
          f"(at most {bound / GIB:.2f})")  # fmt: skip
    print(f"loaded {copy / 1e9:.2f} GB in {found['load_seconds']} s, peak {found['load_peak_bytes'] / GIB:.2f} GiB")
    for turn in found["turns"]:
        print(f"turn: fed {turn['fed']}, computed {turn['computed']}, reused {turn['reused']}, "
              f"{turn['prefill_seconds']} s, then {turn['sampled']} ids in {turn['decode_seconds']} s")  # fmt: skip
    if found["run_predicted_bytes"] is not None:
        print(
            f"running: predicted {found['run_predicted_bytes'] / GIB:.2f} GiB, peak {found['run_peak_bytes'] / GIB:.2f}"
        )
    print(json.dumps(row))
    if found["quantize_peak_bytes"] > bound:
        raise SystemExit("quantizing took more memory than its bound")


if __name__ == "__main__":
    main()
