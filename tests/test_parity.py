"""The decoder against transformers' Qwen2ForCausalLM on random checkpoints of the real architecture."""

import types

import pytest
import torch
from longhand.engine.cache import KVCache
from longhand.engine.engine import Engine
from longhand.kernels import reference
from transformers import Qwen2ForCausalLM

FLOAT32 = 1e-4  # of logits whose spread is 1 to 3; a wrong op moves them by 0.1 and more, see the mutations below

# Each row differs from the first in what its name says. Positions go beyond every original_max_position_embeddings.
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
CONFIGS = {
    "plain": {},
    "tied": {"tied": True, "layout": "old"},
    "one kv head": {"kv_heads": 1, "heads": 8, "hidden": 64, "head_dim": 32},
    "eight kv heads": {"kv_heads": 8, "heads": 8, "hidden": 64, "layout": "old", "head_dim": 32},
    "head of 64, four groups": {"kv_heads": 4, "heads": 8, "hidden": 96, "head_dim": 64, "layers": 3},
    "head of 128, QwQ's theta": {"kv_heads": 1, "heads": 5, "hidden": 80, "head_dim": 128, "theta": 1e6, "eps": 1e-6},
    "yarn, new": {"yarn": YARN, "theta": 1e6, "head_dim": 64},
    "yarn, old": {"yarn": YARN, "theta": 1e6, "layout": "old", "hidden": 128, "heads": 4},
    "yarn, tiny original": {"yarn": {"factor": 8.0, "original_max_position_embeddings": 16}, "head_dim": 32},
    "yarn, long original": {"yarn": {"factor": 4.0, "original_max_position_embeddings": 32768}, "head_dim": 128,
                            "theta": 1e6, "max_positions": 131072},
    "yarn, every option": {"yarn": {**YARN, "beta_fast": 16, "beta_slow": 2, "attention_factor": 1.3,
                                    "truncate": False}, "head_dim": 64},
    "yarn without original": {"yarn": {"factor": 2.0}, "max_positions": 96, "layout": "old", "head_dim": 64},
    "sharded": {"shards": 3},
    "sharded, tied, 1000 rows": {"shards": 2, "tied": True, "vocab": 1000, "layout": "old"},
    "one layer, wide": {"layers": 1, "hidden": 160, "heads": 10, "kv_heads": 5, "intermediate": 33},
}  # fmt: skip
LENGTH = 150


def ids_for(config, length=LENGTH):
    # Also rows of the embedding that the tokenizer does not define.
    generator = torch.Generator().manual_seed(length)
    return torch.randint(config.vocab_size, (length,), generator=generator)


@torch.inference_mode()
def our_logits(engine, ids, pieces=None, max_context=4096):
    """Logits at every position, forwarded over one cache in pieces of these lengths."""
    cache = KVCache(engine.config, engine.device, engine.kv_dtype, max_context)
    rows, start = [], 0
    for length in pieces or [len(ids)]:
        part = ids[start : start + length]
        cache.reserve(start + length)
        rows.append(engine.decoder.forward(part, cache, range(len(part))))
        cache.advance(length)
        start += length
    assert start == len(ids)
    return torch.cat(rows)


@torch.inference_mode()
def their_logits(folder, ids, dtype=torch.float32):
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    return model(ids[None]).logits[0].float()


@pytest.fixture(scope="module", params=CONFIGS, ids=CONFIGS)
def pair(request, make_checkpoint):
    """(engine, ids, logits of transformers)."""
    folder = make_checkpoint(**CONFIGS[request.param], seed=sorted(CONFIGS).index(request.param))
    engine = Engine.from_pretrained(folder, device="cpu", quantization=None)
    ids = ids_for(engine.config)
    return engine, ids, their_logits(folder, ids)


def test_whole(pair):
    engine, ids, want = pair
    assert 0.3 < float(want.std()) < 10  # the tolerance below is for logits of this size
    got = our_logits(engine, ids)
    assert got.dtype == torch.float32
    assert float((got - want).abs().max()) <= FLOAT32


@pytest.mark.parametrize("pieces", [[1, 149], [149, 1], [64, 3, 1, 1, 81], [50] * 3])
def test_split_over_a_cache(pair, pieces):
    engine, ids, want = pair
    assert float((our_logits(engine, ids, pieces) - want).abs().max()) <= FLOAT32


def test_one_id_at_a_time(pair):
    engine, ids, want = pair
    assert float((our_logits(engine, ids[:40], [1] * 40) - want[:40]).abs().max()) <= FLOAT32


def test_session_gives_the_last_row(pair):
    engine, ids, _ = pair
    defined = torch.tensor([int(i) if engine.defines(int(i)) else 0 for i in ids])
    session = engine.session()
    session.feed(defined[:70].tolist())
    session.logits()
    session.feed(defined[70:90].tolist(), source="tool")
    assert float((session.logits() - our_logits(engine, defined[:90])[-1]).abs().max()) <= FLOAT32


def test_positions_far_beyond_the_original_context(make_checkpoint):
    folder = make_checkpoint(
        yarn={"factor": 4.0, "original_max_position_embeddings": 256}, head_dim=32, layers=1, theta=1e6,
        max_positions=256, layout="old",
    )  # fmt: skip
    engine = Engine.from_pretrained(folder, device="cpu")
    assert engine.max_context == 1024
    ids = ids_for(engine.config, 1000)
    want = their_logits(folder, ids)
    assert float((our_logits(engine, ids, [600, 1, 399]) - want).abs().max()) <= FLOAT32


# What a tolerance is worth: each of these must be seen.


def top_left_attention(q, k, v):
    whole = torch.ones(q.shape[0], k.shape[0], dtype=torch.bool).tril()
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("thd,shd->hts", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hts,shd->thd", scores.masked_fill(~whole, -torch.inf).softmax(-1), v)


def groups_in_wrong_order(q, k, v):
    heads, kv_heads = q.shape[1], k.shape[1]
    order = torch.arange(heads).view(kv_heads, -1).T.reshape(-1)
    return reference.attention(q[:, order], k, v)


def interleaved_rope(x, cos, sin):
    a, b = x[..., ::2], x[..., 1::2]
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)


def swapped_rope(x, cos, sin):
    b, a = x.chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


MUTATIONS = {
    "causal mask aligned to the top left": {"attention": top_left_attention},
    "query heads grouped in the wrong order": {"attention": groups_in_wrong_order},
    "no scale on the scores": {"attention": lambda q, k, v: reference.attention(q * q.shape[-1] ** 0.5, k, v)},
    "rope in interleaved pairs": {"rope": interleaved_rope},
    "rope's halves swapped": {"rope": swapped_rope},
    "no rope": {"rope": lambda x, cos, sin: x},
    "no bias": {"linear": lambda x, weight, bias=None: reference.linear(x, weight)},
    "silu on the wrong half": {"swiglu": lambda gate, up: reference.swiglu(up, gate)},
    "gelu for silu": {"swiglu": lambda gate, up: torch.nn.functional.gelu(gate) * up},
    "eps outside the root": {
        "rms_norm": lambda x, weight, eps: weight * x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-2)
    },
    "norm's weight from zero": {"rms_norm": lambda x, weight, eps: reference.rms_norm(x, weight + 1, eps)},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_op_is_seen(name, make_checkpoint):
    folder = make_checkpoint(heads=8, kv_heads=2, hidden=64)
    engine = Engine.from_pretrained(folder, device="cpu")
    ids = ids_for(engine.config, 40)
    want = our_logits(engine, ids)
    wrong = types.SimpleNamespace(**{op: getattr(reference, op) for op in ("linear", "rms_norm", "rope", "swiglu")})
    wrong.attention = reference.attention
    for op, function in MUTATIONS[name].items():
        setattr(wrong, op, function)
    for module in engine.decoder.modules():
        if hasattr(module, "ops"):
            module.ops = wrong
    assert float((our_logits(engine, ids, [30, 10]) - want).abs().max()) > 30 * FLOAT32


@pytest.mark.parametrize("field", ["factor", "original_max_position_embeddings", "attention_factor", "beta_fast"])
def test_a_wrong_yarn_field_is_seen(field, make_checkpoint):
    yarn = {"factor": 4.0, "original_max_position_embeddings": 1024, "attention_factor": 1.1, "beta_fast": 32.0}
    right = Engine.from_pretrained(make_checkpoint(yarn=yarn, head_dim=64, theta=1e4), device="cpu")
    other = {**yarn, field: yarn[field] * 2}
    wrong = Engine.from_pretrained(make_checkpoint(yarn=other, head_dim=64, theta=1e4), device="cpu")
    ids = ids_for(right.config)
    assert float((our_logits(right, ids) - our_logits(wrong, ids)).abs().max()) > 30 * FLOAT32


# Lower precisions: rounding of each op's result is 2**-9 (bfloat16) or 2**-12 (float16) of its size, and some thirty
# roundings in a row add up like a random walk. The oracle computed in the same dtype is as far from float32.
ROUNDING = {torch.bfloat16: 2**-9, torch.float16: 2**-12}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("name", ["plain", "tied", "yarn, old", "head of 64, four groups"])
def test_lower_precision(name, dtype, make_checkpoint):
    folder = make_checkpoint(**CONFIGS[name], dtype=dtype)
    engine = Engine.from_pretrained(folder, device="cpu", dtype=dtype)
    assert engine.kv_dtype == dtype
    ids = ids_for(engine.config)
    exact, theirs = their_logits(folder, ids), their_logits(folder, ids, dtype)
    ours = our_logits(engine, ids, [100, 50])
    size = float(exact.std())
    assert float((ours - exact).std()) <= 12 * ROUNDING[dtype] * size
    assert float((ours - exact).abs().max()) <= 80 * ROUNDING[dtype] * size
    assert float((ours - exact).std()) <= 1.2 * float((theirs - exact).std())  # no less careful than the oracle


def test_nf4_is_the_decoder_of_the_dequantized_weights(make_checkpoint):
    """Quantization changes weights and nothing else: equal to transformers on the dequantized twin."""
    from safetensors.torch import load_file, save_file

    folder = make_checkpoint(hidden=64, heads=4)
    engine = Engine.from_pretrained(folder, device="cpu", quantization="nf4")
    ids = ids_for(engine.config)
    ours = our_logits(engine, ids)
    assert float((ours - their_logits(folder, ids)).abs().max()) > 0.05
    path = folder / "model.safetensors"
    weights = load_file(path)
    for name, tensor in weights.items():
        if "proj.weight" in name:
            weights[name] = reference.dequantize(reference.quantize_nf4(tensor), torch.float32)
    path.unlink()
    save_file(weights, path, metadata={"format": "pt"})
    assert float((ours - their_logits(folder, ids)).abs().max()) <= FLOAT32
