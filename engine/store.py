"""A session on disk: ids, sources and cache in one safetensors file, with what it must match to be continued.

Format 1. Tensors: `ids` int64 [n], `sources` uint8 [n] (index into session.SOURCES), `keys.L` and `values.L`
[cached, kv_heads, head_dim] per layer as the cache stores them (an int8 cache has `key_scales.L` and `value_scales.L`
too), and `logits` float32 [vocab] when nothing is pending. Metadata: `format`, `seed` and the engine's identity (model,
quantization, rope, tokenizer, dtypes).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import LonghandError

if TYPE_CHECKING:
    from .cache import KVCache
    from .engine import Engine
    from .session import Session

FORMAT = "longhand-session-1"


def save_session(session: Session, path: Path) -> None:
    """Write beside and rename, so that a half-written file never bears the name."""
    from .session import SOURCES

    cache, n = session._cache, session.cached
    tensors = {
        "ids": torch.tensor(session.ids, dtype=torch.int64),
        "sources": torch.tensor([SOURCES.index(source) for source in session.sources], dtype=torch.uint8),
    }
    for name, layers in cache.rows.items():
        tensors |= {f"{name}.{layer}": rows[:n].cpu() for layer, rows in enumerate(layers)}
    if session._logits is not None and not session.pending:
        tensors["logits"] = session._logits.cpu()
    metadata = {"format": FORMAT, "seed": str(session.seed), **session.engine.identity}
    if not path.name:
        raise LonghandError(f"{str(path)!r}: a session is saved to a file; name one")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, metadata=metadata)
        partial.replace(path)
    except (OSError, SafetensorError, ValueError) as error:  # ValueError: a null character
        raise LonghandError(f"{path}: the session cannot be written ({error})") from None
    finally:
        with suppress(OSError, ValueError):
            partial.unlink()


def restore_session(engine: Engine, path: Path) -> Session:
    """The saved session on this engine; LonghandError names the first thing that differs."""
    from .session import SOURCES, Session

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise LonghandError(f"{path}: not a Longhand session (format {metadata.get('format')!r})")
            for key, mine in engine.identity.items():
                if metadata.get(key) != mine:
                    raise LonghandError(
                        f"{path}: saved with another {key} ({metadata.get(key)!r}, this engine has {mine!r}); "
                        "restore it with the engine that it was saved with"
                    )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError:
        raise LonghandError(f"{path}: no such file") from None
    except (OSError, SafetensorError) as error:
        raise LonghandError(f"{path}: not a readable safetensors file ({error})") from None

    seed = metadata.get("seed", "")
    if not seed.isdecimal() or len(seed) > 19 or int(seed) >= 2**63:
        raise LonghandError(f"{path}: damaged: {seed!r} is not a seed")
    session = Session(engine, int(seed))
    cache = session._cache
    ids, sources, cached = _checked(engine, cache, path, tensors)
    for token_id, source in zip(ids, sources, strict=True):
        if not engine.defines(token_id) or source >= len(SOURCES):
            raise LonghandError(f"{path}: holds an undefined id or source ({token_id}, {source})")
    if len(ids) > cache.max_context:
        raise LonghandError(f"{path}: {len(ids)} ids do not fit in max_context {cache.max_context}")
    cache.reserve(cached)
    for layer in range(engine.config.num_layers):
        cache.write(layer, {name: tensors[f"{name}.{layer}"] for name in cache.rows})
    session._append(ids, "prompt")
    session._sources[:] = [SOURCES[source] for source in sources]
    session._logits = tensors["logits"].to(engine.device, copy=True) if "logits" in tensors else None
    session._forwarded = cached
    cache.advance(cached)
    return session


def _checked(
    engine: Engine, cache: KVCache, path: Path, tensors: dict[str, torch.Tensor]
) -> tuple[list[int], list[int], int]:
    config = engine.config
    ids, sources = tensors.get("ids"), tensors.get("sources")
    if (
        ids is None
        or sources is None
        or ids.dtype != torch.int64
        or ids.dim() != 1
        or sources.shape != ids.shape
        or sources.dtype != torch.uint8
    ):
        raise LonghandError(f"{path}: damaged: ids and sources do not belong together")
    keys = tensors.get("keys.0")
    cached = keys.shape[0] if keys is not None and keys.dim() == 3 else 0
    for name, empty in [(f"{kind}.{n}", rows) for kind, layers in cache.rows.items() for n, rows in enumerate(layers)]:
        tensor = tensors.get(name)
        want = (cached, *empty.shape[1:])
        if tensor is None or tensor.shape != want or tensor.dtype != empty.dtype:
            raise LonghandError(f"{path}: damaged: {name} is not {list(want)} of {empty.dtype}")
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise LonghandError(f"{path}: damaged: {name} holds a value that is not finite")
    logits = tensors.get("logits")
    if logits is not None and (logits.shape != (config.vocab_size,) or logits.dtype != torch.float32):
        raise LonghandError(f"{path}: damaged: logits are not float32 [{config.vocab_size}]")
    if cached > len(ids) or (cached == len(ids) and cached and logits is None):
        raise LonghandError(f"{path}: damaged: {cached} cached positions for {len(ids)} ids")
    return ids.tolist(), sources.tolist(), cached
