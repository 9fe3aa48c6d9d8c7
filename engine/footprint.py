"""Footprint: the bytes of a model's weights, cache and workspace, from its config.json, or with the safetensors headers
beside it where the checkpoint is stored in four bits.

Every workspace term is counted from what the decoder and kernels/reference.py allocate; tests hold them against the
allocations of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..kernels.reference import CHUNK, QUERY_BLOCK
from ..kernels.weights import BLOCK, NESTED_BLOCK
from . import footprint_triton, stored
from .cache_int8 import GROUP
from .config import ModelConfig
from .options import Setup
from .writer import SIZES

MIB = 2**20
ITEMSIZES = {**SIZES, "float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}  # by safetensors' names and by torch's

# Bytes a weight takes for a moment, at most, while it is dequantized or quantized (torch 2.13, bitsandbytes 0.50).
REFERENCE_DEQUANTIZE = 17  # codes, the same as int32 and as int64 for the look-up, float32 values
INT4_DEQUANTIZE = 9  # codes, and two of: float32 codes, centered, scaled
REFERENCE_QUANTIZE, BITSANDBYTES_QUANTIZE = 20, 10  # and 4 for a float32 copy of a weight that is stored narrower

# Resident on a CPU beside tensors: bytes, measured with QwQ's tokenizer and with small models.
TOKENIZER_PER_ID = 1420  # both tokenizers, per row of the embedding; and not above this per byte of tokenizer.json:
TOKENIZER_PER_BYTE = 42
LIBRARIES = 16 * MIB  # code and buffers of torch's matrix products
HEAP = 32 * MIB  # malloc keeps freed temporaries up to this size (its largest mmap threshold)
BITSANDBYTES = 120 * MIB  # its import, and what quantizing imports
SAMPLING = 28  # a row of logits: masked, log-probabilities, a sort and its int64 indices
CUBLAS = 32 * MIB  # its workspace on Hopper (8 MiB before), from torch's allocator. Not measured: no GPU at hand


@dataclass(frozen=True)
class StoredSizes:
    """What the headers of a checkpoint in four bits say that its config.json does not."""

    linears: int  # bytes of the blocks' linears that are in four bits
    plain: int  # values of those that are not
    head: int | None  # bytes of an lm_head in four bits
    nested: bool  # absmax in 8 bits
    scales: int  # how many scales int4 weights have; the CPU kernels keep them in float32


@dataclass(frozen=True)
class Footprint:
    """What a model takes, however it is set up. `sizes` is None where the config says everything."""

    config: ModelConfig
    sizes: StoredSizes | None = None
    tokenizer: int | None = None  # bytes of tokenizer.json, if it is at hand

    @staticmethod
    def from_file(path: Path, yarn: float | None = None) -> Footprint:
        """From a config.json, and from the safetensors in its folder if it needs them and they are all there. yarn: as
        for `Engine.from_pretrained`."""
        config = ModelConfig.from_file(path)
        tokenizer = path.parent / "tokenizer.json"
        size = tokenizer.stat().st_size if tokenizer.is_file() else None
        plain = Footprint(config if yarn is None else config.with_yarn(yarn), None, size)
        headers = None if plain.method is None else stored.read_headers(path.parent)
        return plain if headers is None else replace(plain, sizes=plain._sizes(headers))

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linears of one block: name -> [N, K]."""
        c = self.config
        q, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
        return {
            "self_attn.q_proj": (q, c.hidden_size), "self_attn.k_proj": (kv, c.hidden_size),
            "self_attn.v_proj": (kv, c.hidden_size), "self_attn.o_proj": (c.hidden_size, q),
            "mlp.gate_proj": (c.intermediate_size, c.hidden_size), "mlp.up_proj": (c.intermediate_size, c.hidden_size),
            "mlp.down_proj": (c.hidden_size, c.intermediate_size),
        }  # fmt: skip

    def _sizes(self, headers: Mapping[str, stored.Header]) -> StoredSizes:
        four_bits = plain = 0
        for layer in range(self.config.num_layers):
            for name, shape in self.linears.items():
                found = stored_bytes(headers, f"model.layers.{layer}.{name}", shape)
                four_bits += found or 0
                plain += 0 if found else math.prod(shape)
        head = stored_bytes(headers, "lm_head", (self.config.vocab_size, self.config.hidden_size))
        nested = any(name.endswith(".nested_absmax") for name in headers)
        scales = sum(math.prod(shape) for name, (_, shape) in headers.items() if name.endswith("proj.scales"))
        return StoredSizes(four_bits, plain, head, nested, scales)

    @property
    def method(self) -> str | None:
        """bitsandbytes, awq or gptq for a checkpoint that is stored in four bits."""
        return None if self.config.quantization is None else self.config.quantization.method

    def weights(self, setup: Setup) -> dict[str, int]:
        """Bytes by part."""
        c, b = self.config, setup.itemsize
        if self.sizes is not None:
            linears = self.sizes.linears + self.sizes.plain * b + (2 * self.sizes.scales if setup.native else 0)
        else:
            linears = c.num_layers * sum(self._linear(shape, setup) for shape in self.linears.values())
        if setup.kernels != "auto" and (setup.quantize or self.method is not None):
            linears += c.num_layers * footprint_triton.joined_bytes(c, setup)
        small = c.num_heads * c.head_dim + 2 * c.num_kv_heads * c.head_dim + 2 * c.hidden_size  # of one block
        return {
            "embedding": 0 if setup.host_embedding else c.vocab_size * c.hidden_size * b,
            "linears": linears,
            "norms and biases": (c.num_layers * small + c.hidden_size) * b,
            "lm_head": 0 if c.tie_word_embeddings else self._head(setup),
        }

    def _linear(self, shape: tuple[int, int], setup: Setup) -> int:
        form = self.config.quantization
        if setup.kernels != "auto" and (form is not None or setup.quantize):
            return self._panels(shape, setup)
        if form is not None and form.method != "bitsandbytes":
            return int4_bytes(shape, form.group, 2) if not setup.native else int4_bytes(padded(shape), form.group, 4)
        four_bits = form is not None or setup.quantize
        return (
            four_bit_bytes(shape, self._nested(setup), setup.native) if four_bits else math.prod(shape) * setup.itemsize
        )

    def _panels(self, shape: tuple[int, int], setup: Setup) -> int:
        form = self.config.quantization
        if form is None or form.method == "bitsandbytes":
            return footprint_triton.four_bit_panel_bytes(shape, self._nested(setup))
        return footprint_triton.panel_bytes(shape, shape[1] if form.group == -1 else form.group, False, True)

    def _nested(self, setup: Setup) -> bool:
        form = self.config.quantization if self.sizes is None else self.sizes
        return setup.double_quant if form is None else form.nested

    def _head(self, setup: Setup) -> int:
        shape = (self.config.vocab_size, self.config.hidden_size)
        if self.sizes is not None and self.sizes.head is not None:
            return self.sizes.head
        four_bits = setup.quantize and setup.head == "nf4"
        if four_bits and setup.kernels != "auto":
            return footprint_triton.four_bit_panel_bytes(shape, setup.double_quant)
        return (
            four_bit_bytes(shape, setup.double_quant, setup.native) if four_bits else math.prod(shape) * setup.itemsize
        )

    def head_in_four_bits(self, setup: Setup) -> bool:
        stored_so = self.sizes is not None and self.sizes.head is not None
        return not self.config.tie_word_embeddings and (stored_so or (setup.quantize and setup.head == "nf4"))

    def kv_bytes_per_token(self, kv_dtype: str) -> int:
        """Of all layers; int8 with its bfloat16 scales (engine/cache_int8.py)."""
        c = self.config
        if kv_dtype != "int8":
            return c.kv_bytes_per_token(itemsize(kv_dtype))
        scales = c.head_dim // GROUP if c.head_dim % GROUP == 0 else 1
        return 2 * c.num_layers * c.num_kv_heads * (c.head_dim + 2 * scales)

    def dequantizing(self, setup: Setup, values: int) -> int:
        """Bytes that a linear of so many values in four bits takes, dequantized whole, for its product."""
        if setup.native:
            return 0
        if self.method in ("awq", "gptq"):
            return values * (INT4_DEQUANTIZE + (setup.itemsize if setup.itemsize < 4 else 0))
        if not setup.bitsandbytes:
            return values * REFERENCE_DEQUANTIZE
        return values * setup.itemsize + (4 * values // BLOCK if self._nested(setup) else 0)

    def workspace(self, setup: Setup, new: int, positions: int) -> dict[str, int]:
        """Bytes alive at once in each phase of forwarding `new` ids, the last of `positions`; the largest phase counts.

        In the terms: t ids at s positions, b bytes of an activation."""
        c, b, t, s = self.config, setup.itemsize, new, positions
        if setup.kernels != "auto":
            return footprint_triton.workspace(c, setup, new, positions, SAMPLING * c.vocab_size)
        h, i, v = c.hidden_size, c.intermediate_size, c.vocab_size
        q, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
        tables = 4 * t * c.head_dim  # cos and sin
        # Attention keeps x, its norm, q, k, v and its outcome, and the cache's keys and values in float32. Of a block's
        # scores, float32 [H, block, s], there are two at once (before and behind the softmax), with the mask
        # [block, s] of each group, a byte each, the block's queries and the last block's outcome in float32.
        block = min(t, QUERY_BLOCK)
        scores = 4 * c.num_heads * block * s
        mask = block * s * (c.num_heads // c.num_kv_heads) if block > 1 else 0
        given = setup.dtype if setup.kv_dtype == "int8" else setup.kv_dtype  # what the cache returns
        wide = 0 if given == "float32" else 8 * s * kv
        attention = wide + 2 * scores + mask + 4 * block * q * (2 if t > block else 1)
        if setup.native and given != "float16":
            attention = self._native_attention(t, s)
        attention += 2 * t * h * b + tables + t * (2 * q + 2 * kv) * b
        if setup.kv_dtype == "int8":
            attention += 2 * s * kv * b  # keys and values of a layer, dequantized
        # bitsandbytes multiplies a single row without dequantizing on a GPU.
        fused = setup.device == "cuda" and setup.bitsandbytes and self.method in (None, "bitsandbytes")
        largest = max(math.prod(shape) for shape in self.linears.values())
        four_bits = (setup.quantize or self.method is not None) and not (fused and t == 1)
        linear = self.dequantizing(setup, largest) if four_bits else 0
        head = self.dequantizing(setup, v * h) if self.head_in_four_bits(setup) and not fused else 0
        if setup.native and four_bits and setup.kv_dtype in ("float32", "bfloat16"):
            # One call, whose steps have float32 space side by side (kernels/native/block.h).
            return {
                "decoder block": t * h * b
                + tables
                + 4 * t * (max(h, q) + 2 * q + 2 * kv + i)
                + self._native_attention(t, s),
                "logits": t * h * b + v * (b if b < 4 else 0) + 4 * v,
                "sampling": SAMPLING * v,
            }
        return {
            "attention scores": attention,
            "MLP activations": 3 * t * h * b + tables + 4 * t * i * b,  # gate, up, silu(gate) and their product
            "dequantized linear": 3 * t * h * b + tables + 2 * t * i * b + linear,
            "logits": t * h * b + v * (b if b < 4 else 0) + 4 * v + head,
            "sampling": SAMPLING * v,
        }

    def _native_attention(self, new: int, positions: int) -> int:
        """kernels/native/attention.h: a few rows' outcomes per split of 256 positions, and each thread's own space."""
        c = self.config
        rows = min(new, 16) * (c.num_heads // c.num_kv_heads)
        outcome = rows * c.head_dim + 2 * -(-rows // 16) * 16
        spread = c.num_kv_heads * -(-positions // 256) * outcome if new <= 16 else 0
        own = max(2 * 128 * 64, 2 * 64 * c.head_dim + rows * 64 + 2 * rows + 2 * outcome)
        return 4 * (spread + torch.get_num_threads() * own)

    def running(self, setup: Setup, new: int, positions: int, capacity: int) -> int:
        """Peak bytes of a forward of `new` ids, the last of `positions`, with room for `capacity` in the cache. On a
        CPU rows that were never written are not resident, so there the positions count."""
        work = max(self.workspace(setup, new, positions).values())
        work += 4 * self.config.vocab_size + (min(work, HEAP) if setup.device == "cpu" else 0)  # the last logits stay
        cache = (positions if setup.device == "cpu" else capacity) * self.kv_bytes_per_token(setup.kv_dtype)
        return sum(self.weights(setup).values()) + cache + work + self.beside(setup)

    def loading(self, setup: Setup) -> int:
        """Peak bytes while the weights stream: the largest linear is quantized when almost all others are there, the
        head (first in the usual order of names) when none is."""
        total = sum(self.weights(setup).values()) + self.beside(setup)
        largest = max(math.prod(shape) for shape in self.linears.values())
        if not setup.quantize:
            repacked = (setup.native or setup.kernels != "auto") and self.method is not None
            return total + (largest if repacked else 0)
        head = self.config.vocab_size * self.config.hidden_size if self.head_in_four_bits(setup) else 0
        return max(total + self._quantizing(setup, largest), self._quantizing(setup, head))

    def _quantizing(self, setup: Setup, values: int) -> int:
        """Bytes that a weight of so many values takes beside its outcome while it is quantized: itself, and on a CPU
        what the work on a chunk of it takes, and the codes once more where the kernels reorder them."""
        each = itemsize(self.config.dtype)
        if setup.device != "cpu":
            return each * values
        work = (BITSANDBYTES_QUANTIZE if setup.bitsandbytes else REFERENCE_QUANTIZE) + (4 if each < 4 else 0)
        return each * values + work * min(values, CHUNK) + (values if setup.native else 0)

    def beside(self, setup: Setup) -> int:
        """What a running model takes beside weights, cache and workspace, above what the process had before."""
        if setup.device == "cuda":
            four_bits = setup.quantize or self.method is not None
            return CUBLAS + (footprint_triton.graph_bytes(self.config, setup, CUBLAS) if four_bits else 0)
        four_bits = setup.quantize or self.method is not None
        tokenizer = TOKENIZER_PER_ID * self.config.vocab_size
        if self.tokenizer is not None:
            tokenizer = min(tokenizer, TOKENIZER_PER_BYTE * self.tokenizer)
        return tokenizer + LIBRARIES + (BITSANDBYTES if four_bits else 0)


def itemsize(dtype: str) -> int:
    """Bytes of a value, by torch's or safetensors' name."""
    return ITEMSIZES.get(dtype, 1)


def padded(shape: tuple[int, int]) -> tuple[int, int]:
    """The CPU kernels hold rows by 64."""
    return -(-shape[0] // 64) * 64, shape[1]


def four_bit_bytes(shape: tuple[int, int], nested: bool, native: bool = False) -> int:
    """A weight [N, K] in NF4: codes, and an absmax per 64 weights in float32; or, double quantized, in 8 bits with a
    float32 scale to 256 of them, a table of 256 float32 and an offset. native: as the CPU kernels hold it."""
    scales = -(-math.prod(shape) // BLOCK // NESTED_BLOCK)
    values = math.prod(padded(shape) if native and shape[1] % BLOCK == 0 else shape)
    blocks = -(-values // BLOCK)
    absmax = blocks + 4 * scales + 4 * 256 + 4 if nested else 4 * blocks
    return values // 2 + absmax


def int4_bytes(shape: tuple[int, int], group: int, scale_bytes: int) -> int:
    """A weight [N, K] as AWQ or GPTQ store it: codes, and per group along K a scale and a zero (a byte each here)."""
    groups = shape[0] * (1 if group == -1 else shape[1] // group)
    return math.prod(shape) // 2 + groups * (scale_bytes + 1)


def stored_bytes(headers: Mapping[str, stored.Header], prefix: str, shape: tuple[int, int]) -> int | None:
    """What the engine keeps of a linear that is stored in four bits; None if it is not."""
    parts = stored.parts(prefix, headers)
    if not parts:
        return None
    if f"{prefix}.scales" in headers:
        dtype, sizes = headers[f"{prefix}.scales"]  # whatever their shape is: loading says what is wrong with it
        groups = max(sizes[0] if sizes else 1, 1)
        return int4_bytes(shape, max(shape[1] // groups, 1), itemsize(dtype))
    tables = (".quant_map", "bitsandbytes__nf4", "bitsandbytes__fp4")  # shared, or read and dropped
    kept = [headers[name] for name in parts if not name.endswith(tables)]
    offset = 4 if f"{prefix}.weight.nested_absmax" in headers else 0
    return sum(itemsize(dtype) * math.prod(sizes) for dtype, sizes in kept) + offset
