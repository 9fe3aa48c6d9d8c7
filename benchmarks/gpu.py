"""QwQ-32B's shape on one CUDA GPU in at most 9 minutes: `python benchmarks/gpu.py [--sections a,b] [--json FILE]`.

Needs torch, triton, safetensors and tokenizers; transformers with bitsandbytes is the peer if both are installed. The
weights are random nibbles and scales, made on the device. Every kernel is checked against float64 before anything is
timed. The card's read and copy bandwidth and matrix rate are measured, and printed, first.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
# This folder has a kernels.py, and bitsandbytes imports whatever is called `kernels`.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks"]
if importlib.util.find_spec("longhand") is None:  # a checkout that is not installed: its root is the package
    spec = importlib.util.spec_from_file_location(
        "longhand", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules["longhand"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["longhand"])

from longhand.engine.cache import KVCache  # noqa: E402
from longhand.engine.config import ModelConfig  # noqa: E402
from longhand.engine.decoder import Decoder, Linear  # noqa: E402
from longhand.engine.engine import Engine  # noqa: E402
from longhand.engine.sampler import SamplingParams  # noqa: E402
from longhand.kernels import reference  # noqa: E402
from longhand.kernels.weights import BLOCK, NESTED_BLOCK, FourBit, Nested  # noqa: E402

QWQ = ModelConfig(152064, 5120, 27648, 64, 40, 8, 128, 1e-5, 1e6, 40960, False)
SECTIONS = ("bandwidth", "kernels", "decode", "width", "append", "turns", "memory", "peer")
SECONDS = 530.0  # of the 9 minutes
CONTEXTS = (0, 1024, 8192, 32768)
WIDTHS = (1, 2, 4, 8, 16, 32)
APPENDS = (64, 512, 2048)
CHUNK = 512  # ids forwarded at once, as a session does
CPU = torch.device("cpu")


@dataclass
class Bench:
    """What is measured on, and what was found."""

    device: torch.device
    config: ModelConfig
    ops: Any
    dtype: torch.dtype = torch.bfloat16
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)
    found: dict[str, Any] = field(default_factory=dict)
    model: Decoder | None = None

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second: the larger of reading and copying, where they were measured."""
        measured = self.found.get("bandwidth", {})
        return max((measured[key] for key in ("read", "copy") if key in measured), default=None)

    def decoder(self) -> Decoder:
        """The model, made when it is first asked for."""
        if self.model is None:
            self.model = make_decoder(self.config, self.ops, self.device, self.dtype)
        return self.model

    def room(self, num_bytes: int) -> bool:
        """Whether so much memory is free, and half a GiB more."""
        return self.device.type != "cuda" or torch.cuda.mem_get_info(self.device)[0] > num_bytes + (1 << 29)

    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def cache(self, context: int, more: int) -> KVCache:
        """A cache that holds `context` positions of noise and has room for more."""
        cache = KVCache(self.config, self.device, self.dtype, context + more)
        cache.reserve(context + more)
        for rows in (*cache.keys, *cache.values):
            rows.normal_()
        cache.position = context
        return cache


def random_nf4(rows: int, columns: int, device: torch.device) -> FourBit:
    """Random codes, and absmax of about 0.04 in 8 bits: weights of about 0.02."""
    blocks = rows * columns // BLOCK
    packed = torch.randint(0, 256, (rows * columns // 2,), dtype=torch.uint8, device=device)
    absmax = torch.randint(0, 256, (blocks,), dtype=torch.uint8, device=device)
    scales = torch.rand(-(-blocks // NESTED_BLOCK), device=device) * 0.01 + 0.005
    table = reference.dynamic_table().to(device)
    return FourBit(packed, absmax, (rows, columns), nested=Nested(scales, table, torch.tensor(0.04, device=device)))


def make_decoder(config: ModelConfig, ops: Any, device: torch.device, dtype: torch.dtype) -> Decoder:
    """A decoder of random weights; every linear and the head in nested NF4."""
    with torch.device("meta"):
        decoder = Decoder(config, ops, device)
    for name, parameter in list(decoder.named_parameters()):
        path, _, attribute = name.rpartition(".")
        module = decoder.get_submodule(path)
        if isinstance(module, Linear) and attribute == "weight":
            module.set_quantized(random_nf4(*module.shape, device))
            continue
        value = torch.empty(parameter.shape, dtype=dtype, device=device)
        value.fill_(1) if "norm" in name else value.normal_(std=0.02)
        setattr(module, attribute, nn.Parameter(value, requires_grad=False))
    for block in decoder.model.layers:
        block.fuse()
    return decoder.eval()


def weight_bytes(decoder: Decoder) -> int:
    """Bytes that a step reads: every quantized weight; of the rest everything but the embedding."""
    linears = [module for module in decoder.modules() if isinstance(module, Linear)]
    four_bits = sum(linear.quantized.num_bytes for linear in linears if linear.quantized is not None)
    return four_bits + sum(
        value.numel() * value.element_size() for name, value in decoder.named_parameters() if "embed" not in name
    )


def seconds(call: Callable[[], Any], device: torch.device, repeats: int = 10, rounds: int = 3) -> float:
    """Seconds of a call: the median of some rounds, after one that does not count. The device is waited for."""
    taken = []
    for _ in range(rounds + 1):
        _wait(device)
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        _wait(device)
        taken.append((time.perf_counter() - started) / repeats)
    return statistics.median(taken[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def captured(call: Callable[[], Any], device: torch.device) -> Callable[[], Any] | None:
    """The call as a CUDA graph; None where it cannot be one."""
    if device.type != "cuda":
        return None
    try:
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    except RuntimeError as error:
        print(f"no graph: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return graph.replay


def bandwidth(bench: Bench) -> dict[str, Any]:
    """Bytes a second read (a sum) and copied (read and written), and bf16 operations a second of a matrix product."""
    size, side = ((1 << 31), 8192) if bench.device.type == "cuda" else ((1 << 20), 64)
    a = torch.ones(size // 4, device=bench.device)
    b = torch.empty_like(a)
    read, copy = seconds(lambda: a.sum(), bench.device), seconds(lambda: b.copy_(a), bench.device)
    m = torch.randn(side, side, device=bench.device).to(bench.dtype)
    product = seconds(lambda: m @ m, bench.device)
    return {"read": size / read, "copy": 2 * size / copy, "matmul": 2 * side**3 / product}


def check(ops: Any, shape: tuple[int, int], device: torch.device, dtype: torch.dtype, rows: int) -> float:
    """The largest error of a quantized product against float64, as a part of what rounding may cost. Above 1: wrong."""
    weight = random_nf4(*shape, device)
    x = torch.randn(rows, shape[1], device=device).to(dtype)
    got = ops.quantized_linear(x, ops.pack(weight)).double()
    worst = 0.0
    for start in range(0, shape[0], 4096):  # float64 copies of all of it would not fit beside a model
        part = reference.dequantize(weight, torch.float32)[start : start + 4096].double()
        want, sizes = x.double() @ part.T, x.double().abs() @ part.abs().T
        limit = torch.finfo(dtype).eps * (sizes + want.abs()) + 2**-20 * sizes  # the last for sums in float32
        worst = max(worst, ((got[:, start : start + 4096] - want).abs() / limit).max().item())
    return worst


def check_attention(ops: Any, config: ModelConfig, context: int, device: torch.device, dtype: torch.dtype) -> float:
    """As `check`."""
    q = torch.randn(3, config.num_heads, config.head_dim, device=device).to(dtype)
    k, v = torch.randn(2, context, config.num_kv_heads, config.head_dim, device=device).to(dtype)
    want = reference.attention(q.double(), k.double(), v.double()).double()
    sizes = reference.attention(q.double(), k.double(), v.double().abs()).double()
    limit = 2 * torch.finfo(dtype).eps * (sizes + want.abs()) + 1e-6
    return ((ops.attention(q, k, v).double() - want).abs() / limit).max().item()


def linear_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """The different shapes [N, K] of a block's linears, and the head's."""
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    hidden, wide = config.hidden_size, config.intermediate_size
    return {"q": (q, hidden), "k": (kv, hidden), "o": (hidden, q), "gate": (wide, hidden), "down": (hidden, wide),
            "head": (config.vocab_size, hidden)}  # fmt: skip


def kernels(bench: Bench) -> dict[str, Any]:
    """Each product and attention checked, then timed against the bytes it reads. Weights take turns, so that none is
    still in the L2 cache."""
    found: dict[str, Any] = {}
    for name, shape in linear_shapes(bench.config).items():
        worst = max(check(bench.ops, shape, bench.device, bench.dtype, rows) for rows in (1, 7, 16, 64))
        found[name] = {"error": worst}
        if worst > 1:
            print(f"WRONG: {name} is off by {worst:.1f} times what rounding may cost; it is not timed", file=sys.stderr)
            continue
        num_bytes = shape[0] * shape[1] // 2
        copies = max(1, -(-(256 << 20) // num_bytes)) if bench.device.type == "cuda" else 2
        weights = [bench.ops.pack(random_nf4(*shape, bench.device)) for _ in range(copies)]
        x = torch.randn(1, shape[1], device=bench.device).to(bench.dtype)

        def every(x: Tensor = x, weights: list[Any] = weights) -> None:
            for weight in weights:
                bench.ops.quantized_linear(x, weight)

        taken = seconds(captured(every, bench.device) or every, bench.device) / copies
        found[name] |= _rate(bench, taken, weights[0].num_bytes)
    for context in CONTEXTS[1:]:
        kv_bytes = 4 * context * bench.config.num_kv_heads * bench.config.head_dim
        if bench.device.type != "cuda" and context > 1024:
            continue
        found[f"attention {context}"] = {
            "error": check_attention(bench.ops, bench.config, context, bench.device, bench.dtype)
        }
        if found[f"attention {context}"]["error"] > 1:
            print(f"WRONG: attention over {context}; it is not timed", file=sys.stderr)
            continue
        copies = max(1, (256 << 20) // kv_bytes) if bench.device.type == "cuda" else 1
        shape = (copies, context, bench.config.num_kv_heads, bench.config.head_dim)
        k, v = torch.randn(2, *shape, device=bench.device, dtype=bench.dtype)
        q = torch.randn(1, bench.config.num_heads, bench.config.head_dim, device=bench.device).to(bench.dtype)

        def all_of_it(q: Tensor = q, k: Tensor = k, v: Tensor = v) -> None:
            for keys, values in zip(k, v, strict=True):
                bench.ops.attention(q, keys, values)

        taken = seconds(captured(all_of_it, bench.device) or all_of_it, bench.device) / copies
        found[f"attention {context}"] |= _rate(bench, taken, kv_bytes)
    return found


def _rate(bench: Bench, taken: float, num_bytes: int) -> dict[str, float]:
    rate = {"microseconds": taken * 1e6, "bytes": num_bytes, "bytes_per_second": num_bytes / taken}
    return rate if bench.bandwidth is None else {**rate, "fraction": num_bytes / taken / bench.bandwidth}


def step(bench: Bench, cache: KVCache, ids: Tensor) -> Callable[[], Tensor]:
    """One forward and a greedy choice; the cache stays where it is, so every call does the same."""
    decoder = bench.decoder()

    @torch.inference_mode()
    def forward() -> Tensor:
        return decoder.logits(decoder.hidden(ids, cache)[-1]).argmax()

    return forward


def decode(bench: Bench) -> dict[str, Any]:
    """Tokens a second behind some contexts, launched one by one and as a graph, and the part of the bandwidth that
    reading every weight and cached value once makes of it."""
    found = {}
    for context in CONTEXTS:
        cache_bytes = 4 * context * bench.config.num_layers * bench.config.num_kv_heads * bench.config.head_dim
        if bench.late() or not bench.room(cache_bytes):
            found[str(context)] = {"skipped": "time" if bench.late() else "memory"}
            continue
        forward = step(bench, bench.cache(context, 1), torch.ones(1, dtype=torch.int64, device=bench.device))
        num_bytes = weight_bytes(bench.decoder()) + cache_bytes
        row: dict[str, Any] = {"eager": _rate(bench, seconds(forward, bench.device, 5), num_bytes)}
        graph = captured(forward, bench.device)
        if graph is not None:
            row["graph"] = _rate(bench, seconds(graph, bench.device, 5), num_bytes)
        for rate in row.values():
            rate["tokens_per_second"] = 1e6 / rate["microseconds"]
        found[str(context)] = row
    return found


def width(bench: Bench) -> dict[str, Any]:
    """Time of a forward of M ids behind 1,024 over that of one."""
    times: dict[str, float] = {}
    for ids in WIDTHS:
        forward = step(bench, bench.cache(1024, ids), torch.ones(ids, dtype=torch.int64, device=bench.device))
        times[str(ids)] = seconds(captured(forward, bench.device) or forward, bench.device, 3)
    return {ids: {"microseconds": taken * 1e6, "over_one": taken / times["1"]} for ids, taken in times.items()}


def append(bench: Bench) -> dict[str, Any]:
    """Seconds to append ids behind a prefix, 512 at a time, and the part of the matrix rate that they make."""
    found = {}
    decoder, rate = bench.decoder(), bench.found.get("bandwidth", {}).get("matmul")
    weights = sum(linear.shape[0] * linear.shape[1] for linear in decoder.modules() if isinstance(linear, Linear))

    @torch.inference_mode()
    def forward(cache: KVCache, ids: Tensor) -> None:
        start = cache.position
        for chunk in ids.split(CHUNK):
            hidden = decoder.hidden(chunk, cache)
            cache.advance(len(chunk))
        decoder.logits(hidden[-1])
        cache.rewind(start)

    for prefix in CONTEXTS:
        for count in APPENDS:
            positions = prefix + count
            cache_bytes = 4 * positions * bench.config.num_layers * bench.config.num_kv_heads * bench.config.head_dim
            if bench.late() or not bench.room(cache_bytes) or positions > bench.config.max_position_embeddings:
                continue
            cache, ids = bench.cache(prefix, count), torch.ones(count, dtype=torch.int64, device=bench.device)
            taken = seconds(lambda c=cache, i=ids: forward(c, i), bench.device, 1)  # type: ignore[misc]
            scores = 4 * count * (prefix + count / 2) * bench.config.num_heads * bench.config.head_dim
            operations = 2 * count * weights + bench.config.num_layers * scores
            row = {"seconds": taken, "operations_per_second": operations / taken}
            found[f"{count} behind {prefix}"] = row if rate is None else {**row, "fraction": operations / taken / rate}
            del cache
    return found


class NoTokenizer:
    """What an engine asks of a tokenizer when nothing is text."""

    def __init__(self, config: ModelConfig):
        self.defined = range(config.vocab_size)
        self.control = type("Control", (), {"stops": ()})


def turns(bench: Bench) -> dict[str, Any]:
    """A session of three tool turns: what was computed, what was reused, and how long the first id took."""
    prompt, response, sampled = (1024, 512, 32) if bench.device.type == "cuda" else (24, 12, 4)
    room = prompt + 3 * (response + sampled) + 1
    engine = Engine(
        bench.decoder(), NoTokenizer(bench.config), bench.device, bench.dtype, bench.dtype, room, "nf4", "", "random",  # type: ignore[arg-type]
    )  # fmt: skip
    session = engine.session()
    for turn in range(3):
        session.feed([1 + turn] * (response if turn else prompt), "tool" if turn else "prompt")
        for _ in session.generate(max_tokens=sampled, stop=(), sampling=SamplingParams(temperature=0)):
            pass
    return {"turns": [vars(turn) for turn in session.turns], "recomputed": session.recomputed}


def memory(bench: Bench) -> dict[str, Any]:
    """Bytes at the peak of a forward of 512 ids behind 1,024, against what `longhand fit` counts for such a session."""
    from longhand.engine.fit import Fit
    from longhand.engine.footprint import Footprint
    from longhand.engine.options import Setup

    context = 1024 + CHUNK
    name = str(bench.dtype).removeprefix("torch.")
    setup = Setup(
        device=bench.device.type, dtype=name, kv_dtype=name, quantize=True, bitsandbytes=False, double_quant=True,
        head="nf4",
    )  # fmt: skip
    counted = Fit(Footprint(bench.config), setup, 0, context).running()
    if bench.device.type != "cuda":
        return {"counted": counted}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(bench.device)
    step(bench, bench.cache(1024, CHUNK), torch.ones(CHUNK, dtype=torch.int64, device=bench.device))()
    _wait(bench.device)
    peak = torch.cuda.max_memory_allocated(bench.device)
    return {"peak": peak, "reserved": torch.cuda.max_memory_reserved(bench.device), "counted": counted}


def peer(bench: Bench) -> dict[str, Any]:
    """transformers with bitsandbytes on weights of the same shape, a step behind 1,024 ids; ours is timed in turns with
    it where both fit, else the peer is alone."""
    if not all(importlib.util.find_spec(name) for name in ("transformers", "bitsandbytes", "accelerate")):
        return {"skipped": "transformers, bitsandbytes or accelerate is not installed"}
    ids = torch.ones(1, dtype=torch.int64, device=bench.device)
    needed = 2 * weight_bytes(bench.decoder())
    if not bench.room(needed):
        return {"skipped": "memory: both models do not fit"}
    from transformers import DynamicCache

    theirs, ours = _transformers(bench), step(bench, bench.cache(1024, 1), ids)
    ours = captured(ours, bench.device) or ours
    prefix = torch.ones(1, 1024, dtype=torch.int64, device=bench.device)
    with torch.inference_mode():
        state = theirs(prefix, past_key_values=DynamicCache(), use_cache=True).past_key_values

    @torch.inference_mode()
    def their_step() -> None:
        theirs(ids[None], past_key_values=state, use_cache=True).logits[0, -1].argmax()
        state.crop(1024)

    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(3):  # in turns
        for name, call in (("ours", ours), ("theirs", their_step)):
            times[name].append(seconds(call, bench.device, 5, 1))
    return {name: {"tokens_per_second": 1 / statistics.median(taken)} for name, taken in times.items()}


def _transformers(bench: Bench) -> Any:
    import bitsandbytes
    from bitsandbytes.functional import QuantState, get_4bit_type
    from bitsandbytes.nn import Params4bit
    from transformers import Qwen2Config, Qwen2ForCausalLM

    c = bench.config
    with torch.device("meta"):
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=c.vocab_size, hidden_size=c.hidden_size, num_hidden_layers=c.num_layers,
                intermediate_size=c.intermediate_size, num_attention_heads=c.num_heads,
                num_key_value_heads=c.num_kv_heads, max_position_embeddings=c.max_position_embeddings,
                rms_norm_eps=c.rms_norm_eps, tie_word_embeddings=False, dtype="bfloat16",
            )
        )  # fmt: skip
    table = get_4bit_type("nf4", device=bench.device)
    for path, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        shape, weight = module.weight.shape, random_nf4(*module.weight.shape, bench.device)
        nested = weight.nested
        assert nested is not None
        inner = QuantState(nested.scales, code=nested.table, blocksize=NESTED_BLOCK, dtype=torch.float32)
        state = QuantState(
            weight.absmax, shape, table, BLOCK, "nf4", bench.dtype, offset=nested.offset, state2=inner
        )  # fmt: skip
        with torch.device("meta"):
            made = bitsandbytes.nn.Linear4bit(
                shape[1], shape[0], bias=module.bias is not None, compute_dtype=bench.dtype, quant_type="nf4"
            )
        made.weight = Params4bit(
            weight.packed.view(-1, 1), requires_grad=False, quant_state=state, quant_type="nf4", bnb_quantized=True,
            module=made,
        )  # fmt: skip
        made.quant_state = state
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, made)
    for name, parameter in list(model.named_parameters()):
        if parameter.device.type == "meta":
            value = torch.empty(parameter.shape, dtype=bench.dtype, device=bench.device)
            value.fill_(1) if "norm" in name else value.normal_(std=0.02)
            path, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(path), attribute, nn.Parameter(value, requires_grad=False))
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(bench.device)
    return model.eval()


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
            shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
            lines.append(f"  {prefix:<48} {shown:>16}")

    add("", found)
    return "\n".join(lines)


def measure(bench: Bench, sections: Sequence[str]) -> dict[str, Any]:
    """Run sections in their order; what fails says so, and the rest goes on."""
    functions = {"bandwidth": bandwidth, "kernels": kernels, "decode": decode, "width": width, "append": append,
                 "turns": turns, "memory": memory, "peer": peer}  # fmt: skip
    for name in (section for section in SECTIONS if section in sections):
        if bench.late():
            bench.found[name] = {"skipped": "out of time"}
        else:
            try:
                bench.found[name] = functions[name](bench)
            except (RuntimeError, AssertionError, ImportError) as error:
                bench.found[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        print(table(name, bench.found[name]), flush=True)
    return bench.found


def make_ops(kind: str) -> Any:
    from longhand.kernels.dispatch import _without_library

    plain = _without_library(True)
    if kind == "plain":
        return plain
    from longhand.kernels.triton_ops import TritonOps

    return TritonOps(plain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of " + ",".join(SECTIONS))
    parser.add_argument("--ops", choices=("triton", "plain"), default="triton")
    parser.add_argument("--layers", type=int, default=QWQ.num_layers, help="fewer for a short run")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    arguments = parser.parse_args()
    sections = arguments.sections.split(",")
    if not set(sections) <= set(SECTIONS):
        parser.error(f"sections are {', '.join(SECTIONS)}")
    if not torch.cuda.is_available():
        print("needs a CUDA GPU: torch sees none", file=sys.stderr)
        raise SystemExit(2)
    from dataclasses import replace

    device = torch.device("cuda", torch.cuda.current_device())
    bench = Bench(device, replace(QWQ, num_layers=arguments.layers), make_ops(arguments.ops))
    header = {
        "device": torch.cuda.get_device_name(device), "torch": torch.__version__, "cuda": torch.version.cuda,
        "ops": arguments.ops, "layers": arguments.layers,
    }  # fmt: skip
    print(table("machine", header), flush=True)
    found = measure(bench, sections)
    arguments.json.write_text(json.dumps({**header, **found}, indent=2) + "\n")
    print(json.dumps({**header, **found}))


if __name__ == "__main__":
    main()
