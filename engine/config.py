"""ModelConfig: a checkpoint's config.json, translated once into a frozen dataclass that checks itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import LonghandError
from .stored import Stored

DTYPES = ("float32", "bfloat16", "float16")
LARGEST = 1e15  # of a number in config.json: products of two are exact enough, and no float overflows
# What config.json calls the sizes that have another name here.
STORED_NAMES = {"num_layers": "num_hidden_layers", "num_heads": "num_attention_heads",
                "num_kv_heads": "num_key_value_heads"}  # fmt: skip


@dataclass(frozen=True)
class Yarn:
    """YaRN context extension (arXiv 2309.00071), with the field names of config.json."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None  # None: 0.1 ln(factor) + 1
    truncate: bool = True  # round the ramp's ends to whole dimensions


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a Qwen2 decoder. Sizes are counts of values, never bytes."""

    vocab_size: int  # rows of the embedding; the tokenizer may define fewer ids
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    dtype: str = "bfloat16"  # as stored
    yarn: Yarn | None = None
    quantization: Stored | None = None  # how the linears are stored, if they are stored in four bits

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads",
                 "head_dim", "max_position_embeddings")  # fmt: skip
        for name in sizes:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                stored = STORED_NAMES.get(name, name)
                raise LonghandError(f"config: {stored} must be a positive integer, not {value!r}")
        if self.num_heads % self.num_kv_heads:
            raise LonghandError(
                f"config: num_attention_heads {self.num_heads} is not a multiple of num_key_value_heads "
                f"{self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise LonghandError(f"config: head_dim must be even for RoPE, not {self.head_dim}")
        for name in ("rms_norm_eps", "rope_theta"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < LARGEST:
                raise LonghandError(f"config: {name} must be a positive number, not {_short(value)}")
        if not isinstance(self.tie_word_embeddings, bool):
            raise LonghandError(f"config: tie_word_embeddings must be true or false, not {self.tie_word_embeddings!r}")
        if self.yarn is not None and self.rope_theta <= 1:
            raise LonghandError(f"config: rope_theta must be above 1 for YaRN, not {self.rope_theta!r}")
        if self.dtype not in DTYPES:
            raise LonghandError(f"config: dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")

    def with_yarn(self, factor: float) -> ModelConfig:
        """The same model with YaRN by `factor` over its native context, at most 32,768 (what Qwen2's cards ask for,
        also where max_position_embeddings is larger)."""
        if self.yarn is not None:
            raise LonghandError(f"config: has YaRN already, by {self.yarn.factor:g}; it cannot be given another time")
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= 64:
            raise LonghandError(f"yarn must be a factor from 1 to 64, not {factor!r}")
        return replace(self, yarn=Yarn(float(factor), min(self.max_position_embeddings, 32768)))

    @property
    def num_parameters(self) -> int:
        """Parameters in the whole model; a tied head counts once."""
        h, kv = self.hidden_size, self.num_kv_heads * self.head_dim
        q = self.num_heads * self.head_dim
        layer = h * q + q + 2 * (h * kv + kv) + q * h + 3 * h * self.intermediate_size + 2 * h
        heads = 1 if self.tie_word_embeddings else 2
        return self.num_layers * layer + h + heads * self.vocab_size * h

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Bytes of keys and values that one id takes in the cache, all layers together."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value

    @staticmethod
    def from_file(path: Path) -> ModelConfig:
        """Read config.json; LonghandError names the file and the field."""
        try:
            raw = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise LonghandError(f"{path}: no such file; a checkpoint folder holds config.json") from None
        except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, a number without end
            raise LonghandError(f"{path}: not readable as JSON ({error})") from None
        if not isinstance(raw, dict):
            raise LonghandError(f"{path}: not a JSON object")
        try:
            return ModelConfig.from_dict(raw)
        except LonghandError as error:
            raise LonghandError(f"{path}: {error}") from None

    @staticmethod
    def from_dict(raw: dict[str, Any]) -> ModelConfig:
        """Translate config.json's keys, in the old layout (`rope_theta`, `torch_dtype`) or the new one
        (`rope_parameters`, `dtype`)."""
        if raw.get("model_type") != "qwen2":
            raise LonghandError(f"model_type {raw.get('model_type')!r} is not supported; Longhand runs 'qwen2'")
        if raw.get("hidden_act", "silu") != "silu":
            raise LonghandError(f"hidden_act {raw['hidden_act']!r} is not Qwen2's 'silu'")
        layer_types = raw.get("layer_types") or []
        if not isinstance(layer_types, list) or any(kind != "full_attention" for kind in layer_types):
            raise LonghandError("layer_types other than 'full_attention' are not supported")
        if raw.get("use_sliding_window"):
            raise LonghandError("use_sliding_window is not supported; only full attention is")
        for name in ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size"):
            if name not in raw:
                raise LonghandError(f"{name} is missing")
        heads = raw["num_attention_heads"]
        head_dim = raw.get("head_dim")
        if head_dim is None:
            for name in ("num_attention_heads", "hidden_size"):
                if not isinstance(raw[name], int) or raw[name] < 1:
                    raise LonghandError(f"{name} must be a positive integer, not {raw[name]!r}")
            if raw["hidden_size"] % heads:
                raise LonghandError(
                    f"hidden_size {raw['hidden_size']} is not a multiple of num_attention_heads {heads}"
                )
            head_dim = raw["hidden_size"] // heads
        if raw.get("rope_parameters") and raw.get("rope_scaling"):
            raise LonghandError("rope_parameters and rope_scaling are both given; remove one")
        rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
        if not isinstance(rope, dict):
            raise LonghandError(f"rope parameters must be an object, not {rope!r}")
        max_positions = raw.get("max_position_embeddings", 32768)
        quantization = raw.get("quantization_config") or {}
        if not isinstance(quantization, dict):
            raise LonghandError(f"quantization_config must be an object, not {quantization!r}")
        return ModelConfig(
            vocab_size=raw["vocab_size"],
            hidden_size=raw["hidden_size"],
            intermediate_size=raw["intermediate_size"],
            num_layers=raw["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=heads if raw.get("num_key_value_heads") is None else raw["num_key_value_heads"],
            head_dim=head_dim,
            rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
            rope_theta=rope.get("rope_theta", raw.get("rope_theta", 10000.0)),
            max_position_embeddings=max_positions,
            tie_word_embeddings=raw.get("tie_word_embeddings", False),
            dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32").removeprefix("torch."),
            yarn=_yarn(rope, max_positions),
            quantization=Stored.from_dict(quantization) if quantization else None,
        )


def _short(value: object) -> str:
    """A wrong value for a message: an integer may have thousands of digits, more than Python spells."""
    return f"one of {value.bit_length()} bits" if isinstance(value, int) and value.bit_length() > 200 else repr(value)


def _yarn(rope: dict[str, Any], max_positions: int) -> Yarn | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "yarn":
        raise LonghandError(f"rope type {kind!r} is not supported; 'default' and 'yarn' are")
    known = {"rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "beta_fast", "beta_slow",
             "attention_factor", "truncate"}  # fmt: skip
    # An option that changes the tables must not be dropped in silence (mscale is DeepSeek's variant).
    unknown = sorted(key for key in rope if key not in known and rope[key] is not None)
    if unknown:
        raise LonghandError(f"yarn option {unknown[0]!r} is not supported; known: {', '.join(sorted(known))}")

    def number(name: str, default: float | None = None) -> float:
        value = rope.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST:
            raise LonghandError(f"yarn {name} must be a positive number, not {_short(value)}")
        return value

    factor = number("factor")
    if factor < 1:
        raise LonghandError(f"yarn factor must be at least 1, not {factor}")
    original = number("original_max_position_embeddings", max_positions)
    if original < 1:
        raise LonghandError(f"yarn original_max_position_embeddings must be at least 1, not {original!r}")
    return Yarn(
        factor=float(factor),
        original_max_position_embeddings=int(original),
        beta_fast=float(number("beta_fast", 32.0)),
        beta_slow=float(number("beta_slow", 1.0)),
        attention_factor=None if rope.get("attention_factor") is None else float(number("attention_factor")),
        truncate=bool(rope.get("truncate", True)),
    )
