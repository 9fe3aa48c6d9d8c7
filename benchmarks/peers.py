"""One interface over Longhand and the engines that it is measured against, each with random weights of a shape.

A runner holds a cache: `seek(n)` makes n positions count as cached, `run(ids)` forwards ids behind them and returns the
likeliest id after the last. What `seek` does is never timed.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from longhand.engine.cache import KVCache
from longhand.engine.decoder import Linear
from shapes import CONTEXT, CPU, SHAPES, gguf_file, noise, our_decoder, transformers_model

OURS = "longhand"
STOCK = "llama.cpp Q4_0 stock"  # its quantizer leaves more bits to the head
STOCK_BNB = "bitsandbytes stock"  # transformers leaves the head as it is
UBATCH = 512


class Runner(Protocol):
    note: str  # what the weights are
    weight_bytes: int  # read for one id: linears with their scales, and the head
    kv_bytes: int  # keys and values of one position

    def seek(self, position: int) -> None: ...
    def run(self, ids: Sequence[int], outputs: int = 1) -> int: ...


class Longhand:
    """The decoder and cache that `Session` drives, without its sampler."""

    def __init__(self, shape: str):
        self.decoder = our_decoder(SHAPES[shape])
        self.note = f"NF4 block 64, head NF4, {getattr(self.decoder.ops, 'level', 'no native library')}"
        linears = [module for module in self.decoder.modules() if isinstance(module, Linear)]
        self.weight_bytes = sum(linear.quantized.num_bytes for linear in linears if linear.quantized is not None)
        room = 1024 if shape == "32b-64" else CONTEXT
        self.cache = KVCache(SHAPES[shape], CPU, torch.bfloat16, room)
        self.cache.reserve(room)
        for rows in self.cache.keys + self.cache.values:
            rows.copy_(noise(*rows.shape))
        self.kv_bytes = self.cache.bytes_per_token

    def seek(self, position: int) -> None:
        self.cache.position = position

    @torch.inference_mode()
    def run(self, ids: Sequence[int], outputs: int = 1) -> int:
        positions = range(len(ids) - outputs, len(ids))
        logits = self.decoder.forward(torch.tensor(ids), self.cache, positions)
        self.cache.advance(len(ids))
        return int(logits[-1].argmax())


class Transformers:
    """transformers with its default cache, which it copies for every forward; bitsandbytes in its fused CPU path."""

    def __init__(self, shape: str, nf4: bool, head: bool = True):
        self.config, self.model = SHAPES[shape], transformers_model(SHAPES[shape], nf4, head)
        self.note = "bfloat16, head bfloat16"
        self.kv_bytes = 2 * 2 * self.config.num_layers * self.config.num_kv_heads * self.config.head_dim
        self.seek(0)
        self.run([1])  # bitsandbytes repacks its weights
        if nf4:
            self.note = f"NF4 block 64, head {'NF4' if head else 'bfloat16'}"
            layers = [module for module in self.model.modules() if type(module).__name__ == "Linear4bit"]
            if not all(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers):
                self.note += ", NOT its fused path: needs AVX512-BF16"
            tensors = [t for layer in layers for t in (layer.weight, layer.weight.quant_state.absmax)]
            tensors += [] if head else [self.model.lm_head.weight]
        else:
            tensors = [m.weight for m in self.model.modules() if isinstance(m, torch.nn.Linear)]
        self.weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def seek(self, position: int) -> None:
        from transformers import DynamicCache

        self.cache = DynamicCache(config=self.model.config)
        if position:
            for layer in range(self.config.num_layers):
                rows = noise(2, 1, self.config.num_kv_heads, position, self.config.head_dim)
                self.cache.update(rows[0].clone(), rows[1].clone(), layer)

    @torch.inference_mode()
    def run(self, ids: Sequence[int], outputs: int = 1) -> int:
        # logits_to_keep would do, but of more than one id its slice makes torch copy the whole head first: 0.4 s here.
        out = self.model.model(torch.tensor([ids]), past_key_values=self.cache, use_cache=True)
        return int(self.model.lm_head(out.last_hidden_state[0, -outputs:])[-1].argmax())


class LlamaCpp:
    """llama.cpp by its C interface. Its cache is float16. Each position that was sought has a context of its own, which
    is filled by decoding once, so that a short one does not walk over a long one's cells."""

    def __init__(self, shape: str, kind: str, threads: int):
        import llama_cpp

        self.api, self.config, self.threads = llama_cpp, SHAPES[shape], threads
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        path = gguf_file(shape, kind)
        options = llama_cpp.llama_model_default_params()
        options.use_mmap = False  # pages of a file may be dropped between two blocks
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.weight_bytes, head = _gguf_bytes(path)
        self.note = f"{kind.removesuffix('_stock').upper()}, head {head}"
        self.kv_bytes = 2 * 2 * self.config.num_layers * self.config.num_kv_heads * self.config.head_dim
        self.batch = llama_cpp.llama_batch_init(UBATCH, 0, 1)
        self.contexts: dict[int, Any] = {}
        self.position = 0

    def seek(self, position: int) -> None:
        if position not in self.contexts:
            options = self.api.llama_context_default_params()
            options.n_ctx, options.n_batch, options.n_ubatch = position + 2 * UBATCH, UBATCH, UBATCH
            options.n_threads = options.n_threads_batch = self.threads
            self.context = self.contexts[position] = self.api.llama_init_from_model(self.model, options)
            self.position = 0
            while self.position < position:
                self.run([self.position % 200] * min(UBATCH, position - self.position))
        self.context, self.position = self.contexts[position], position
        self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.context), 0, position, -1)

    def run(self, ids: Sequence[int], outputs: int = 1) -> int:
        batch, count = self.batch, len(ids)
        batch.n_tokens = count
        for index, token_id in enumerate(ids):
            batch.token[index], batch.pos[index] = token_id, self.position + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = index >= count - outputs
        status = self.api.llama_decode(self.context, batch)
        if status:
            raise RuntimeError(f"llama_decode ended with {status}")
        self.position += count
        logits = self.api.llama_get_logits_ith(self.context, count - 1)
        return int(np.ctypeslib.as_array(logits, (self.config.vocab_size,)).argmax())


def _gguf_bytes(path: Path) -> tuple[int, str]:
    """Bytes of all matrices but the embedding, and the type of the head."""
    from gguf import GGUFReader

    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    read = (tensor.n_bytes for name, tensor in tensors.items() if name != "token_embd.weight" and len(tensor.shape) > 1)
    return int(sum(read)), tensors["output.weight"].tensor_type.name


MAKERS: dict[str, tuple[Callable[[str, int], Runner], tuple[str, ...]]] = {  # and the packages needed
    OURS: (lambda shape, _: Longhand(shape), ()),
    "transformers": (lambda shape, _: Transformers(shape, nf4=False), ("transformers",)),
    "bitsandbytes": (lambda shape, _: Transformers(shape, nf4=True), ("transformers", "bitsandbytes")),
    STOCK_BNB: (lambda shape, _: Transformers(shape, nf4=True, head=False), ("transformers", "bitsandbytes")),
    "llama.cpp Q4_0": (lambda shape, threads: LlamaCpp(shape, "q4_0", threads), ("llama_cpp", "gguf")),
    STOCK: (lambda shape, threads: LlamaCpp(shape, "q4_0_stock", threads), ("llama_cpp", "gguf")),
    "llama.cpp Q4_K_M": (lambda shape, threads: LlamaCpp(shape, "q4_k_m", threads), ("llama_cpp", "gguf")),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7, help="rounds; every engine runs once in each")
    names = ", ".join(name for name in MAKERS if name != OURS)
    parser.add_argument("--peers", default="auto", help=f"auto (those installed), none, or some of: {names}")
    parser.add_argument("--results", type=Path, help="a file that the JSON line is added to")


def check_installed(names: Sequence[str]) -> None:
    """Ends the program for a peer that is unknown or not installed, before anything is measured."""
    for name in names:
        if name not in MAKERS:
            raise SystemExit(f"unknown peer {name!r}; known: {', '.join(MAKERS)}")
        missing = [package for package in MAKERS[name][1] if importlib.util.find_spec(package) is None]
        if missing:
            raise SystemExit(f"{name} needs {', '.join(missing)}: pip install -e '.[bench]', or name other --peers")


def make_runners(shape: str, peers: str, threads: int) -> dict[str, Runner]:
    """Ours first. A peer that is asked for and not installed is an error; with `auto` it is left out, and said."""
    if peers == "auto":
        wanted = [
            name for name in MAKERS if name != OURS and not (name in (STOCK, STOCK_BNB) and shape == "32b")
        ]  # no head there
    else:
        wanted = [name.strip() for name in peers.split(",") if name != "none"]
        check_installed(wanted)
    runners: dict[str, Runner] = {}
    for name in (OURS, *wanted):
        maker, packages = MAKERS[name]
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            print(f"{name}: left out, {', '.join(missing)} not installed (pip install -e '.[bench]')")
            continue
        started = time.perf_counter()
        runners[name] = maker(shape, threads)
        print(f"{name}: {runners[name].note}; ready in {time.perf_counter() - started:.1f} s", flush=True)
    return runners
