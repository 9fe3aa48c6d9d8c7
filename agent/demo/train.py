"""The loop of a training: on Longhand's own decoder, over runs of the agent's loop, with the loss masked on every id
that the model does not sample itself (the prompt and the tool response), as Search-R1 does (arXiv 2503.09516).

The batches of a step are shared by processes with one thread each: one barrier a step instead of one an operation. The
process that was started is one of them; it writes everything and passes Ctrl-C on.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...engine.errors import LonghandError
from ...engine.tokenizer import Tokenizer
from . import log
from .batches import KINDS, Stream
from .job import Job
from .log import Log, Row
from .model import fill, make_optimizers, new_model, save_checkpoint
from .pages import read_prose
from .state import NAME, read_about, restore_state, save_state
from .training_ops import loss_of

PATIENCE = timedelta(minutes=10)  # for a process that does not answer


class Trainer:
    """What one process holds of a training: the whole model, its optimizers, and its share of the streams."""

    def __init__(self, job: Job, rank: int = 0):
        torch.set_num_threads(job.threads)
        self.job, self.rank, self.device = job, rank, torch.device(job.device)
        self.tokenizer = Tokenizer.from_file(job.out / "tokenizer.json")
        self.model = new_model(job.config, job.recipe.seed)
        if job.start is not None and not job.resume:
            fill(self.model, Path(job.start))
        self.model.to(self.device)
        self.model.rotary.inverse_frequencies = self.model.rotary.inverse_frequencies.to(self.device)
        self.optimizers = make_optimizers(self.model, job.recipe)
        prose = read_prose()
        self.streams = [Stream(job.recipe, number, self.tokenizer, prose, job.data)
                        for number in range(rank, job.recipe.batches, job.processes)]  # fmt: skip
        self.log = Log(job.out / log.NAME, job.log_every)
        self.step, self.ids, self.before, self.started = 0, 0, 0.0, time.monotonic()
        if job.resume:
            self._go_on()

    def _go_on(self) -> None:
        about = read_about(self.job.out)
        positions = restore_state(self.job.out, self.model, self.optimizers)
        for stream in self.streams:
            stream.go_to(positions[stream.number])
        self.step, self.ids, self.before = about["step"], about["ids"], about["seconds"]
        if self.rank == 0:
            self.log.go_on(self.step, about["window"])

    @property
    def done(self) -> bool:
        return self.step == self.job.recipe.steps

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.started

    def advance(self, stop: bool = False) -> tuple[Row, bool]:
        """One step. `stop` is this process's wish; returned is whether any has it."""
        recipe = self.job.recipe
        for optimizer, rate in zip(self.optimizers, (recipe.muon_lr, recipe.adam_lr), strict=True):
            optimizer.param_groups[0]["lr"] = rate * recipe.rate_at(self.step)
        sums = torch.tensor([0.0, 0.0, 0.0, float(stop)])  # of loss, hit, ids and wishes to stop
        for stream in self.streams:
            opening, ids, labels = stream.next(self.step)
            loss, hit = loss_of(self.model, None if opening is None else opening.to(self.device), ids.to(self.device),
                                labels.to(self.device), getattr(torch, recipe.dtype))  # fmt: skip
            loss.backward()
            sums += torch.tensor([loss.item(), hit.item(), ids.numel(), 0.0])
        self._add_up(sums)
        loss_mean, hit_mean = (sums[:2] / recipe.batches).tolist()
        if not math.isfinite(loss_mean):
            raise LonghandError(f"step {self.step + 1}: the loss is {loss_mean}; train with a lower --rate")
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.ids += int(sums[2])
        return Row(self.step, loss_mean, hit_mean, self.ids, self.seconds), bool(sums[3])

    def _add_up(self, sums: Tensor) -> None:
        """Gradients become their mean over the step's batches; `sums` become those of all processes."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        if self.job.processes > 1:
            parts = [*gradients, sums]
            flat = torch.cat([part.flatten() for part in parts])
            dist.all_reduce(flat)
            for part, total in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
                part.copy_(total.view_as(part))
        for gradient in gradients:
            gradient /= self.job.recipe.batches

    def save(self) -> None:
        """Write the checkpoint and, until the training is done, the state. All processes call it; the first writes."""
        positions = torch.zeros(self.job.recipe.batches, 2 * len(KINDS), dtype=torch.int64)
        for stream in self.streams:
            positions[stream.number] = torch.tensor(stream.position)
        if self.job.processes > 1:
            dist.all_reduce(positions)
        if self.rank:
            return
        save_checkpoint(self.model, self.job.config, self.tokenizer, self.job.out)
        if self.done:
            (self.job.out / NAME).unlink(missing_ok=True)
            return
        about = {**self.job.identity, "step": self.step, "ids": self.ids, "seconds": self.seconds,
                 "window": self.log.window}  # fmt: skip
        save_state(self.job.out, self.model, self.optimizers, positions, about)


def train(job: Job, report: Callable[[Row], None] = lambda row: None) -> int:
    """Train, calling `report` after each step; returns the steps that are done: fewer than the recipe's after Ctrl-C,
    which lets the step end and leaves a state to go on from. A second Ctrl-C ends at once."""
    with Interrupt() as interrupt, followers(job):
        return run(Trainer(job), lambda: interrupt.asked, report)


def run(trainer: Trainer, asked: Callable[[], bool], report: Callable[[Row], None]) -> int:
    """The steps of one process, saving on the way."""
    while not trainer.done:
        row, stop = trainer.advance(asked())
        if trainer.rank == 0:
            trainer.log.add(row, trainer.done)
            report(row)
        if stop or trainer.done or trainer.step % trainer.job.save_every == 0:
            trainer.save()
        if stop:
            break
    return trainer.step


class Interrupt:
    """While it is entered, the first Ctrl-C only sets `asked`."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self.before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, *_: Any) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self.before)


@contextmanager
def followers(job: Job) -> Iterator[None]:
    """The other processes of a training, connected to this one. LonghandError when one of them ends early."""
    if job.processes == 1:
        yield
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{folder}/store"
        others = [context.Process(target=_follow, args=(job, rank, store), daemon=True)
                  for rank in range(1, job.processes)]  # fmt: skip
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: they hear of Ctrl-C from this process
        for other in others:
            other.start()
        signal.signal(signal.SIGINT, before)
        try:
            dist.init_process_group("gloo", store, PATIENCE, job.processes, 0)
            yield
            for other in others:
                other.join()
        except RuntimeError as error:
            for rank, other in enumerate(others, 1):
                other.join(5)
                if other.exitcode:
                    raise LonghandError(f"process {rank} of the training ended with exit code {other.exitcode}; what "
                                        f"was saved last is in {job.out}") from error  # fmt: skip
            raise
        finally:
            for other in others:
                other.terminate()
            if dist.is_initialized():
                dist.destroy_process_group()


def _follow(job: Job, rank: int, store: str) -> None:
    dist.init_process_group("gloo", store, PATIENCE, job.processes, rank)
    try:
        run(Trainer(job, rank), lambda: False, lambda row: None)
    except LonghandError as error:
        sys.exit(f"longhand: {error}")
    dist.destroy_process_group()
