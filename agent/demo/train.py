"""Train the built-in model from scratch: `python -m longhand.agent.demo.train --help`.

The model is trained on Longhand's own decoder, on runs of the agent's loop, with the loss masked on every id that the
model does not sample itself (the prompt and the tool response), as Search-R1 does (arXiv 2503.09516). Two processes
with one thread each train on two cores: one barrier a step instead of one an operation.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ...engine.config import ModelConfig
from ...engine.decoder import Decoder
from ...engine.tokenizer import Tokenizer
from ...kernels import reference
from .batches import PAD, Batches, prose
from .tokenizer import train_tokenizer

QUERY_BLOCK = 192  # twice as fast as whole sequences on a core with 1 MiB of second-level cache


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, besides the code."""

    seed: int = 20261122
    steps: int = 4500
    tokens_per_step: int = 6144  # per process, padding included
    vocab_size: int = 2560
    hidden_size: int = 256
    intermediate_size: int = 384
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 2
    copy_steps: int = 250  # copying random prose first: it makes copying heads appear early
    full_prompt_from: float = 0.5  # the part of the steps from which every sample has the whole template before it
    part_prompt_before: float = 0.4  # how often one has a part of it until then
    decay_from: float = 0.3  # the part of the steps from which the learning rates fall linearly to zero
    muon_lr: float = 0.02
    adam_lr: float = 0.004

    def config(self) -> dict[str, object]:
        """config.json of the model, in the layout of QwQ-32B's."""
        return {
            "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers, "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads, "hidden_act": "silu", "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
            "use_sliding_window": False,
        }  # fmt: skip


class TrainingOps:
    """The reference operations, less their detours through float32, which autocast would undo anyway."""

    linear = staticmethod(reference.linear)
    swiglu = staticmethod(reference.swiglu)
    quantized_linear = staticmethod(reference.quantized_linear)
    quantize_nf4 = staticmethod(reference.quantize_nf4)
    pack = staticmethod(reference.pack)
    block = staticmethod(reference.block)

    @staticmethod
    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, eps)

    @staticmethod
    def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    @staticmethod
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """By blocks of queries: a block's scores stay in the processor's cache, and less is computed in vain."""
        batch, queries, heads, width = q.shape
        keys, kv_heads = k.shape[-3], k.shape[-2]
        group, before = heads // kv_heads, keys - queries
        rows = (q / math.sqrt(width)).view(batch, queries, kv_heads, group, width).permute(0, 2, 3, 1, 4)
        rows = rows.reshape(batch * kv_heads, group, queries, width)
        k = k.permute(0, 2, 3, 1).reshape(batch * kv_heads, width, keys)
        v = v.transpose(1, 2).reshape(batch * kv_heads, keys, width)
        blocks = []
        for start in range(0, queries, QUERY_BLOCK):
            stop = min(queries, start + QUERY_BLOCK)
            seen = before + stop
            hidden = ~reference.causal_mask(stop - start, seen, q.device)
            mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device).masked_fill_(hidden, -1e4).repeat(group, 1)
            block = rows[:, :, start:stop].reshape(batch * kv_heads, -1, width)
            scores = torch.baddbmm(mask.expand(len(block), -1, -1), block, k[..., :seen])
            out = torch.bmm(scores.softmax(-1), v[:, :seen])
            blocks.append(out.view(len(block), group, stop - start, width))
        out = torch.cat(blocks, 2).view(batch, kv_heads, group, queries, width).permute(0, 3, 1, 2, 4)
        return out.reshape(batch, queries, heads, width)


class TrainingCache:
    """A prefix of one row that every row of a batch continues; `extend` first records it, then puts it in front."""

    def __init__(self) -> None:
        self.position = 0
        self.rows: list[tuple[Tensor, Tensor]] = []

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.position == 0:
            self.rows.append((keys, values))
            return keys, values
        batch = keys.shape[0]
        return tuple(  # type: ignore[return-value]
            torch.cat((prefix.expand(batch, *prefix.shape[-3:]), new), -3)
            for prefix, new in zip(self.rows[layer], (keys, values), strict=True)
        )


def new_model(recipe: Recipe) -> Decoder:
    """A decoder with fresh parameters: small normal weights, residual outputs smaller with depth."""
    torch.manual_seed(recipe.seed)
    model = Decoder(ModelConfig.from_dict(recipe.config()), TrainingOps(), torch.device("cpu"))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(True)
        if parameter.dim() == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        else:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * recipe.num_layers) if residual else 1.0))
    return model


def loss_of(model: Decoder, opening: Tensor | None, ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy over the labels that count, and the share of them that greedy decoding would hit."""
    cache = TrainingCache()
    with torch.autocast(ids.device.type, torch.bfloat16):
        if opening is not None:
            model.hidden(opening, cache)
            cache.position = opening.shape[1]
        hidden = model.hidden(ids, cache)[:, :-1]
        counted = labels[:, 1:] != PAD
        rows = hidden[counted]
        padded = functional.pad(rows, (0, 0, 0, -len(rows) % 512))
        logits = model.logits(padded)[: len(rows)]
    target = labels[:, 1:][counted]
    return functional.cross_entropy(logits, target), (logits.argmax(-1) == target).float().mean()


def train(
    rank: int, world: int, store: str, recipe: Recipe, out: Path, device: str, threads: int, start: Path | None
) -> None:
    """One process of the training; rank 0 writes checkpoints and the log."""
    torch.set_num_threads(threads)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    tokenizer = Tokenizer.from_file(out / "tokenizer.json")
    model = new_model(recipe)
    if start is not None:
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(start / "model.safetensors").items()})
    model = model.to(device)
    model.rotary.inverse_frequencies = model.rotary.inverse_frequencies.to(device)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    sentences = prose()
    batches = Batches(recipe.tokens_per_step, tokenizer, sentences, recipe.seed + 7919 * (rank + 1))
    rng = random.Random(recipe.seed)  # the same on every rank: all take the same kind of step
    started, window, seen = time.monotonic(), [], 0
    for step in range(recipe.steps):
        progress = step / recipe.steps
        scale = min(1.0, (step + 1) / 100, max(0.01, (1 - progress) / (1 - recipe.decay_from)))
        for optimizer, rate in zip(optimizers, (recipe.muon_lr, recipe.adam_lr), strict=True):
            optimizer.param_groups[0]["lr"] = rate * scale
        copying = step < recipe.copy_steps
        share = rng.random() if rng.random() < recipe.part_prompt_before else 0.0
        share = 1.0 if progress >= recipe.full_prompt_from else share
        ids, labels = next(batches.copies if copying else batches.samples)
        opening = None if copying else batches.opening(share).to(device)
        loss, hit = loss_of(model, opening, ids.to(device), labels.to(device))
        loss.backward()
        if world > 1:
            _average_gradients(model, world)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        window.append((loss.item(), hit.item()))
        seen += world * ids.numel()
        if rank == 0 and (step + 1) % 50 == 0:
            mean = [sum(values) / len(values) for values in zip(*window, strict=True)]
            row = {"step": step + 1, "loss": round(mean[0], 4), "hit": round(mean[1], 4),
                   "seconds": round(time.monotonic() - started), "tokens": seen}  # fmt: skip
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            window = []
        if rank == 0 and ((step + 1) % 500 == 0 or step + 1 == recipe.steps):
            save(model, recipe, tokenizer, out)
    if world > 1:
        dist.destroy_process_group()


def _average_gradients(model: Decoder, world: int) -> None:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def save(model: Decoder, recipe: Recipe, tokenizer: Tokenizer, out: Path) -> None:
    """A standard checkpoint: config.json, model.safetensors (bf16), generation_config.json beside tokenizer.json."""
    weights = {name: p.detach().to("cpu", torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    partial = out / "model.safetensors.partial"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(recipe.config(), indent=2) + "\n")
    control = tokenizer.control
    generation = {"bos_token_id": control.endoftext, "eos_token_id": [control.im_end, control.endoftext],
                  "do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 40}  # fmt: skip
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def main(
    out: Annotated[Path, typer.Option(help="folder for the checkpoint; made if absent")] = Path("runs/demo"),
    steps: Annotated[int, typer.Option(help="optimizer steps")] = Recipe.steps,
    processes: Annotated[int, typer.Option(help="processes that share each step")] = 2,
    threads: Annotated[int, typer.Option(help="threads per process")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda (then one process)")] = "cpu",
    tokens: Annotated[int, typer.Option(help="ids per step and process")] = Recipe.tokens_per_step,
    seed: Annotated[int, typer.Option()] = Recipe.seed,
    start: Annotated[Path | None, typer.Option(help="go on from this checkpoint, without the copying phase")] = None,
    decay_from: Annotated[float, typer.Option(help="part of the steps after which rates fall")] = Recipe.decay_from,
    full_from: Annotated[
        float, typer.Option(help="part of the steps after which prompts are whole")
    ] = Recipe.full_prompt_from,
    peak: Annotated[float, typer.Option(help="factor on the learning rates")] = 1.0,
) -> None:
    """Train the built-in model and its tokenizer into a checkpoint folder."""
    if not hasattr(torch.optim, "Muon"):
        raise SystemExit("training needs torch.optim.Muon: install torch>=2.9")
    recipe = Recipe(steps=steps, tokens_per_step=tokens, seed=seed, decay_from=decay_from, full_prompt_from=full_from,
                    muon_lr=Recipe.muon_lr * peak, adam_lr=Recipe.adam_lr * peak,
                    copy_steps=0 if start else Recipe.copy_steps)  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.jsonl").unlink(missing_ok=True)
    tokenizer = (start / "tokenizer.json").read_text("utf-8") if start else None
    (out / "tokenizer.json").write_text(tokenizer or train_tokenizer(recipe.vocab_size, prose(), recipe.seed))
    with tempfile.TemporaryDirectory() as folder:
        arguments = (processes, f"{folder}/store", recipe, out, device, threads, start)
        if processes == 1:
            train(0, *arguments)
        else:
            torch.multiprocessing.spawn(train, arguments, nprocs=processes)  # type: ignore[attr-defined]


if __name__ == "__main__":
    typer.run(main)
