"""Many launches as one: functions of tensors that stay where they are, captured as CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

WARM_UPS = 2  # the first compiles kernels and makes the libraries' workspaces, which a capture must not


class GraphRecorder:
    """Graphs of one device, with one memory pool between them: they run one at a time, and what they hand on lies in
    tensors from outside the pool. A first graph, of nothing much, keeps the pool alive when others are dropped."""

    def __init__(self, device: torch.device):
        self.lock = threading.Lock()  # one capture at a time
        self.stream = torch.cuda.Stream(device)  # one for all: cuBLAS has a workspace for each stream it meets
        mark = torch.zeros(1, device=device)
        self.first = torch.cuda.CUDAGraph()
        self._capture(self.first, lambda: mark.add_(1), None)
        self.pool = self.first.pool()

    def record(self, function: Callable[[], object]) -> Callable[[], None]:
        """A call that repeats what `function` did on the device: the same kernels on the same memory. The function runs
        a few times first, so it must do no harm when it is repeated, and must not wait for the device."""
        here = torch.cuda.current_stream(self.stream.device)
        with self.lock:
            self.stream.wait_stream(here)
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UPS):
                    function()
            here.wait_stream(self.stream)
            graph = torch.cuda.CUDAGraph()
            self._capture(graph, function, self.pool)
        return graph.replay

    def _capture(self, graph: torch.cuda.CUDAGraph, function: Callable[[], object], pool: object) -> None:
        # thread_local: another thread may go on using the device.
        with torch.cuda.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"):  # type: ignore[arg-type]
            function()
