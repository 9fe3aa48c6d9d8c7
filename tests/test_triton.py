"""The Triton kernels without a GPU: interpreted, against their plain twins, and compiled for four architectures."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from longhand.engine.config import ModelConfig
from longhand.kernels import reference

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
HERE = Path(__file__).parent

# Registers a thread at most; 64 where a kernel is not named. A multiprocessor has 64 K of them.
REGISTERS = {"product": 255, "attend": 255}
SHARED = {"sm_80": 163 << 10, "sm_86": 99 << 10, "sm_89": 99 << 10, "sm_90": 227 << 10}
KERNELS = {
    "product", "sum_splits", "dequantize_panels", "attend", "merge_splits", "rms_norm_rows", "swiglu_values",
    "rope_rows", "rope_and_cache_rows",
}  # fmt: skip


def start(*command, **environment):
    return subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """The interpreter's cases and the compiler, at the same time."""
    started = {
        "cases": start("-m", "pytest", "-p", "no:cacheprovider", HERE / "triton_cases.py", TRITON_INTERPRET="1"),
        "compiler": start(
            HERE / "triton_compile.py", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path_factory.mktemp("triton"))
        ),
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def compiled(processes):
    out, errors = processes["compiler"].communicate(timeout=300)
    assert processes["compiler"].returncode == 0, errors[-4000:]
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("architecture", SHARED)
def test_kernels_compile_without_spills(architecture, compiled):
    found = [kernel for kernel in compiled if kernel["architecture"] == architecture]
    assert {kernel["kernel"] for kernel in found} == KERNELS
    for kernel in found:
        assert kernel["stack"] == 0, kernel
        assert kernel["registers"] <= REGISTERS.get(kernel["kernel"], 64), kernel
        assert kernel["shared"] <= SHARED[architecture], kernel
    products = [kernel["matrix"] for kernel in found if kernel["kernel"] == "product" and kernel["matrix"]]
    assert products
    assert all(kind == (["wgmma"] if architecture == "sm_90" else ["mma"]) for kind in products)


def test_kernels_in_the_interpreter_equal_their_twins(processes):
    out, errors = processes["cases"].communicate(timeout=300)
    assert processes["cases"].returncode == 0, out[-4000:] + errors[-2000:]


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", HERE.parent / "benchmarks/gpu.py")
    module = sys.modules["gpu_benchmark"] = importlib.util.module_from_spec(spec)  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_runs_on_a_tiny_model(gpu, capsys):
    """All that does not need a GPU: it claims nothing, and its sections, table and JSON hold together."""
    config = ModelConfig(320, 128, 256, 2, 4, 2, 32, 1e-5, 1e6, 40960, False)
    gpu.CONTEXTS, gpu.APPENDS, gpu.WIDTHS = (0, 64), (16, 70), (1, 2)
    bench = gpu.Bench(torch.device("cpu"), config, reference, torch.float32)
    found = gpu.measure(bench, [name for name in gpu.SECTIONS if name != "peer"])
    assert not any("failed" in section for section in found.values()), found
    assert found["decode"]["64"]["eager"]["tokens_per_second"] > 0
    assert found["kernels"]["down"]["error"] < 1
    assert found["turns"]["recomputed"] == 0
    assert [turn["computed"] for turn in found["turns"]["turns"]] == [27, 16, 16]
    assert set(found["append"]) == {f"{count} behind {prefix}" for count in (16, 70) for prefix in (0, 64)}
    assert gpu.check(Halved(), (64, 128), torch.device("cpu"), torch.float32, 3) > 1  # a wrong kernel is found
    assert json.loads(json.dumps(found)) == found
    assert "decode" in capsys.readouterr().out
    late = gpu.Bench(torch.device("cpu"), config, reference, torch.float32, deadline=0)
    assert gpu.measure(late, ["decode"]) == {"decode": {"skipped": "out of time"}}


class Halved:
    pack = staticmethod(reference.pack)

    def quantized_linear(self, x, weight):
        return reference.quantized_linear(x, weight) / 2


def test_the_benchmark_refuses_a_machine_without_a_gpu():
    process = start(HERE.parent / "benchmarks/gpu.py", CUDA_VISIBLE_DEVICES="")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.strip() == "needs a CUDA GPU: torch sees none"
