"""What a KV cache in fewer bits costs in accuracy: `python benchmarks/kv_accuracy.py [--model M ...] [--ids 768]`.

For fixed ids: KL(logits over the unrounded cache || over this one) in nats and how often the likeliest id is the same,
over all positions, and bytes of cache per id. Models: the built-in one ("answers": a run of the agent, only where the
model chose the id; "text": prose, of which it was never trained to say the next id), and "outliers", a random Qwen2
whose k_proj biases are hundreds of times the rest of the keys in three channels of each head, as Qwen2's can be.

Caches: bfloat16; int8 as the engine has it (marked *); the same in other groups; with the bias left in the keys; and
keys with one scale to a channel, fitted to these very ids, which no cache that only grows can have. Prints a table,
then one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accuracy import arguments, built_in, compare, log_probabilities, prose
from longhand import DEMO, Engine
from longhand.engine.cache import KVCache
from longhand.engine.cache_int8 import GROUP, Int8KVCache
from longhand.kernels.kv_int8 import dequantize_int8, quantize_int8
from safetensors.torch import save_file
from torch import Tensor

SEED = 20


class ChannelKeys(KVCache):
    """Keys rounded to 127 steps of the largest value that a channel has in `keys`; values as in the int8 cache."""

    plain = False

    def __init__(self, engine: Engine, keys: list[Tensor]):
        super().__init__(engine.config, engine.device, torch.float32, engine.max_context)
        self.steps = [rows.float().abs().amax(0).clamp(min=1e-30) / 127 for rows in keys]
        self.group = engine.new_cache().group if engine.kv_dtype == torch.int8 else GROUP

    @property
    def bytes_per_token(self) -> int:
        """As if stored: a byte a key, and the int8 cache's values; the scales of channels are paid once."""
        layers, _, heads, width = len(self.keys), *self.keys[0].shape
        return layers * heads * (2 * width + 2 * width // self.group)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        step = self.steps[layer]
        return super().extend(layer, (keys / step).round() * step, dequantize_int8(*quantize_int8(values, self.group)))


def int8(engine: Engine, group: int, with_bias: bool = False) -> Int8KVCache:
    biases = [
        engine.decoder.get_parameter(f"model.layers.{layer}.self_attn.k_proj.bias")
        for layer in range(engine.config.num_layers)
    ]
    if with_bias:
        biases = [torch.zeros_like(bias) for bias in biases]
    return Int8KVCache(engine.config, engine.device, engine.max_context, biases, engine.decoder.rotary, group)


def caches(engine: Engine, plain: KVCache) -> Iterator[tuple[str, Callable[[], KVCache]]]:
    """Names and makers. `plain` holds the unrounded keys of the ids that are measured."""
    width = engine.config.head_dim
    yield "bfloat16", lambda: KVCache(engine.config, engine.device, torch.bfloat16, engine.max_context)
    yield "int8, bias kept, a scale per head", lambda: int8(engine, width, with_bias=True)
    yield f"int8, bias kept, per {GROUP}", lambda: int8(engine, GROUP, with_bias=True)
    yield "int8, bias kept, per channel", lambda: ChannelKeys(engine, [rows[: plain.position] for rows in plain.keys])
    for group in sorted({width, 64, GROUP, 16}, reverse=True):
        name = "a scale per head" if group == width else f"per {group}"
        mark = "*" if group == GROUP else ""
        if width % group == 0:
            yield f"int8, no bias, {name}{mark}", lambda group=group: int8(engine, group)


def measure(engine: Engine, name: str, ids: list[int], positions: list[int]) -> list[dict[str, object]]:
    plain = KVCache(engine.config, engine.device, torch.float32, engine.max_context)
    want = log_probabilities(engine, ids, positions, plain)
    rows = []
    for scheme, make in caches(engine, plain):
        cache = make()
        got = log_probabilities(engine, ids, positions, cache)
        rows.append({
            "model": name, "cache": scheme, "positions": len(positions), "bytes_per_token": cache.bytes_per_token,
            "of_bfloat16": round(cache.bytes_per_token / engine.config.kv_bytes_per_token(2), 3),
            **compare(want, got),
        })  # fmt: skip
    return rows


def write_outliers(folder: Path) -> None:
    """A random Qwen2 of 4 layers, heads 128 wide, on the built-in tokenizer. Scores spread over several units; three
    biases of each key head are 50 to 250, in the slow half of RoPE's pairs, where they do not decide what is seen."""
    generator = torch.Generator().manual_seed(SEED)
    config = json.loads((DEMO / "config.json").read_text("utf-8"))
    hidden, heads, kv_heads, width, layers, inner = 256, 4, 2, 128, 4, 512
    config |= {
        "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": width,
        "num_hidden_layers": layers, "intermediate_size": inner, "rope_theta": 1e6, "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }  # fmt: skip

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(3, generator=generator) * (high - low) + low

    vocab = config["vocab_size"]
    weights = {"model.embed_tokens.weight": normal(vocab, hidden, scale=1.0), "model.norm.weight": torch.ones(hidden),
               "lm_head.weight": normal(vocab, hidden, scale=3 / hidden**0.5)}  # fmt: skip
    linears = {
        "self_attn.q_proj": (heads * width, hidden, 1.5), "self_attn.k_proj": (kv_heads * width, hidden, 1.5),
        "self_attn.v_proj": (kv_heads * width, hidden, 1.0), "self_attn.o_proj": (hidden, heads * width, 1.0),
        "mlp.gate_proj": (inner, hidden, 1.5), "mlp.up_proj": (inner, hidden, 1.5),
        "mlp.down_proj": (hidden, inner, 1.5),
    }  # fmt: skip
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name, (rows, columns, scale) in linears.items():
            weights[f"{prefix}{name}.weight"] = normal(rows, columns, scale=scale / columns**0.5)
            if name.endswith(("q_proj", "k_proj", "v_proj")):
                weights[f"{prefix}{name}.bias"] = normal(rows, scale=0.5)
        for head in weights[f"{prefix}self_attn.k_proj.bias"].view(kv_heads, width):
            channels = 40 + torch.randperm(24, generator=generator)[:3] + 64 * torch.tensor([0, 1, 1])
            head[channels] = uniform(50, 250) * torch.tensor([1.0, -1.0, 1.0])
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}{name}.weight"] = 1 + normal(hidden, scale=0.3)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((DEMO / "tokenizer.json").read_bytes())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    asked = arguments(__doc__.split("\n")[0])
    rows = []
    for model in asked.model or ():
        engine = Engine.from_pretrained(model, asked.device)
        rows += measure(engine, Path(model).name, *prose(engine, asked.ids))
    if not asked.model:
        engine = Engine.from_pretrained(DEMO, asked.device)
        for name, ids, positions in built_in(engine, asked.ids):
            rows += measure(engine, f"built-in, {name}", ids, positions)
        with tempfile.TemporaryDirectory() as folder:
            write_outliers(Path(folder))
            engine = Engine.from_pretrained(folder, asked.device)
        rows += measure(engine, "outliers", *prose(engine, asked.ids))
    print(f"{'model':20} {'cache':36} {'bytes/id':>9} {'of bf16':>8} {'KL mean':>9} {'KL p99':>9} {'top-1':>7}")
    for row in rows:
        print(f"{row['model']:20} {row['cache']:36} {row['bytes_per_token']:9} {row['of_bfloat16']:8.3f} "
              f"{row['kl_mean']:9.1e} {row['kl_p99']:9.1e} {row['top1']:7.2%}")  # fmt: skip
    print(json.dumps({"ids": asked.ids, "seed": SEED, "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    sys.exit(main())
