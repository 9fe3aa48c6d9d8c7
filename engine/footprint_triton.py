"""The bytes that the Triton kernels and CUDA graphs take, as far as they differ from what `Footprint` counts.

Every term is counted from what kernels/triton_*.py and engine/graph.py allocate. Not measured: no GPU was at hand.
benchmarks/gpu.py prints the peak of a card beside these.
"""

from __future__ import annotations

import math

from ..kernels.weights import BLOCK, NESTED_BLOCK
from .config import ModelConfig
from .graph import WIDTHS
from .options import Setup

MIB = 2**20
ROWS = 16  # ids up to which a block is fused (kernels/triton_fused.py)
MOST_SPLITS = 8  # parts of K in a product, at most (kernels/triton_linear.py)
CHUNK_BYTES = 32 * MIB  # of dequantized weights at a time (kernels/triton_ops.py)
MULTIPROCESSORS = 192  # of the largest cards: attention is cut for two programs on each
TILE = 64  # rows of a program of attention, at most
LEAST_KEYS = 128  # of a part of attention
# A node of a graph: its parameters take up to 4 KiB, and the driver keeps a copy of them ready to be launched.
NODE = 8 * 1024
NODES = {"block": 5, "step": 24, "draw": 64}  # launches: of a block, of a step beside its blocks, of a draw
# A pool of its own, of which torch takes at least 2 MiB for small and 20 MiB for larger tensors at once.
POOL = 22 * MIB


def is_fused(setup: Setup) -> bool:
    """Whether blocks of few ids are fused, and so steps of them are graphs."""
    plain = setup.kv_dtype != "int8" and not setup.host_embedding
    return setup.kernels == "triton" and plain and setup.dtype in ("float32", "bfloat16")


def panel_bytes(shape: tuple[int, int], group: int, nested: bool, zeros: bool = False) -> int:
    """A weight [N, K] in panels: codes of rows up to a multiple of 64; a scale per group, in 8 bits if nested, in
    float16 with a zero point in 8 bits, else in float32; the table twice. Nested also: their scales, table and offset,
    this once more for each panel."""
    rows = -(-shape[0] // 64) * 64
    values = rows * shape[1]
    each = 1 if nested else 3 if zeros else 4
    size = values // 2 + values // group * each + 4 * 16 + 2 * 4 * 8
    if nested:
        size += 4 * -(-math.prod(shape) // group // NESTED_BLOCK) + 4 * 256 + 4 + 4 * (rows // 64)
    return size


def joined_bytes(config: ModelConfig, setup: Setup) -> int:
    """What a fused block has beside its weights: their biases behind one another, and counters."""
    if not is_fused(setup):
        return 0
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    widest = max(2 * config.intermediate_size, q + 2 * kv, config.hidden_size)
    blocks = config.num_kv_heads * -(-ROWS * (config.num_heads // config.num_kv_heads) // TILE)
    return (q + 2 * kv) * setup.itemsize + 4 * max(widest // 64 + 1, blocks)


def workspace(config: ModelConfig, setup: Setup, new: int, positions: int, sampling: int) -> dict[str, int]:
    """As `Footprint.workspace`. sampling: bytes of that phase."""
    c, b, t, s = config, setup.itemsize, new, positions
    h, i, v = c.hidden_size, c.intermediate_size, c.vocab_size
    q, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    tables = 4 * t * c.head_dim
    # The parts of attention: what two programs a multiprocessor write, of as many rows as a program has, or all there
    # are; with a maximum and a sum to each head.
    splits = min(-(-2 * MULTIPROCESSORS // c.num_kv_heads), max(1, s // LEAST_KEYS))
    rows = min(splits * t, t + splits * TILE * c.num_kv_heads // c.num_heads)
    attention = 4 * rows * (q + 2 * c.num_heads)
    dequantized = 2 * s * kv * b if setup.kv_dtype == "int8" else 0  # keys and values of a layer
    logits = t * h * b + v * (b + 4) + 4 * MOST_SPLITS * v
    if t <= ROWS and is_fused(setup):
        # x, it on its way through a norm, q, attention's outcome, SwiGLU's; the parts of the widest product.
        own = t * (3 * h + 2 * q + i) * b + tables + 4 * ROWS * -(-h // 64)
        parts = 4 * MOST_SPLITS * t * max(2 * i, q + 2 * kv, h)
        return {"fused blocks": own + max(parts, attention), "logits": logits, "sampling": sampling}
    largest = max(h, i, q)
    chunk = min(CHUNK_BYTES, max(h * i, h * q) * b)
    product = 4 * MOST_SPLITS * t * max(i, h, q) if t <= ROWS else chunk + t * b * max(64, chunk // (h * b))
    return {
        # x, its norm, q and k before and behind RoPE, v, and the outcome.
        "attention": 2 * t * h * b + tables + t * (3 * q + 3 * kv) * b + attention + dequantized,
        "MLP activations": 3 * t * h * b + tables + 3 * t * i * b,
        "products": 3 * t * h * b + tables + t * (2 * i + largest) * b + product,
        "logits": logits,
        "sampling": sampling,
    }


def graph_bytes(config: ModelConfig, setup: Setup, cublas: int) -> int:
    """What a session's graphs keep: one pool for all, as large as the widest step's workspace, since they never run at
    once; a node for each launch of each; the side stream's own cuBLAS workspace (`cublas` bytes); and the tensors that
    stay where they are, the logits twice."""
    if not is_fused(setup):
        return 0
    step = max(workspace(config, setup, max(WIDTHS), config.max_position_embeddings, 0).values())
    nodes = len(WIDTHS) * (config.num_layers * NODES["block"] + NODES["step"]) + 2 * NODES["draw"]
    return POOL + step + nodes * NODE + cublas + 2 * 4 * config.vocab_size


def four_bit_panel_bytes(shape: tuple[int, int], nested: bool) -> int:
    """A weight in NF4, as `footprint.four_bit_bytes`."""
    return panel_bytes(shape, BLOCK, nested)
