"""Batches of training samples: ids with their labels, padded to few shapes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from ...engine.tokenizer import Tokenizer
from .. import prompt
from ..passages import read_passages
from ..sentences import split_sentences
from .samples import Sampler

DOCS = Path(__file__).parent / "docs"
PAD = -100


def prose() -> list[str]:
    """The sentences of the built-in documents."""
    return [
        sentence
        for path in sorted(DOCS.glob("*.md"))
        for passage in read_passages(path.read_text("utf-8"), path.name)
        for sentence in split_sentences(passage.text)
    ]


class Batches:
    """Batches of samples of like length, drawn from one seed."""

    def __init__(self, tokens: int, tokenizer: Tokenizer, sentences: list[str], seed: int):
        """tokens: ids per batch, padding included."""
        self.tokens, self.tokenizer = tokens, tokenizer
        self.sampler = Sampler(seed, sentences)
        self.rng = random.Random(seed + 1)
        self.samples = self._cycle(self._run)
        self.copies = self._cycle(self._copy)

    def _run(self) -> tuple[list[int], list[int]]:
        return self.sampler.sample().encode(self.tokenizer)

    def _copy(self) -> tuple[list[int], list[int]]:
        sentences = [self.tokenizer.encode_literal(self.sampler.writer.filler()) for _ in range(self.rng.randint(1, 6))]
        again = self.rng.sample(sentences, len(sentences))
        ids = [token_id for sentence in (*sentences, *again) for token_id in sentence]
        seen = sum(len(sentence) for sentence in sentences)
        labels = [PAD] * seen + ids[seen:]
        start = seen
        for sentence in again:  # which sentence comes next cannot be known
            labels[start : start + 3] = [PAD] * len(labels[start : start + 3])
            start += len(sentence)
        return ids, labels

    def _cycle(self, draw) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[no-untyped-def]
        while True:
            pool = sorted((draw() for _ in range(320)), key=lambda sample: len(sample[0]))
            batches = []
            while pool:  # few distinct shapes: the matrix library prepares each one anew
                width = -(-len(pool[-1][0]) // 64) * 64
                rows = max(1, self.tokens // width)
                batches.append((width, pool[-rows:]))
                del pool[-rows:]
            self.rng.shuffle(batches)
            for width, batch in batches:
                yield (
                    torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in batch]),
                    torch.tensor([labels + [PAD] * (width - len(labels)) for _, labels in batch]),
                )

    def opening(self, share: float) -> Tensor:
        """The ids before the question: the last `share` of the template of some day, at least its last line. Lengths
        come in steps, since the matrix library prepares each new shape anew."""
        day = date(self.rng.randint(2024, 2032), self.rng.randint(1, 12), self.rng.randint(1, 28))
        ids = prompt.opening_ids(self.tokenizer, day, self.rng.randint(1, 9))
        return torch.tensor([ids if share == 1.0 else ids[-(8 + int(share * 4) * 120) :]])
