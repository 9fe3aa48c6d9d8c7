"""benchmarks/gpu.py without a GPU: every section runs on a tiny model, finds what is wrong, and says what it skips."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from longhand.kernels import reference

FOLDER = Path(__file__).parents[1] / "benchmarks"
CPU = torch.device("cpu")
QUICK = ("bandwidth", "kernels", "decode", "graph", "launches", "width", "turns", "memory", "append")  # not the peer


def run(*arguments, **environment):
    command = [sys.executable, FOLDER / "gpu.py", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


@pytest.fixture(scope="module")
def modules():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield {name: importlib.import_module(name) for name in ("gpu", "gpu_bench", "gpu_kernels", "gpu_steps")}
        for name in ("gpu", "gpu_bench", "gpu_kernels", "gpu_steps"):
            del sys.modules[name]


@pytest.fixture
def bench(modules):
    of = modules["gpu_bench"]
    return of.Bench(CPU, of.SHAPES["tiny"], of.make_ops("triton", CPU))


def test_it_refuses_a_machine_without_a_gpu():
    process = run(CUDA_VISIBLE_DEVICES="")
    assert process.returncode == 2
    assert process.stderr.strip() == "needs a CUDA GPU: torch sees none"
    assert process.stdout == ""
    process = run("--sections", "bandwidth,nothing", CUDA_VISIBLE_DEVICES="")
    assert process.returncode == 2
    assert "sections are bandwidth, kernels" in process.stderr


def test_every_section_runs(tmp_path):
    """With the peer, and from another folder, as one command."""
    process = run("--device", "cpu", "--shape", "tiny", "--json", str(tmp_path / "found.json"))
    assert process.returncode == 0, process.stdout + process.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == json.loads(process.stdout.splitlines()[-1])
    assert list(found) == ["machine", *QUICK, "peer"]
    assert found["machine"]["device"] == "cpu"
    assert not [name for name in QUICK if "failed" in found[name] or "skipped" in found[name]]
    assert found["kernels"]["down"]["error"] < 1
    assert found["kernels"]["block 5"]["error"] < 1
    assert found["kernels"]["block 5"]["differing"] == 0
    assert set(found["decode"]["64"]) == {"eager", "graph", "session, greedy", "session, sampled"}
    assert all(row["tokens_per_second"] > 0 for row in found["decode"]["64"].values())
    assert found["graph"]["greedy, ids that differ"] == found["graph"]["sampled, ids that differ"] == 0
    assert found["graph"]["recorded, 2 ids"]["bits_equal"] is True
    assert 0 <= found["launches"]["idle"] < 1
    assert found["turns"]["recomputed"] == 0
    assert [turn["computed"] for turn in found["turns"]["turns"]] == [27, 16, 16]
    assert found["memory"]["counted"] > found["memory"]["of_this_for_rounding"]
    assert set(found["append"]) == {f"{count} behind {prefix}" for count in (16, 70) for prefix in (0, 64)} | {
        "section_seconds"
    }
    assert found["append"]["16 behind 64"]["times_faster"] > 0
    if "skipped" not in found["peer"]:  # the same model: bitsandbytes multiplies in bfloat16 on some CPUs
        assert found["peer"]["same_id"] is True
        assert found["peer"]["logits_difference"] < 0.1


def test_a_section_that_fails_does_not_stop_the_others(modules, bench, monkeypatch, capsys):
    def broken(bench):
        raise KeyError("one line\nand another")

    monkeypatch.setitem(modules["gpu"].SECTIONS, "kernels", broken)
    saved = []
    assert modules["gpu"].measure(bench, ["width", "kernels"], lambda: saved.append(dict(bench.found))) is False
    assert bench.found["kernels"]["failed"] == r"KeyError: 'one line\nand another'"
    assert bench.found["width"]["1"]["over_one"] == 1
    assert [list(found) for found in saved] == [["kernels"], ["kernels", "width"]]
    assert "KeyError" in capsys.readouterr().out
    monkeypatch.setattr(modules["gpu_steps"], "seconds_of_an_id", broken)  # a part of a section
    assert modules["gpu"].measure(bench, ["decode"]) is False
    assert bench.found["decode"]["64"]["eager"]["tokens_per_second"] > 0
    assert "TypeError" in bench.found["decode"]["64"]["session, greedy"]["failed"]
    bench.deadline = 0
    assert modules["gpu"].measure(bench, ["turns"]) is True
    assert bench.found["turns"]["skipped"] == "out of time"
    late = modules["gpu_steps"].decode(bench)
    assert late == {"0": {"skipped": "out of time"}, "64": {"skipped": "out of time"}}


class Wrong:
    """The plain operations, one of them wrong."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def __getattr__(self, name):
        right = getattr(reference, name)
        return (lambda *arguments: self.change(right(*arguments))) if name == self.name else right

    def block(self, weights):
        return self.change(reference.PlainBlock(weights)) if self.name == "block" else reference.PlainBlock(weights)


def test_wrong_kernels_are_found(modules, bench):
    kernels = modules["gpu_kernels"]
    nan = float("nan")
    for name, change, wrong in (
        ("quantized_linear", lambda out: out * 1.001, "q, k, o, gate, down, head"),
        ("attention", lambda out: out.index_fill(0, torch.tensor([1]), nan), "attention 64"),
        ("block", lambda block: lambda *rest: block(*rest) * 1.001, "block 1, block 5, block 16"),
    ):
        bench.ops = Wrong(name, change)
        found = kernels.kernels(bench)
        assert found["failed"] == f"wrong: {wrong}"
        assert not any("microseconds" in found[part] for part in wrong.split(", "))
    flips = iter([0.0, 0.0, 1e-3, 0.0])  # once something else
    bench.ops = Wrong("block", lambda block: lambda *rest: block(*rest) + next(flips))
    assert kernels.check_block(bench, 5, 61)["differing"] == 1
    assert kernels.check(Wrong("quantized_linear", lambda out: out), (64, 128), CPU, torch.float32, 3) < 1


def test_idle_time_and_kernels_to_a_layer(modules, bench):
    kernels = modules["gpu_kernels"]
    assert kernels.busy([(0, 2), (1, 3), (5, 6), (5.2, 5.4)]) == 4
    events = [("added_product", 0.0, 4.0), ("gated_product", 5.0, 9.0), ("added_product", 8.0, 10.0)]
    found = kernels.summary(bench, events)
    assert (found["kernels"], found["kernels_per_layer"], found["microseconds"]) == (3, 1.5, 10.0)
    assert found["idle"] == pytest.approx(0.1)
    added = found["added_product"]
    assert (added["count"], added["microseconds_each"]) == (2, 3.0)
    linears = modules["gpu_bench"].linears(bench.decoder())
    size = sum(linears[f"model.layers.{layer}.{name}"].quantized.num_bytes for layer in (0, 1)
               for name in ("self_attn.o_proj", "mlp.down_proj"))  # fmt: skip
    assert added["bytes_per_second"] == pytest.approx(size / 6e-6)


def test_the_same_weights_for_the_same_name(modules):
    of = modules["gpu_bench"]
    first, again, other = (of.random_nf4(64, 64, CPU, name) for name in ("a", "a", "b"))
    assert torch.equal(first.packed, again.packed)
    assert torch.equal(first.nested.scales, again.nested.scales)
    assert not torch.equal(first.packed, other.packed)


def test_what_does_not_fit_is_skipped(modules, bench, monkeypatch):
    monkeypatch.setattr(type(bench), "room", lambda self, num_bytes: num_bytes < 64 * self.kv_bytes)
    assert modules["gpu_steps"].append(bench)["70 behind 64"] == {"skipped": "memory"}
    bench.deadline = time.monotonic() - 1
    assert bench.why_not(0) == {"skipped": "out of time"}
