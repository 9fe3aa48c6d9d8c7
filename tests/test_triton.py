"""The Triton kernels without a GPU: interpreted, against their plain twins, and compiled for four architectures."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
    pytest.mark.xdist_group("triton"),  # they share two processes of a minute each
]
HERE = Path(__file__).parent
CASES = (HERE / "triton_cases.py", HERE / "triton_block_cases.py")

# Registers a thread at most; 64 where a kernel is not named. A multiprocessor has 64 K of them: of a product's programs
# of 128 threads at least two run at once.
PRODUCTS = {"product", "qkv_product", "gated_product", "added_product"}
REGISTERS = {"attend": 255, **dict.fromkeys(PRODUCTS, 255)}
SHARED = {"sm_80": 163 << 10, "sm_86": 99 << 10, "sm_89": 99 << 10, "sm_90": 227 << 10}
KERNELS = {
    *PRODUCTS, "sum_splits", "dequantize_panels", "attend", "merge_splits", "weigh_rows", "rms_norm_rows",
    "swiglu_values", "rope_rows", "rope_and_cache_rows",
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
        "cases": start("-m", "pytest", "-p", "no:cacheprovider", *CASES, TRITON_INTERPRET="1"),
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
    out, errors = processes["compiler"].communicate(timeout=900)
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
    for name in PRODUCTS:
        products = [kernel for kernel in found if kernel["kernel"] == name and kernel["matrix"]]  # not those in float32
        assert products
        for kernel in products:
            assert kernel["matrix"] == (["wgmma"] if architecture == "sm_90" else ["mma"])
            assert kernel["copied_ahead"]
    assert {kernel["kernel"] for kernel in found if kernel["meets"]} == PRODUCTS - {"product"} | {"attend"}
    assert not [kernel for kernel in found if kernel["meets"] is False]


def test_kernels_in_the_interpreter_equal_their_twins(processes):
    out, errors = processes["cases"].communicate(timeout=900)
    assert processes["cases"].returncode == 0, out[-4000:] + errors[-2000:]
