"""What weights in fewer bits cost in accuracy: `python benchmarks/weight_accuracy.py [--model M ...] [--ids 768]`.

For fixed ids: KL(logits of the unquantized model || logits with this lever) in nats, how often the likeliest id is the
same, and the bytes of all weights where the rest is in bfloat16. The cache is never rounded.

Models: the built-in one ("answers": runs of the agent, only where the model chose the id; "text": prose, of which it
was never trained to say the next id), with its head untied: a copy of the embedding becomes an lm_head of its own. That
changes no logit, and lets a trained head be quantized by itself. With 3.6 M parameters in layers 256 wide it is a weak
stand-in: it ranks the levers, and does not tell what QwQ-32B loses. Measure a real checkpoint with --model; it is
loaded unquantized, then once for each lever.

Levers: bfloat16 (where the model would run in float32) as a yardstick; the blocks' linears in NF4, double quantized or
not, lm_head with them or not; and the embedding's rows in host memory, which moves them and rounds nothing. Prints a
table, then one JSON line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accuracy import arguments, built_in, compare, log_probabilities, prose
from longhand import DEMO, Engine
from longhand.engine.cache import KVCache
from longhand.engine.footprint import Footprint
from longhand.engine.options import choose_setup
from safetensors.torch import load_file, save_file
from torch import Tensor

Task = tuple[str, list[int], list[int]]  # name, ids, positions


def levers(plain: Engine) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names, and options of `Engine.from_pretrained`."""
    untied = not plain.config.tie_word_embeddings
    if plain.dtype == torch.float32:
        yield "bfloat16", {"quantization": None, "dtype": "bfloat16"}
    for name, double in (("NF4", False), ("NF4 double", True)):
        yield name, {"quantization": "nf4", "double_quant": double}
        if untied:
            yield f"{name} + head", {"quantization": "nf4", "double_quant": double, "head": "nf4"}
    if untied:
        yield "embedding on the host", {"quantization": None, "embedding": "host"}


def weights_bytes(engine: Engine, options: dict[str, Any]) -> int:
    """Of all weights with these options, what is not quantized in bfloat16."""
    setup = choose_setup(engine.config, engine.device, **{**options, "dtype": "bfloat16"})
    return sum(Footprint(engine.config).weights(setup).values())


def logits_of(engine: Engine, task: Task) -> Tensor:
    _, ids, positions = task
    cache = KVCache(engine.config, engine.device, torch.float32, engine.max_context)
    return log_probabilities(engine, ids, positions, cache).cpu()


def measure(
    model: str | Path, device: str, name: str, tasks_of: Callable[[Engine], list[Task]]
) -> list[dict[str, object]]:
    """One row per task and lever. One copy of the model is in memory at a time."""
    engine = Engine.from_pretrained(model, device, quantization=None)
    tasks = tasks_of(engine)
    want = [logits_of(engine, task) for task in tasks]
    chosen = [(lever, options, weights_bytes(engine, options)) for lever, options in levers(engine)]
    rows: list[list[dict[str, object]]] = [[] for _ in tasks]
    for lever, options, size in chosen:
        del engine
        engine = Engine.from_pretrained(model, device, **options)
        share = round(size / (2 * engine.config.num_parameters), 3)
        for task, there, found in zip(tasks, want, rows, strict=True):
            costs = compare(there, logits_of(engine, task))
            found.append({"model": f"{name}, {task[0]}", "lever": lever, "positions": len(task[2]),
                          "weights_bytes": size, "of_bfloat16": share, **costs})  # fmt: skip
    return [row for found in rows for row in found]


def write_untied(folder: Path) -> None:
    """The built-in model with an lm_head of its own, equal to its embedding."""
    config = json.loads((DEMO / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    (folder / "tokenizer.json").write_bytes((DEMO / "tokenizer.json").read_bytes())
    weights = load_file(DEMO / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    asked = arguments(__doc__.split("\n")[0])
    rows = []
    for model in asked.model or ():
        rows += measure(model, asked.device, Path(model).name, lambda engine: [("text", *prose(engine, asked.ids))])
    if not asked.model:
        with tempfile.TemporaryDirectory() as folder:
            write_untied(Path(folder))
            rows += measure(folder, asked.device, "built-in", lambda engine: list(built_in(engine, asked.ids)))
    print(f"{'model':20} {'lever':24} {'weights':>14} {'of bf16':>8} {'KL mean':>9} {'KL p99':>9} {'top-1':>7}")
    for row in rows:
        print(f"{row['model']:20} {row['lever']:24} {row['weights_bytes']:14,} {row['of_bfloat16']:8.3f} "
              f"{row['kl_mean']:9.1e} {row['kl_p99']:9.1e} {row['top1']:7.2%}")  # fmt: skip
    print(json.dumps({"ids": asked.ids, "torch": torch.__version__, "rows": rows}))


if __name__ == "__main__":
    sys.exit(main())
