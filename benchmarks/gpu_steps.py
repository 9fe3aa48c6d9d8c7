"""Sections of benchmarks/gpu.py about the whole model: decode, graph, width, append, turns, memory, peer."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from gpu_bench import CHUNK, Bench, attempt, linears, random_nf4, random_values, step, weight_bytes
from longhand.engine.cache import KVCache
from longhand.engine.fit import Fit
from longhand.engine.footprint import Footprint
from longhand.engine.graph import GraphDecoder
from longhand.engine.options import Setup
from longhand.engine.sampler import SamplingParams
from longhand.engine.session import Session
from longhand.kernels.weights import BLOCK, NESTED_BLOCK
from torch import Tensor, nn

GREEDY, CARD = SamplingParams(temperature=0), SamplingParams()  # the model card's


def decode(bench: Bench) -> dict[str, Any]:
    """Tokens a second behind some contexts, and the part of the bandwidth that reading every weight and cached value
    once makes of it: of a forward, launched one by one and as a graph, and of a session with its draws."""
    found: dict[str, Any] = {}
    for context in bench.shape.contexts:
        why = bench.why_not((context + 4 * bench.shape.sampled) * bench.kv_bytes)
        found[str(context)] = _decode_behind(bench, context) if why is None else why
    return found


def _decode_behind(bench: Bench, context: int) -> dict[str, Any]:
    num_bytes = weight_bytes(bench.decoder()) + context * bench.kv_bytes
    session = bench.session(context, 4 * bench.shape.sampled)
    forward = step(bench, session._cache, torch.ones(1, dtype=torch.int64, device=bench.device))

    def rate(seconds: Callable[[], float]) -> dict[str, float]:
        found = bench.rate(seconds(), num_bytes)
        return {**found, "tokens_per_second": 1e6 / found["microseconds"]}

    return {
        "eager": attempt(rate, lambda: bench.seconds(forward, 5)),
        "graph": attempt(rate, lambda: bench.seconds(bench.captured(forward), 5)),
        "session, greedy": attempt(rate, lambda: seconds_of_an_id(bench, session, GREEDY)),
        "session, sampled": attempt(rate, lambda: seconds_of_an_id(bench, session, CARD)),
    }


def seconds_of_an_id(bench: Bench, session: Session, params: SamplingParams) -> float:
    """Of a session that generates; the first ids, for which graphs may be recorded, do not count."""
    count = bench.shape.sampled
    tokens = session.generate(count, (), params)
    for _ in range(2):
        next(tokens)
    bench.wait()
    started = time.perf_counter()
    counted = sum(1 for _ in tokens)
    bench.wait()
    return (time.perf_counter() - started) / counted


def graph(bench: Bench) -> dict[str, Any]:
    """A session with graphs against one without, behind the same noise: the same ids, how fast, and what recording a
    step takes."""
    context, count = bench.shape.contexts[1], bench.shape.sampled
    found: dict[str, Any] = {}
    ids: dict[str, list[int]] = {}
    for params, drawn in ((GREEDY, "greedy"), (CARD, "sampled")):
        first = bench.session(context, 2 * count)
        second = first.fork()
        second._graphs = None
        if first._graphs is None:
            return {"skipped": "these kernels make no graphs"}
        for name, session in ((f"{drawn}, graph", first), (f"{drawn}, eager", second)):
            bench.wait()
            started = time.perf_counter()
            tokens = [token.id for token in session.generate(count, (), params)]
            bench.wait()
            ids[name] = tokens
            found[name] = {"seconds": time.perf_counter() - started}
            found[name]["microseconds_an_id"] = 1e6 * seconds_of_an_id(bench, session, params)
        found[f"{drawn}, ids that differ"] = sum(
            a != b for a, b in zip(ids[f"{drawn}, graph"], ids[f"{drawn}, eager"], strict=True)
        )
    for width in [width for width in bench.shape.widths if GraphDecoder.takes(width)]:
        session = bench.session(context, width)
        graphs = session._graphs
        assert graphs is not None
        bench.wait()
        started = time.perf_counter()
        made = graphs.forward([1] * width, session._cache)
        bench.wait()
        found[f"recorded, {width} ids"] = {"seconds": time.perf_counter() - started}
        eager = bench.decoder().logits(_hidden(bench, session._cache, width)[-1])
        found[f"recorded, {width} ids"]["bits_equal"] = bool(torch.equal(made, eager))
    return found


@torch.inference_mode()
def _hidden(bench: Bench, cache: KVCache, width: int) -> Tensor:
    return bench.decoder().hidden(torch.ones(width, dtype=torch.int64, device=bench.device), cache)


def width(bench: Bench) -> dict[str, Any]:
    """Time of a forward of M ids over that of one."""
    times: dict[str, float] = {}
    for ids in bench.shape.widths:
        cache = bench.cache(bench.shape.contexts[1], ids)
        forward = step(bench, cache, torch.ones(ids, dtype=torch.int64, device=bench.device))
        times[str(ids)] = bench.seconds(bench.captured(forward), 3)
    return {ids: {"microseconds": taken * 1e6, "over_one": taken / times["1"]} for ids, taken in times.items()}


def append(bench: Bench) -> dict[str, Any]:
    """Seconds to append ids behind a prefix, 512 at a time, the part of the matrix rate that they make, and how much
    longer it takes to encode the prefix again."""
    found: dict[str, Any] = {}
    decoder, rate = bench.decoder(), bench.found.get("bandwidth", {}).get("matmul")
    weights = sum(
        linear.shape[0] * linear.shape[1] for name, linear in linears(decoder).items() if name.startswith("model.")
    )

    @torch.inference_mode()
    def forward(cache: KVCache, ids: Tensor) -> None:
        start = cache.position
        for chunk in ids.split(CHUNK):
            hidden = decoder.hidden(chunk, cache)
            cache.advance(len(chunk))
        decoder.logits(hidden[-1])
        cache.rewind(start)

    for prefix in bench.shape.contexts:
        for count in bench.shape.appends:
            name, positions = f"{count} behind {prefix}", prefix + count
            why = bench.why_not(positions * bench.kv_bytes)
            if why is not None:
                found[name] = why
                continue
            cache, ids = bench.cache(prefix, count), torch.ones(count, dtype=torch.int64, device=bench.device)
            taken = bench.seconds(lambda c=cache, i=ids: forward(c, i), 1)  # type: ignore[misc]
            scores = 4 * count * (prefix + count / 2) * bench.config.num_heads * bench.config.head_dim
            operations = 2 * count * weights + bench.config.num_layers * scores
            row = {"seconds": taken, "operations_per_second": operations / taken}
            found[name] = row if rate is None else {**row, "fraction": operations / taken / rate}
            if prefix and count == bench.shape.appends[0]:
                cache.rewind(0)
                everything = torch.ones(positions, dtype=torch.int64, device=bench.device)
                again = bench.seconds(lambda c=cache, i=everything: forward(c, i), 1, 1)  # type: ignore[misc]
                found[name] |= {"encoded_again_seconds": again, "times_faster": again / taken}
            del cache
    return found


def turns(bench: Bench) -> dict[str, Any]:
    """A session of three tool turns: what was computed, what was reused, and how long the first id took."""
    prompt, response, sampled = bench.shape.turn
    session = bench.engine(prompt + 3 * (response + sampled) + 1).session()
    for turn in range(3):
        session.feed([1 + turn] * (response if turn else prompt), "tool" if turn else "prompt")
        for _ in session.generate(max_tokens=sampled, stop=(), sampling=GREEDY):
            pass
    return {"turns": [vars(turn) for turn in session.turns], "recomputed": session.recomputed}


def memory(bench: Bench) -> dict[str, Any]:
    """Bytes at the peak of a prefill and of steps behind it, and what the allocator has taken for them, against what
    `longhand fit` counts for such a session. The graphs of other sections are taken too: alone, it is exact."""
    context = bench.shape.contexts[1] + CHUNK
    name = str(bench.dtype).removeprefix("torch.")
    kernels = bench.kernels if bench.on_gpu else "auto"
    setup = Setup(
        device="cuda", dtype=name, kv_dtype=name, quantize=True, bitsandbytes=kernels == "auto", double_quant=True,
        head="nf4", kernels=kernels,
    )  # fmt: skip
    counted = Fit(Footprint(bench.config), setup, 0, context)
    found: dict[str, Any] = {"counted": counted.running(), "of_this_for_rounding": counted._rounding}
    if bench.on_gpu:
        bench.decoder()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
    session = bench.session(bench.shape.contexts[1], CHUNK)
    session.feed([1] * (CHUNK - 8))
    for _ in session.generate(6, (), CARD):
        pass
    if bench.on_gpu:
        found["peak"] = torch.cuda.max_memory_allocated(bench.device)
        found["reserved"] = torch.cuda.max_memory_reserved(bench.device)
        found["counted_over_reserved"] = counted.running() / found["reserved"]
    return found


def peer(bench: Bench) -> dict[str, Any]:
    """transformers with bitsandbytes on the same weights: how far apart the logits are behind the same 1,024 ids, and a
    step behind those, in turns with ours."""
    if not all(importlib.util.find_spec(name) for name in ("transformers", "bitsandbytes", "accelerate")):
        return {"skipped": "transformers, bitsandbytes or accelerate is not installed"}
    needed = weight_bytes(bench.decoder()) + bench.config.vocab_size * bench.config.hidden_size * 2
    if not bench.room(needed + 2 * bench.shape.contexts[1] * bench.kv_bytes):
        return {"skipped": "memory: both models do not fit"}
    import bitsandbytes
    import transformers

    context, id_ = bench.shape.contexts[1], torch.ones(1, dtype=torch.int64, device=bench.device)
    theirs = transformers_model(bench)
    draw = torch.Generator().manual_seed(0)
    prefix = torch.randint(bench.config.vocab_size, (context,), generator=draw).to(bench.device)
    cache = bench.cache(0, context + 1)
    with torch.inference_mode():
        given = theirs(prefix[None], past_key_values=transformers.DynamicCache(), use_cache=True)
        state, want = given.past_key_values, given.logits[0, -1].float()
        for chunk in prefix.split(CHUNK):
            hidden = bench.decoder().hidden(chunk, cache)
            cache.advance(len(chunk))
        got = bench.decoder().logits(hidden[-1])

    @torch.inference_mode()
    def their_step() -> None:
        theirs(id_[None], past_key_values=state, use_cache=True).logits[0, -1].argmax()
        state.crop(-1)

    calls = {"ours": bench.captured(step(bench, cache, id_)), "theirs": their_step}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):  # in turns
        for name, call in calls.items():
            times[name].append(bench.seconds(call, 5, 1))
    rates = {name: 1 / statistics.median(taken) for name, taken in times.items()}
    return {
        "tokens_per_second": rates, "times_faster": rates["ours"] / rates["theirs"],
        "logits_difference": float((got - want).abs().max() / want.std()),
        "same_id": bool(got.argmax() == want.argmax()),
        "transformers": transformers.__version__, "bitsandbytes": bitsandbytes.__version__,
    }  # fmt: skip


def transformers_model(bench: Bench) -> Any:
    """Qwen2ForCausalLM on the very weights of `make_decoder`."""
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
                rms_norm_eps=c.rms_norm_eps, rope_theta=c.rope_theta, tie_word_embeddings=False,
                dtype=str(bench.dtype).removeprefix("torch."),
            )
        )  # fmt: skip
    table = get_4bit_type("nf4", device=str(bench.device))
    for path, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear):
            continue
        shape, weight = module.weight.shape, random_nf4(*module.weight.shape, bench.device, f"{path}.weight")
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
            path, _, attribute = name.rpartition(".")
            value = random_values(parameter.shape, bench.device, bench.dtype, name)
            setattr(model.get_submodule(path), attribute, value)
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(bench.device)
    return model.eval()
