"""Batches of training samples: ids with their labels, padded to few shapes. Where a source stands is two numbers, from
which it goes on as if it had never stopped."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from ...engine.tokenizer import Tokenizer
from ..trace_export import IGNORED
from .data import Data, Row, random_opening
from .pages import Prose
from .recipe import Recipe
from .samples import Sampler

POOL = 320  # samples that are sorted by length together
KINDS = ("copies", "runs", "rows")


class Batches:
    """Batches of samples of like length. `draw(number)` gives the samples of a pool, the same ones whenever it is
    asked."""

    def __init__(self, draw: Callable[[int], list[Row]], tokens: int, seed: str):
        """tokens: ids per batch, padding included."""
        self.draw, self.tokens, self.seed = draw, tokens, seed
        self.pool = -1  # the one that batches come from
        self.taken = 0  # of its batches
        self.batches: list[tuple[int, list[Row]]] = []

    @property
    def position(self) -> tuple[int, int]:
        return self.pool, self.taken

    def go_to(self, pool: int, taken: int) -> None:
        """Go on from a position."""
        self.pool, self.taken = pool, taken
        self.batches = self._cut(pool) if pool >= 0 else []

    def next(self) -> tuple[Tensor, Tensor]:
        """ids and labels [rows, width] of the next batch."""
        if self.taken == len(self.batches):
            self.go_to(self.pool + 1, 0)
        width, batch = self.batches[self.taken]
        self.taken += 1
        return (
            torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch]),
            torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in batch]),
        )

    def _cut(self, number: int) -> list[tuple[int, list[Row]]]:
        pool = sorted(self.draw(number), key=lambda row: len(row[0]))
        batches = []
        while pool:  # few distinct shapes: the matrix library prepares each one anew
            width = -(-len(pool[-1][0]) // 64) * 64
            rows = max(1, self.tokens // width)
            batches.append((width, pool[-rows:]))
            del pool[-rows:]
        random.Random(f"{self.seed}/{number}").shuffle(batches)
        return batches


class Stream:
    """One of the batches of every step: its generated runs, copies and rows of data files, from seeds of its own."""

    def __init__(self, recipe: Recipe, number: int, tokenizer: Tokenizer, prose: Prose, data: Data | None):
        self.recipe, self.number, self.tokenizer, self.prose, self.data = recipe, number, tokenizer, prose, data
        self.seed = f"{recipe.seed}/{number}"
        draws = {"copies": self._copies, "runs": self._runs, "rows": self._rows}
        self.sources = {kind: Batches(draws[kind], recipe.tokens, f"{self.seed}/{kind}") for kind in KINDS}

    @property
    def position(self) -> list[int]:
        """Where its sources stand, as six numbers."""
        return [place for kind in KINDS for place in self.sources[kind].position]

    def go_to(self, position: list[int]) -> None:
        for place, kind in enumerate(KINDS):
            self.sources[kind].go_to(*position[2 * place : 2 * place + 2])

    def next(self, step: int) -> tuple[Tensor | None, Tensor, Tensor]:
        """The opening that the samples of this step's batch share (or none), their ids and their labels."""
        kind = self.recipe.kind(step)
        ids, labels = self.sources[kind].next()
        return self._opening(step) if kind == "runs" else None, ids, labels

    def _opening(self, step: int) -> Tensor:
        """The last part of the template of some day, at least its last line. Lengths come in steps, since the matrix
        library prepares each new shape anew."""
        share = self.recipe.prompt_share(step)
        ids = random_opening(self.tokenizer, random.Random(f"{self.seed}/opening/{step}"))
        return torch.tensor([ids if share == 1.0 else ids[-(8 + int(share * 4) * 120) :]])

    def _sampler(self, kind: str, pool: int) -> Sampler:
        seed = random.Random(f"{self.seed}/{kind}/{pool}/samples").getrandbits(62)
        return Sampler(seed, self.prose, self.recipe.left_out)

    def _runs(self, pool: int) -> list[Row]:
        sampler = self._sampler("runs", pool)
        return [sampler.sample().encode(self.tokenizer) for _ in range(POOL)]

    def _copies(self, pool: int) -> list[Row]:
        sampler, rng = self._sampler("copies", pool), random.Random(f"{self.seed}/copies/{pool}/order")
        return [self._copy(sampler, rng) for _ in range(POOL)]

    def _copy(self, sampler: Sampler, rng: random.Random) -> Row:
        sentences = [self.tokenizer.encode_literal(sampler.writer.filler()) for _ in range(rng.randint(1, 6))]
        again = rng.sample(sentences, len(sentences))
        ids = [token_id for sentence in (*sentences, *again) for token_id in sentence]
        seen = sum(len(sentence) for sentence in sentences)
        labels = [IGNORED] * seen + ids[seen:]
        start = seen
        for sentence in again:  # which sentence comes next cannot be known
            labels[start : start + 3] = [IGNORED] * len(labels[start : start + 3])
            start += len(sentence)
        return ids, labels

    def _rows(self, pool: int) -> list[Row]:
        """A part of the shuffled files. The streams take the parts in turn: together they come round to a row again
        when all others had their turn."""
        assert self.data is not None
        parts = -(-len(self.data) // POOL)
        epoch, part = divmod(pool * self.recipe.batches + self.number, parts)
        order = list(range(len(self.data)))
        random.Random(f"{self.recipe.seed}/rows/{epoch}").shuffle(order)
        return self.data.rows(order[part * POOL : (part + 1) * POOL])
