"""What kv_accuracy.py and weight_accuracy.py share: fixed ids, and how far two models' logits for them are apart."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from longhand import Agent, Engine, SamplingParams
from longhand.agent.docs import DocsSearch
from longhand.engine.cache import KVCache
from torch import Tensor

DOCS = Path(__file__).parent.parent / "agent" / "demo" / "docs"
QUESTIONS = ("When was QwQ-32B released?", "How many layers does QwQ-32B have?")


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--model", action="append", help="a folder or hub id, measured on prose (default: both of above)"
    )
    parser.add_argument("--ids", type=int, default=768, help="how many ids of prose")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def prose(engine: Engine, count: int) -> tuple[list[int], list[int]]:
    """Ids of the built-in documents, and all their positions."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(DOCS.glob("*.md")))
    ids = engine.tokenizer.encode_literal(text)[: min(count, engine.max_context)]
    return ids, list(range(len(ids)))


def answers(engine: Engine, question: str) -> tuple[list[int], list[int]]:
    """Ids of a greedy run, and the positions whose next id the model chose."""
    with tempfile.TemporaryDirectory() as folder:
        search = DocsSearch(DOCS, cache_dir=folder)
        agent = Agent(engine, search, sampling=SamplingParams(temperature=0), today=date(2026, 1, 2))
        agent.ask(question)
    session = agent.session
    return list(session.ids), [n - 1 for n, source in enumerate(session.sources) if source == "sampled"]


def built_in(engine: Engine, count: int) -> Iterator[tuple[str, list[int], list[int]]]:
    """Names, ids and positions that the built-in model is measured on."""
    for number, question in enumerate(QUESTIONS, 1):
        yield f"answer {number}", *answers(engine, question)
    yield "text", *prose(engine, count)


@torch.inference_mode()
def log_probabilities(engine: Engine, ids: list[int], positions: list[int], cache: KVCache) -> Tensor:
    """float32 [positions, vocab]."""
    cache.reserve(len(ids))
    logits = engine.decoder.forward(engine.tensor(ids), cache, positions)
    cache.advance(len(ids))
    return logits.log_softmax(-1)


def compare(want: Tensor, got: Tensor) -> dict[str, float]:
    """KL(want || got) in nats, its mean and its 99th percentile, and how often the likeliest id is the same."""
    kl = (want.exp() * (want - got)).sum(-1)
    same = (want.argmax(-1) == got.argmax(-1)).float().mean()
    return {
        "kl_mean": float(f"{kl.mean():.2e}"),
        "kl_p99": float(f"{kl.quantile(0.99):.2e}"),
        "top1": round(float(same), 4),
    }
