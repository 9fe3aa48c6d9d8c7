"""What a device has left, and one sentence when it is not enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from .errors import LonghandError


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on the device; None where that cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = (_of_the_machine(), *_of_the_container())
    return min((free for free in found if free is not None), default=None)


def _of_the_machine() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _of_the_container(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What each memory limit on this process leaves (control groups, version 2); files that it read and could drop
    count as free."""
    try:
        named = [line[3:] for line in own.read_text("utf-8").splitlines() if line.startswith("0::")]
        group = root / (named[0] if named else "").strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (folder / "memory.max").is_file():
                limit = (folder / "memory.max").read_text("ascii").strip()
                rows = (folder / "memory.stat").read_text("ascii").splitlines()
                held = int((folder / "memory.current").read_text("ascii"))
                held -= sum(int(row.split()[1]) for row in rows if row.startswith("inactive_file "))
                if limit != "max":
                    yield max(int(limit) - held, 0)
    except (OSError, ValueError, IndexError):
        return


def gib(count: int) -> str:
    """Bytes for a person: '1.50 GiB', or MiB below one."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


@contextmanager
def allocation(what: str, wanted: int, device: torch.device, bytes_per_token: int = 0, held: int = 0) -> Iterator[None]:
    """Turn running out of memory inside the block into a LonghandError that says how much was asked for and what
    would fit, with the `held` bytes that are there already. On Linux a process that asks for too much is killed instead
    of told, so what is plainly too much is refused before it is tried."""
    free = free_bytes(device)
    if device.type != "cuda" and free is not None and wanted > free:
        raise LonghandError(_message(what, wanted, device, free, bytes_per_token, held))
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise LonghandError(_message(what, wanted, device, free_bytes(device), bytes_per_token, held)) from None
    except RuntimeError as error:  # the CPU allocator has no class of its own
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise LonghandError(_message(what, wanted, device, free_bytes(device), bytes_per_token, held)) from None


def _message(what: str, wanted: int, device: torch.device, free: int | None, bytes_per_token: int, held: int) -> str:
    text = f"out of memory on {device}: {what} asked for {gib(wanted)}{' more' if held else ''}"
    if free is None:
        return text
    text += f" and {gib(free)} is free"
    if bytes_per_token:
        text += f"; about {(free + held) // bytes_per_token} ids of context would fit (set max_context)"
    return text


def read_bandwidth(device: torch.device, size: int = 2**28) -> float:
    """Bytes a second that a plain sum over `size` bytes reads, the best of a few."""
    values = torch.ones(size // 4, device=device)
    best = 0.0
    for _ in range(4):
        started = time.perf_counter()
        float(values.sum())
        best = max(best, size / (time.perf_counter() - started))
    return best
