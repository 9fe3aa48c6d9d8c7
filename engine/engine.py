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
from .config import DTYPES, ModelConfig
from .decoder import Decoder
from .errors import LonghandError
from .hub import resolve
from .session import Session
from .store import restore_session
from .tokenizer import ControlIds, Tokenizer

QUANTIZE_ABOVE = 1_000_000_000  # parameters; "auto" keeps smaller models as they are stored


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
    ) -> Engine:
        """Load a Qwen2 checkpoint from a folder or the hub.

        device: default a CUDA GPU if there is one, else the CPU. quantization: "nf4", None, or "auto": as stored if the
        checkpoint is stored in 4 bits, else NF4 above a billion parameters. dtype (of what is not quantized): default
        as stored, but float32 for small models on a CPU, where it is faster and splits exactly. kv_dtype: default
        dtype. max_context: ids a session may hold, default what the config says. progress(bytes_read, bytes_in_all) is
        called while tensors stream. double_quant: NF4 with its absmax in 8 bits, 4.127 instead of 4.5 bits a weight.
        head: "nf4" quantizes an untied lm_head like the other linears. embedding: "host" keeps an untied embedding in
        host memory, where its rows are gathered. yarn: a factor that extends the context of a model whose config.json
        says nothing about it; QwQ-32B's card asks for 4 above 8,192 ids.

        Raises LonghandError naming the file, tensor or option.
        """
        if quantization not in ("auto", "nf4", None):
            raise LonghandError(f"quantization {quantization!r} is not one of 'auto', 'nf4', None")
        if head not in ("nf4", None):
            raise LonghandError(f"head {head!r} is not one of 'nf4', None")
        if embedding not in ("device", "host"):
            raise LonghandError(f"embedding {embedding!r} is not one of 'device', 'host'")
        on = choose_device(device)
        checkpoint = Checkpoint(resolve(path_or_hub_id))
        config = checkpoint.config if yarn is None else checkpoint.config.with_yarn(yarn)
        if embedding == "host" and config.tie_word_embeddings:
            raise LonghandError(f"{checkpoint.folder}: its embedding is its lm_head too; it cannot stay on the host")
        large = config.num_parameters > QUANTIZE_ABOVE
        kept = _as_stored(checkpoint, quantization)
        quantize = None
        if kept is None and (quantization == "nf4" or (quantization == "auto" and large)):
            quantize = Quantize(double_quant, head == "nf4")
        if quantize is None and (double_quant or head == "nf4"):
            option = "double_quant" if double_quant else "head 'nf4'"
            raise LonghandError(
                f"{option} needs NF4, and this model is not quantized while it loads: set quantization 'nf4'"
            )
        if dtype is None:
            dtype = "float32" if on.type == "cpu" and not large else config.dtype
        real_dtype = choose_dtype(dtype, "dtype")
        cache_dtype = real_dtype if kv_dtype is None else choose_dtype(kv_dtype, "kv_dtype", (*DTYPES, "int8"))
        context = context_limit(config, max_context)
        with torch.device("meta"):
            decoder = Decoder(config, choose_ops(on, kept is not None or quantize is not None), on)
        load_decoder(checkpoint, decoder, on, real_dtype, quantize, progress, host_embedding=embedding == "host")
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


def _as_stored(checkpoint: Checkpoint, quantization: str | None) -> str | None:
    """The 4-bit form that the checkpoint is stored in, if it is; raises where another one was asked for."""
    stored = checkpoint.config.quantization
    if stored is None:
        return None
    fp4 = any(name.endswith("bitsandbytes__fp4") for name in checkpoint.tensors)
    kind = stored.method if stored.method != "bitsandbytes" else "fp4" if fp4 else "nf4"
    if quantization not in ("auto", kind):
        raise LonghandError(
            f"{checkpoint.folder}: stored in 4 bits ({kind}), so quantization cannot be {quantization!r}; use 'auto'"
        )
    return kind


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device of that name, by default a CUDA GPU if there is one; LonghandError where it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        on = torch.device(device)
    except RuntimeError:
        raise LonghandError(f"device {device!r} is not one of 'cpu', 'cuda', 'cuda:N'") from None
    if on.type not in ("cpu", "cuda"):
        raise LonghandError(f"device {device!r} is not one of 'cpu', 'cuda', 'cuda:N'")
    if on.type == "cuda" and (not torch.cuda.is_available() or (on.index or 0) >= torch.cuda.device_count()):
        raise LonghandError(
            f"device {device!r}: torch sees {torch.cuda.device_count()} CUDA GPUs here; try device 'cpu'"
        )
    return on


def choose_dtype(dtype: str | torch.dtype, option: str, names: tuple[str, ...] = DTYPES) -> torch.dtype:
    """The dtype of one of these names; LonghandError names the option."""
    name = str(dtype).removeprefix("torch.")
    if name not in names:
        raise LonghandError(f"{option} {name!r} is not one of {', '.join(names)}")
    return getattr(torch, name)  # type: ignore[no-any-return]


def context_limit(config: ModelConfig, asked: int | None) -> int:
    """Ids that a session may hold: as asked, by default as many as the model allows; LonghandError above that."""
    limit = config.max_position_embeddings
    if config.yarn is not None:
        limit = max(limit, int(config.yarn.factor * config.yarn.original_max_position_embeddings))
    if asked is None:
        return limit
    if not isinstance(asked, int) or isinstance(asked, bool) or not 1 <= asked <= limit:
        raise LonghandError(f"max_context must be a whole number from 1 to {limit} (the model's limit), not {asked!r}")
    return asked
