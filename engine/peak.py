"""Peak: the most memory that was taken since loading began, measured."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

from .options import choose_device

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """On a GPU: what torch's allocator had handed out at most. On a CPU: the resident set of the whole process (RSS),
    from `loaded` on: before that it also counts pages of the files that are read, which the system takes back when it
    needs them. Linux only; elsewhere `read` gives None.

    Call it before loading, `loaded` behind it, and `read` after the runs.
    """

    def __init__(self, device: str | torch.device | None = None):
        """device: as for `Engine.from_pretrained`."""
        self.device = device = choose_device(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.baseline = torch.cuda.memory_allocated(device)
        else:
            self.baseline = _resident("VmRSS") or 0  # bytes: what was taken before the model

    def loaded(self) -> None:
        """Hand back what loading's temporaries left in malloc's heap, and measure from here on."""
        if self.device.type == "cuda":
            return
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
        if trim is not None:
            trim(0)
        try:
            CLEAR.write_text("5")  # resets VmHWM (proc_pid_clear_refs(5))
        except OSError:
            return  # the peak then includes loading

    def read(self) -> int | None:
        """Bytes, the baseline included; None where they cannot be told."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return _resident("VmHWM")


def _resident(field: str) -> int | None:
    try:
        lines = STATUS.read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
