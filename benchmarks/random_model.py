"""Write a random checkpoint of QwQ-32B's width: `python benchmarks/random_model.py FOLDER [--layers 4]`.

hidden 5120, intermediate 27,648, 40 heads, 8 KV heads, vocabulary 152,064, untied head, bf16, a shard per four layers.
For memory and speed only: its weights are noise. The tokenizer has 256 bytes and QwQ's control ids.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from longhand.engine.writer import SafetensorsWriter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

CONTROL = {
    "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<tool_call>": 151657,
    "</tool_call>": 151658, "<tool_response>": 151665, "</tool_response>": 151666, "<think>": 151667,
    "</think>": 151668,
}  # fmt: skip
LAYERS_PER_SHARD = 4
Shapes = dict[str, tuple[int, ...]]


def config(layers: int) -> dict[str, object]:
    """QwQ-32B's config.json with another number of layers."""
    return {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 5120, "intermediate_size": 27648,
        "num_hidden_layers": layers, "num_attention_heads": 40, "num_key_value_heads": 8, "hidden_act": "silu",
        "max_position_embeddings": 40960, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False, "use_sliding_window": False, "vocab_size": 152064,
    }  # fmt: skip


def shards(layers: int) -> Iterator[tuple[str, Shapes]]:
    """(file name, tensors) of each shard: embedding first, head and last norm at the end."""
    groups: list[Shapes] = [{"model.embed_tokens.weight": (152064, 5120)}]
    for start in range(0, layers, LAYERS_PER_SHARD):
        group: Shapes = {}
        for layer in range(start, min(layers, start + LAYERS_PER_SHARD)):
            prefix = f"model.layers.{layer}"
            for name, rows, columns in (("q", 5120, 5120), ("k", 1024, 5120), ("v", 1024, 5120), ("o", 5120, 5120)):
                group[f"{prefix}.self_attn.{name}_proj.weight"] = (rows, columns)
                if name != "o":
                    group[f"{prefix}.self_attn.{name}_proj.bias"] = (rows,)
            for name, rows, columns in (("gate", 27648, 5120), ("up", 27648, 5120), ("down", 5120, 27648)):
                group[f"{prefix}.mlp.{name}_proj.weight"] = (rows, columns)
            group[f"{prefix}.input_layernorm.weight"] = group[f"{prefix}.post_attention_layernorm.weight"] = (5120,)
        groups.append(group)
    groups.append({"model.norm.weight": (5120,), "lm_head.weight": (152064, 5120)})
    for number, group in enumerate(groups, 1):
        yield f"model-{number:05}-of-{len(groups):05}.safetensors", group


class Noise:
    """Normal values from one block of 64 Mi, from another place in it for each tensor: quick, and never zero."""

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.block = (torch.randn(1 << 26, generator=generator) * 0.02).bfloat16()
        self.start = 0

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        self.start = (self.start + 1_000_003) % len(self.block)
        turned = self.block.roll(self.start)
        return turned.repeat(-(-count // len(turned)))[:count].view(shape)


def write_shard(path: Path, shapes: Shapes, noise: Noise) -> None:
    with SafetensorsWriter(path, {name: ("BF16", shape) for name, shape in shapes.items()}) as writer:
        for name, shape in shapes.items():
            writer.write(name, torch.ones(shape).bfloat16() if "norm" in name else noise.tensor(shape))


def write_holes(path: Path, shapes: Shapes) -> None:
    """A shard that has its header and its size, but takes no room on the disk."""
    writer = SafetensorsWriter(path, {name: ("BF16", shape) for name, shape in shapes.items()})
    writer.missing.clear()
    with writer:
        pass


def write_rest(folder: Path, layers: int) -> None:
    """config.json, tokenizer.json and the index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(layers), indent=2) + "\n")
    weight_map = {name: file for file, shapes in shards(layers) for name in shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab={**letters, **CONTROL}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    raw = json.loads(tokenizer.to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    raw["added_tokens"] = [
        {"id": token_id, "content": content, **flags, "special": content.startswith("<|")}
        for content, token_id in CONTROL.items()
    ]
    (folder / "tokenizer.json").write_text(json.dumps(raw, ensure_ascii=False), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    write_rest(arguments.folder, arguments.layers)
    noise = Noise()
    for file, shapes in shards(arguments.layers):
        write_shard(arguments.folder / file, shapes, noise)
        print(f"{file}: {(arguments.folder / file).stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
