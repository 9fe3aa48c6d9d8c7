"""Models of a real shape with random weights, made in seconds: ours, transformers', and GGUF files for llama.cpp.

For speed only: the weights are noise. The head is never tied, so that each engine reads it in the form named.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from longhand.engine.config import ModelConfig
from longhand.engine.decoder import Decoder, Linear
from longhand.kernels.dispatch import choose_ops
from longhand.kernels.weights import BLOCK, FourBit
from torch import Tensor, nn

CPU = torch.device("cpu")
CONTEXT = 8192
SHAPES = {
    # Qwen2.5-0.5B
    "0.5b": ModelConfig(151936, 896, 4864, 24, 14, 2, 64, 1e-6, 1e6, 32768, False),
    # Four layers of QwQ-32B. 256 rows of head and embedding, next to nothing, so that a forward is four layers.
    "32b": ModelConfig(256, 5120, 27648, 4, 40, 8, 128, 1e-5, 1e6, 40960, False),
    # The whole of it, for --peers none: 20 GB, and a minute and a half to make.
    "32b-64": ModelConfig(152064, 5120, 27648, 64, 40, 8, 128, 1e-5, 1e6, 40960, False),
}
_noise = (torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()


def noise(*shape: int) -> Tensor:
    """bfloat16 normal values, the same 4 Mi over and over: memory of its own, and quick."""
    count = torch.Size(shape).numel()
    return _noise.repeat(-(-count // len(_noise)))[:count].view(shape)


def four_bits(rows: int, columns: int) -> FourBit:
    """NF4 of random codes, an absmax per 64."""
    count = rows * columns
    packed = torch.randint(0, 256, (count // 2,), dtype=torch.uint8)
    return FourBit(packed, torch.rand(count // BLOCK) * 0.06 + 0.03, (rows, columns))


def our_decoder(config: ModelConfig) -> Decoder:
    """bfloat16 activations; every linear and the head in NF4."""
    ops = choose_ops(CPU, quantized=True)
    with torch.device("meta"):
        decoder = Decoder(config, ops, CPU)
    for name, parameter in list(decoder.named_parameters()):
        path, _, attribute = name.rpartition(".")
        module = decoder.get_submodule(path)
        if isinstance(module, Linear) and attribute == "weight":
            module.set_quantized(four_bits(*module.shape))
        else:
            filled = torch.ones(parameter.shape).bfloat16() if "norm" in name else noise(*parameter.shape)
            setattr(module, attribute, nn.Parameter(filled, requires_grad=False))
    for block in decoder.model.layers:
        block.fuse()
    return decoder.eval()


def transformers_model(config: ModelConfig, nf4: bool, head: bool = True) -> Any:
    """A Qwen2 of transformers, in bfloat16; with `nf4` its linears, with `head` the head too, are Linear4bit."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.device("meta"):
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=config.num_layers,
                intermediate_size=config.intermediate_size, num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_kv_heads, max_position_embeddings=config.max_position_embeddings,
                rms_norm_eps=config.rms_norm_eps, tie_word_embeddings=False, dtype="bfloat16",
            )
        )  # fmt: skip
    for name, _ in list(model.named_parameters()):
        path, _, attribute = name.rpartition(".")
        module = model.get_submodule(path)
        if nf4 and isinstance(module, nn.Linear) and attribute == "weight" and (head or path != "lm_head"):
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, linear_4bit(module.out_features, module.in_features))
    for name, parameter in list(model.named_parameters()):
        path, _, attribute = name.rpartition(".")
        if parameter.device.type == "meta":
            filled = torch.ones(parameter.shape).bfloat16() if "norm" in name else noise(*parameter.shape)
            setattr(model.get_submodule(path), attribute, nn.Parameter(filled, requires_grad=False))
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)  # its table is on the meta device too
    return model.eval()


def linear_4bit(rows: int, columns: int) -> Any:
    """bitsandbytes' NF4 Linear4bit of random codes. Its fused CPU path needs eval mode; the first call repacks."""
    import bitsandbytes
    from bitsandbytes.functional import QuantState, get_4bit_type
    from bitsandbytes.nn import Params4bit

    made = bitsandbytes.nn.Linear4bit(columns, rows, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4")
    weight, code = four_bits(rows, columns), get_4bit_type("nf4", device="cpu")
    state = QuantState(weight.absmax, torch.Size((rows, columns)), code, BLOCK, "nf4", torch.bfloat16)
    made.weight = Params4bit(
        weight.packed.view(-1, 1), quant_state=state, quant_type="nf4", bnb_quantized=True, module=made
    )
    made.quant_state = state
    return made.eval()


def gguf_tensors(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """llama.cpp's name and the shape of each tensor of a Qwen2."""
    hidden, wide = config.hidden_size, config.intermediate_size
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    yield "token_embd.weight", (config.vocab_size, hidden)
    for layer in range(config.num_layers):
        for name, rows, columns in (("attn_q", q, hidden), ("attn_k", kv, hidden), ("attn_v", kv, hidden)):
            yield f"blk.{layer}.{name}.weight", (rows, columns)
            yield f"blk.{layer}.{name}.bias", (rows,)
        yield f"blk.{layer}.attn_output.weight", (hidden, q)
        for name, rows, columns in (("ffn_gate", wide, hidden), ("ffn_up", wide, hidden), ("ffn_down", hidden, wide)):
            yield f"blk.{layer}.{name}.weight", (rows, columns)
        yield f"blk.{layer}.attn_norm.weight", (hidden,)
        yield f"blk.{layer}.ffn_norm.weight", (hidden,)
    yield "output_norm.weight", (hidden,)
    yield "output.weight", (config.vocab_size, hidden)


def gguf_file(shape: str, kind: str) -> Path:
    """A GGUF of the shape in q4_0, every matrix (head included) of random blocks; or in q4_0_stock or q4_k_m, by
    llama.cpp's own quantizer from that file, which gives the head more bits. Kept in the temporary folder."""
    path = Path(tempfile.gettempdir()) / "longhand-benchmarks" / f"{shape}-{kind}.gguf"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".part")
    if kind == "q4_0":
        _write_gguf(unfinished, SHAPES[shape])
    else:
        _requantize(gguf_file(shape, "q4_0"), unfinished, kind)
    return unfinished.rename(path)


def _write_gguf(path: Path, config: ModelConfig) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    rng, kind = np.random.default_rng(0), gguf.GGMLQuantizationType.Q4_0
    for name, shape in gguf_tensors(config):
        if len(shape) == 1:
            values = np.ones(shape) if "norm" in name else rng.standard_normal(shape) * 0.02
            writer.add_tensor(name, values.astype(np.float32))
            continue
        blocks = rng.integers(0, 256, (shape[0] * shape[1] // 32, 18), dtype=np.uint8)  # a float16 scale, 32 codes
        blocks[:, :2] = np.frombuffer(np.float16(0.005).tobytes(), dtype=np.uint8)
        writer.add_tensor(name, blocks.reshape(shape[0], -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _requantize(source: Path, path: Path, kind: str) -> None:
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    files = {"q4_0_stock": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}
    options.ftype, options.allow_requantize = files[kind], True
    options.nthread = torch.get_num_threads()
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(options))
    if status:
        raise RuntimeError(f"llama_model_quantize ended with {status}")
