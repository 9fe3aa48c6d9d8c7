"""From a path or a Hugging Face hub id to a local folder."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import LonghandError

INDEX = "model.safetensors.index.json"
# Not "*.safetensors", which is also true of checkpoints in folders that training left behind.
PATTERNS = ["config.json", "generation_config.json", "tokenizer.json", "model*.safetensors", INDEX]


def resolve(path_or_hub_id: str | Path, check: Callable[[Path], object] | None = None) -> Path:
    """A folder as it is; a hub id (`owner/name`) from the hub's local cache, else downloaded into it. `check` gets the
    config.json before the rest is downloaded, and may raise."""
    hub_id = str(path_or_hub_id)
    here = _on_disk(path_or_hub_id) or local_copy(hub_id)
    if here is None and check is not None:
        check(resolve_config(hub_id))
    return here or _download(hub_id, PATTERNS)


def resolve_config(path_or_hub_id: str | Path, or_file: bool = False) -> Path:
    """The config.json of a folder or of a hub id, of which nothing else is downloaded; with `or_file` a file is taken
    for one."""
    hub_id = str(path_or_hub_id)
    path = _on_disk(path_or_hub_id, or_file) or local_copy(hub_id) or _download(hub_id, ["config.json"])
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
    """The folder of a hub id that is already on this machine, complete as far as the hub's cache and its index tell."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=PATTERNS, local_files_only=True))
    except Exception:  # the library has a dozen classes for "not here"
        return None
    files = {"model.safetensors"}
    if (folder / INDEX).exists():
        try:
            files = set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return folder  # loading says what is wrong with it
    return folder if all((folder / str(name)).exists() for name in ("config.json", "tokenizer.json", *files)) else None


@contextmanager
def _bars_in_terminals_alone() -> Iterator[None]:
    """The library draws one of its bars also where standard error is a file or a pipe."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    asked = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # by the person: it stays as it is
    if asked or are_progress_bars_disabled() or sys.stderr.isatty():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _download(hub_id: str, patterns: list[str]) -> Path:
    # Not hf_hub_download for a single file: without a network it tries for 23 s and says so in eleven lines.
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise LonghandError(f"{hub_id}: downloading needs huggingface_hub: pip install huggingface_hub") from None
    try:
        with _bars_in_terminals_alone():
            folder = Path(snapshot_download(hub_id, allow_patterns=patterns))
    except GatedRepoError:
        raise LonghandError(
            f"{hub_id}: access is restricted; accept its terms on the hub and run `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise LonghandError(f"{hub_id}: no such model on the hub, or it is private") from None
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        for known in (error, error.__cause__):
            answer = getattr(known, "response", None)
            if answer is not None:
                hint = "; check the token (`hf auth login`)" if answer.status_code == 401 else ""
                raise LonghandError(f"{hub_id}: the hub answered with HTTP status {answer.status_code}{hint}") from None
        raise LonghandError(
            f"{hub_id}: not on this machine, and the hub cannot be reached; check the network"
        ) from None
    except Exception as error:  # sockets, disks, and what the library lets through of its HTTP client
        raise LonghandError(f"{hub_id}: the download failed ({type(error).__name__}); check network and disk") from None
    if not (folder / "config.json").exists():
        raise LonghandError(f"{hub_id}: has no config.json on the hub, so it is no checkpoint")
    return folder
