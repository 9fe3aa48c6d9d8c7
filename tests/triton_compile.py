"""Compile what the launchers launch, for GPUs that are not there: `python tests/triton_compile.py [sm_80 ...]`.

A stub stands in for the driver and a launch becomes a warm-up, so every kernel is compiled with the very arguments,
alignments and options that QwQ-32B's shapes give it. Prints one JSON line per kernel: registers, stack and shared
memory, and what its instructions tell. test_triton.py runs it in a process of its own, because the interpreter is
chosen when kernels are decorated.
"""

import json
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
import triton
from longhand.kernels import triton_attention as attention
from longhand.kernels import triton_fused as fused
from longhand.kernels import triton_linear as linear
from longhand.kernels import triton_rows as rows_of
from longhand.kernels.triton_weights import Panels
from longhand.kernels.weights import Nested
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90")
MULTIPROCESSORS = 132  # an H100's
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class StubDriver:
    """A driver with one GPU that only compilers look at."""

    def __init__(self, architecture):
        self.target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)

    def get_current_target(self):
        return self.target

    def get_active_torch_device(self):
        return torch.device("cpu")

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=0):
        return 0

    def get_benchmarker(self):
        return lambda function, **options: [0.0]


@contextmanager
def compiling(architecture):
    """Launches compile instead; yields the list that the compiled kernels are added to."""
    compiled, run = [], JITFunction.run
    triton.runtime.driver.set_active(StubDriver(architecture))

    def compile_only(self, *args, **options):
        self.device_caches.clear()  # they know devices by number, and here each architecture is number 0
        compiled.append(run(self, *args, **{**options, "warmup": True}))

    JITFunction.run = compile_only
    try:
        yield compiled
    finally:
        JITFunction.run = run


def resources(kernel):
    """Registers a thread, bytes of stack (0 unless registers spill), bytes of shared memory a program."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        text = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack = (int(re.search(name + r":(\d+)", text)[1]) for name in ("REG", "STACK"))
    return {"registers": registers, "stack": stack, "shared": kernel.metadata.shared}


def meets(ptx):
    """For a kernel whose programs meet in memory: whether all threads' values are written before the program counts as
    arrived, and are read, past the first cache, when all threads know that it has. None where they do not meet."""
    if "atom." not in ptx:
        return None
    before, after = re.split(r"[^\n]*atom\.global\.gpu\.acq_rel\.add[^\n]*", ptx)
    written = re.search(r"st\.global(?:(?!st\.global).)*bar\.sync(?:(?!st\.global).)*$", before, re.DOTALL)
    read = re.search(r"^(?:(?!ld\.global\.cg).)*bar\.sync.*ld\.global\.cg", after, re.DOTALL)
    return bool(written and read)


def launches(run):
    """Every launcher with the shapes of QwQ-32B, in bfloat16; once in float16 and float32."""
    hidden, intermediate, heads, kv_heads, width = 5120, 27648, 40, 8, 128
    wide = heads * width
    weights = [panels(wide, hidden, 64, True, False, run), panels(wide, hidden, 64, False, False, run)]
    weights += [panels(wide, hidden, 128, False, True, run), panels(kv_heads * width, hidden, 64, True, False, run)]
    for weight in (*weights, panels(intermediate, hidden, 64, True, False, run)):
        n, k = weight.shape
        linear.multiply(torch.empty(1, k, dtype=torch.bfloat16), weight, torch.empty(n), MULTIPROCESSORS)
    weight = weights[0]
    linear.multiply(torch.empty(64, hidden, dtype=torch.bfloat16), weight, None, MULTIPROCESSORS)
    linear.multiply(torch.empty(1, hidden, dtype=torch.float16), weight, None, MULTIPROCESSORS)
    linear.multiply(torch.empty(1, hidden), weight, None, MULTIPROCESSORS)
    linear.dequantize_rows(weight, 0, 128, torch.empty(128, hidden, dtype=torch.bfloat16))
    keys, wide_keys = torch.empty(1024, kv_heads, width, dtype=torch.bfloat16), torch.empty(1024, kv_heads, width)
    for positions in (1, 5, 512):
        attention.attention(torch.empty(positions, heads, width, dtype=keys.dtype), keys, keys, MULTIPROCESSORS)
    attention.attention(torch.empty(1, heads, width), wide_keys, wide_keys, MULTIPROCESSORS)
    q, qkv = keys.new_empty(1, heads, width), keys.new_empty(1, (heads + 2 * kv_heads) * width)
    position, angles, x = torch.zeros(3, dtype=torch.int32)[1], torch.empty(1, width // 2), keys.new_empty(1, hidden)
    arrivals = torch.zeros(intermediate // 64, dtype=torch.int32)
    attention.attention(q, keys, keys, MULTIPROCESSORS, position=position, splits=8, arrivals=arrivals)
    normed, bias = fused.weigh(x, x[0]), keys.new_empty((heads + 2 * kv_heads) * width)
    inner = x.new_empty(1, intermediate)
    for nested, zeros in ((True, False), (False, False), (False, True)):  # bitsandbytes', Longhand's own, AWQ's
        weight = panels(hidden, intermediate, 128 if zeros else 64, nested, zeros, run)
        fused.add(inner, weight, x, x[0], arrivals, MULTIPROCESSORS)
    fused.add(inner, panels(hidden, intermediate, 64, True, False, run), x, None, arrivals, MULTIPROCESSORS)
    weight = panels((heads + 2 * kv_heads) * width, hidden, 64, True, False, run)
    for at in (position, 5):
        fused.qkv(normed, 1e-5, weight, bias, angles, angles, keys, keys, at, arrivals, MULTIPROCESSORS)
    for splits in (1, 3):  # what follows, from registers or from what was summed
        weight = panels(2 * intermediate, hidden, 64, True, False, run)
        fused.gated(normed, 1e-5, weight, arrivals, MULTIPROCESSORS, splits)
    rows_of.rope_and_cache(qkv, angles, angles, q, keys, keys, position)
    rows_of.rope(q, angles, angles, q.clone())
    rows_of.rms_norm(x, x[0], 1e-5, x.clone())
    rows_of.swiglu(x, x, x.clone())


def panels(n, k, group, nested, zeros, run):
    """A weight of this shape whose values nobody reads."""
    count = -(-n // 64)
    scales = torch.empty(
        count, k // group, 64, dtype=torch.uint8 if nested else torch.float16 if zeros else torch.float32
    )
    inner = Nested(torch.empty(-(-n * k // group // 256)), torch.empty(256), torch.empty(())) if nested else None
    codes = torch.empty(count, k // 64, 128, 16, dtype=torch.uint8)
    table, words = torch.empty(16), torch.empty(2, 8, dtype=torch.int32)
    zero_points = torch.empty(scales.shape, dtype=torch.uint8) if zeros else None
    offsets = torch.empty(count) if nested else None
    return Panels(codes, scales, table, words, (n, k), group, run, zero_points, inner, offsets)


def main():
    for architecture in sys.argv[1:] or ARCHITECTURES:
        with compiling(architecture) as compiled:
            launches(2 if architecture == "sm_90" else 4)
        found = {}
        for kernel in compiled:  # one of each: equal arguments give equal code
            found.setdefault(kernel.hash, kernel)
        for kernel in found.values():
            line = {"architecture": architecture, "kernel": kernel.metadata.name, **resources(kernel)}
            ptx = kernel.asm["ptx"]
            matrix = sorted(set(re.findall(r"\n\s*(wgmma|mma)\.", ptx)))
            print(json.dumps({**line, "matrix": matrix, "copied_ahead": "cp.async" in ptx, "meets": meets(ptx)}))


if __name__ == "__main__":
    main()
