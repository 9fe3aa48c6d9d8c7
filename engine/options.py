"""Options: how a model is to be run, decided in one place for loading it and for telling whether it fits."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch

from ..kernels.native_library import find_library
from .config import DTYPES, ModelConfig
from .errors import LonghandError

QUANTIZE_ABOVE = 1_000_000_000  # parameters; "auto" keeps smaller models as they are stored
KV_TYPES = (*DTYPES, "int8")
KERNELS = ("auto", "triton", "triton-unfused")  # see kernels/dispatch.py


@dataclass(frozen=True)
class Setup:
    """How a model is to be run. Dtypes by torch's names."""

    device: str  # cpu | cuda
    dtype: str  # of activations, and of all weights that are not in four bits
    kv_dtype: str
    quantize: bool  # the blocks' linears to NF4 while loading; what is stored in four bits stays as it is
    double_quant: bool = False
    head: str = "bf16"  # nf4: quantized like the linears; bf16: in dtype
    host_embedding: bool = False
    bitsandbytes: bool = True  # installed, else NF4 runs in plain torch; not looked for where nothing is in four bits
    native: bool = False  # the CPU kernels' library is there and knows the dtype
    kernels: str = "auto"  # or what is asked for on a GPU: triton | triton-unfused

    @property
    def itemsize(self) -> int:
        return int(getattr(torch, self.dtype).itemsize)


def choose_setup(
    config: ModelConfig, device: torch.device, quantization: str | None = "auto",
    dtype: str | torch.dtype | None = None, kv_dtype: str | torch.dtype | None = None, double_quant: bool = False,
    head: str | None = None, embedding: str = "device", stored: str | None = None, kernels: str = "auto",
) -> Setup:  # fmt: skip
    """What the options of `Engine.from_pretrained` make of a model. `stored`: the four-bit form that its tensors are in
    (default: what config.json says). Raises LonghandError for options that do not exist or do not go with the model."""
    check_options(quantization, dtype, kv_dtype, head, embedding)
    if kernels not in KERNELS:
        raise LonghandError(f"kernels {kernels!r} is not one of {', '.join(map(repr, KERNELS))}")
    if kernels != "auto" and device.type != "cuda":
        raise LonghandError(f"kernels {kernels!r} run on a CUDA GPU, not on device {str(device)!r}; use 'auto'")
    if embedding == "host" and config.tie_word_embeddings:
        raise LonghandError("embedding 'host': this model's embedding is its lm_head too; it cannot stay on the host")
    if head == "nf4" and config.tie_word_embeddings:
        raise LonghandError("head 'nf4': this model's lm_head is its embedding, which stays as it is; leave head out")
    if stored is None and config.quantization is not None:
        stored = config.quantization.method
    if stored is not None and quantization not in ("auto", "nf4" if stored == "bitsandbytes" else stored):
        raise LonghandError(f"stored in 4 bits ({stored}), so quantization cannot be {quantization!r}; use 'auto'")
    large = config.num_parameters > QUANTIZE_ABOVE
    quantize = stored is None and (quantization == "nf4" or (quantization == "auto" and large))
    if (double_quant or head == "nf4") and not quantize:
        option = "double_quant" if double_quant else "head 'nf4'"
        why = f"is stored in 4 bits ({stored}) and stays so"
        if stored is None:
            why = "is not quantized while it loads: set quantization 'nf4'"
        raise LonghandError(f"{option} needs NF4, but this model {why}")
    if dtype is None:
        dtype = "float32" if device.type == "cpu" and not large else config.dtype
    kv_dtype = dtype if kv_dtype is None else kv_dtype
    installed = has_bitsandbytes() if quantize or stored is not None else True
    on_host = embedding == "host" and device.type != "cpu"  # on a CPU it is the same memory
    native = device.type == "cpu" and name_of(dtype) != "float16" and find_library() is not None
    return Setup(device.type, name_of(dtype), name_of(kv_dtype), quantize, double_quant, head or "bf16", on_host,
                 installed, native, kernels)  # fmt: skip


def check_options(
    quantization: str | None, dtype: str | torch.dtype | None, kv_dtype: str | torch.dtype | None, head: str | None,
    embedding: str,
) -> None:  # fmt: skip
    """Raises LonghandError for what does not exist whatever the model."""
    if quantization not in ("auto", "nf4", None):
        raise LonghandError(f"quantization {quantization!r} is not one of 'auto', 'nf4', None")
    if head not in ("nf4", "bf16", None):
        raise LonghandError(f"head {head!r} is not one of 'nf4', 'bf16'")
    if embedding not in ("device", "host"):
        raise LonghandError(f"embedding {embedding!r} is not one of 'device', 'host'")
    for option, kind, names in (("dtype", dtype, DTYPES), ("kv_dtype", kv_dtype, KV_TYPES)):
        if kind is not None and name_of(kind) not in names:
            raise LonghandError(f"{option} {name_of(kind)!r} is not one of {', '.join(names)}")


def has_bitsandbytes() -> bool:
    return importlib.util.find_spec("bitsandbytes") is not None


def name_of(dtype: str | torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
