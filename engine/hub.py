"""From a path or a Hugging Face hub id to a local folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .errors import LonghandError

PATTERNS = ["config.json", "generation_config.json", "tokenizer.json", "*.safetensors", "*.safetensors.index.json"]


def resolve(path_or_hub_id: str | Path) -> Path:
    """A folder as it is; a hub id (`owner/name`) from the hub's local cache, else downloaded into it."""
    hub_id = str(path_or_hub_id)
    return _on_disk(path_or_hub_id) or local_copy(hub_id) or _download(hub_id, _whole)


def resolve_config(path_or_hub_id: str | Path, or_file: bool = False) -> Path:
    """The config.json of a folder or of a hub id, of which nothing else is downloaded; with `or_file` a file is taken
    for one."""
    hub_id = str(path_or_hub_id)
    path = _on_disk(path_or_hub_id, or_file) or local_copy(hub_id) or _download(hub_id, _config_alone)
    return path / "config.json" if path.is_dir() else path


def _on_disk(path_or_hub_id: str | Path, or_file: bool = False) -> Path | None:
    # A folder, or a file, that exists; None for what can only be a hub id.
    name = str(path_or_hub_id)
    try:
        path = Path(path_or_hub_id).expanduser()
        if path.is_dir() or (or_file and path.is_file()):
            return path
        is_file = path.exists()
    except (OSError, RuntimeError) as error:  # a name too long for the disk, a home that does not exist
        raise LonghandError(f"{name}: no such folder ({type(error).__name__})") from None
    if is_file:
        raise LonghandError(f"{path}: a checkpoint is a folder, this is a file")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        raise LonghandError(f"{name}: no such folder, and not a hub id (owner/name)")
    return None


def local_copy(hub_id: str) -> Path | None:
    """The folder of a hub id that is already on this machine, complete as far as the hub's cache can tell."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=PATTERNS, local_files_only=True))
    except Exception:  # the library has a dozen classes for "not here"
        return None
    has_weights = any(folder.glob("*.safetensors"))
    return folder if has_weights and (folder / "config.json").exists() else None


def _whole(hub_id: str) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(hub_id, allow_patterns=PATTERNS)


def _config_alone(hub_id: str) -> str:
    from huggingface_hub import hf_hub_download

    return hf_hub_download(hub_id, "config.json")


def _download(hub_id: str, fetch: Callable[[str], str]) -> Path:
    try:
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise LonghandError(f"{hub_id}: downloading needs huggingface_hub: pip install huggingface_hub") from None
    try:
        return Path(fetch(hub_id))
    except ImportError:
        raise LonghandError(f"{hub_id}: downloading needs huggingface_hub: pip install huggingface_hub") from None
    except GatedRepoError:
        raise LonghandError(
            f"{hub_id}: access is restricted; accept its terms on the hub and run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise LonghandError(f"{hub_id}: no such model on the hub, or it is private") from None
    except LocalEntryNotFoundError:
        raise LonghandError(
            f"{hub_id}: not on this machine, and the hub cannot be reached; check the network"
        ) from None
    except EntryNotFoundError:
        raise LonghandError(f"{hub_id}: has no config.json on the hub, so it is no checkpoint") from None
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else "?"
        raise LonghandError(f"{hub_id}: the hub answered with HTTP status {code}") from None
    except Exception as error:  # sockets, disks, and what the library lets through of its HTTP client
        raise LonghandError(f"{hub_id}: the download failed ({type(error).__name__}); check network and disk") from None
