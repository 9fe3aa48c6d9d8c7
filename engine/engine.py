"""Engine: a loaded checkpoint on a device, and the sessions that run on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..kernels.dispatch import choose_ops
from .cache import KVCache
from .cache_int8 import Int8KVCache
from .checkpoint import Checkpoint, Progress, Quantize, load_decoder
from .config import ModelConfig
from .decoder import Decoder
from .errors import LonghandError
from .fit import context_that_fits
from .hub import resolve
from .options import Setup, check_options, choose_device, choose_setup, context_limit
from .session import Session
from .store import restore_session
from .tokenizer import ControlIds, Tokenizer


class Engine:
    """Loads once, then is read only; any number of sessions may share it."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, device: torch.device, dtype: torch.dtype, kv_dtype: torch.dtype,
        max_context: int, quantization: str | None, fingerprint: str, name: str, form: str | None = None,
    ):  # fmt: skip
        """Prefer `from_pretrained`. `quantization` and `name` are for people; `form` says in full how the weights are
        quantized, `fingerprint` tells them apart."""
        self.decoder, self.tokenizer, self.device = decoder, tokenizer, device
        self.dtype, self.kv_dtype, self.max_context = dtype, kv_dtype, max_context
        self.quantization, self.fingerprint, self.name = quantization, fingerprint, name
        self.form = form or str(quantization)
        # Rows of the head that no id stands for are never sampled: QwQ-32B has 395 of them.
        self.undefined = torch.ones(self.config.vocab_size, dtype=torch.bool)
        self.undefined[tokenizer.defined] = False
        self._defined = frozenset(tokenizer.defined)
        self.undefined = self.undefined.to(device)

    @staticmethod
    def from_pretrained(
        path_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        quantization: str | None = "auto",
        dtype: str | torch.dtype | None = None,
        kv_dtype: str | torch.dtype | None = None,
        max_context: int | None = None,
        progress: Progress | None = None,
        double_quant: bool = False,
        head: str | None = None,
        embedding: str = "device",
        yarn: float | None = None,
        kernels: str = "auto",
    ) -> Engine:
        """Load a Qwen2 checkpoint from a folder or the hub.

        device: default a CUDA GPU if there is one, else the CPU. quantization: "nf4", None, or "auto": as stored if the
        checkpoint is stored in 4 bits, else NF4 above a billion parameters. dtype (of what is not quantized): default
        as stored, but float32 for small models on a CPU, where it is faster and splits exactly. kv_dtype: default
        dtype. max_context: ids a session may hold, default what fits in the device's free memory and at most what the
        config says; where not even a short session fits, loading is refused. progress(bytes_read, bytes_in_all) is
        called while tensors stream. double_quant: NF4 with its absmax in 8 bits, 4.127 instead of 4.5 bits a weight.
        head: "nf4" quantizes an untied lm_head like the other linears, "bf16" or None leaves it in dtype. embedding:
        "host" keeps an untied embedding in host memory, where its rows are gathered. yarn: a factor that extends the
        context of a model whose config.json says nothing about it; QwQ-32B's card asks for 4 above 8,192 ids. kernels:
        "triton" or "triton-unfused", on a CUDA GPU: kernels that are not chosen by themselves (see `choose_ops`).

        Raises LonghandError naming the file, tensor or option.
        """
        check_options(quantization, dtype, kv_dtype, head, embedding)
        on = choose_device(device)

        def plan(folder: Path, config: ModelConfig, asked: str | None, kept: str | None) -> tuple[Setup, int]:
            config = config if yarn is None else config.with_yarn(yarn)
            try:
                setup = choose_setup(config, on, asked, dtype, kv_dtype, double_quant, head, embedding, kept, kernels)
            except LonghandError as error:
                raise LonghandError(f"{folder}: {error}") from None
            if max_context is None:
                return setup, context_that_fits(folder, setup, on, yarn)
            return setup, context_limit(config, max_context)

        def fits(config_file: Path) -> None:
            told = ModelConfig.from_file(config_file)  # of a stored form not all
            plan(config_file.parent, told, "auto" if told.quantization else quantization, None)

        checkpoint = Checkpoint(resolve(path_or_hub_id, fits))
        config = checkpoint.config if yarn is None else checkpoint.config.with_yarn(yarn)
        kept = _stored_form(checkpoint)
        setup, context = plan(checkpoint.folder, checkpoint.config, quantization, kept)
        quantize = Quantize(double_quant, head == "nf4") if setup.quantize else None
        real_dtype, cache_dtype = getattr(torch, setup.dtype), getattr(torch, setup.kv_dtype)
        try:
            ops = choose_ops(on, kept is not None or quantize is not None, setup.kernels)
        except ImportError:
            raise LonghandError(f"kernels {kernels!r} need the package triton: pip install triton") from None
        with torch.device("meta"):
            decoder = Decoder(config, ops, on)
        load_decoder(checkpoint, decoder, on, real_dtype, quantize, progress, host_embedding=setup.host_embedding)
        decoder.eval()
        return Engine(
            decoder, checkpoint.tokenizer, on, real_dtype, cache_dtype, context, kept or ("nf4" if quantize else None),
            checkpoint.fingerprint(), str(path_or_hub_id), str(quantize or (kept and f"{kept} as stored")),
        )  # fmt: skip

    @property
    def config(self) -> ModelConfig:
        return self.decoder.config

    @property
    def control(self) -> ControlIds:
        return self.tokenizer.control

    @property
    def identity(self) -> dict[str, str]:
        """What a saved session must agree with to be continued here."""
        rope = (self.config.rope_theta, self.config.head_dim, self.config.yarn)
        return {
            "rope": repr(rope),  # before the model, whose fingerprint covers it too: the first difference is named
            "model": self.fingerprint,
            "quantization": self.form,
            "tokenizer": self.tokenizer.sha256,
            "dtype": f"{self.dtype} with {self.kv_dtype} cache",
        }

    def session(self, seed: int = 0) -> Session:
        """A new, empty session. Equal seed, ids and machine give equal samples."""
        return Session(self, seed)

    def restore(self, path: str | Path) -> Session:
        """A session that `Session.save` wrote; refused if model, quantization, RoPE, tokenizer or dtypes differ."""
        return restore_session(self, Path(path))

    def new_cache(self) -> KVCache:
        if self.kv_dtype == torch.int8:
            names = [f"model.layers.{layer}.self_attn.k_proj.bias" for layer in range(self.config.num_layers)]
            biases = [self.decoder.get_parameter(name) for name in names]
            return Int8KVCache(self.config, self.device, self.max_context, biases, self.decoder.rotary)
        return KVCache(self.config, self.device, self.kv_dtype, self.max_context)

    def defines(self, token_id: int) -> bool:
        """Whether the tokenizer defines this id."""
        return token_id in self._defined

    def tensor(self, ids: Sequence[int]) -> Tensor:
        """Ids as a tensor [n] on the device."""
        return torch.tensor(ids, dtype=torch.int64, device=self.device)


def _stored_form(checkpoint: Checkpoint) -> str | None:
    """The 4-bit form that the checkpoint is stored in, if it is: nf4, fp4, awq or gptq."""
    stored = checkpoint.config.quantization
    if stored is None:
        return None
    if stored.method != "bitsandbytes":
        return stored.method
    return "fp4" if any(name.endswith("bitsandbytes__fp4") for name in checkpoint.tensors) else "nf4"
