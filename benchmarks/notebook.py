"""The loop of the notebook that the project comes from, on the `generate` of the transformers that is installed.

The article (DeepSearch with QwQ-32B) shows the prompt and the stopping criterion; the notebook behind it
(github.com/Paul33333/experimental-notebook) the rest. What it does, and what is mirrored here:

- It installs autoawq, and with it transformers 4.47.1; the text of the prompt is tokenized and given to `generate`,
  which is to return its cache.
- After each id a stopping criterion decodes all ids that this `generate` was given or made, and searches the text for
  a closed call or <|im_end|> at its end. Mirrored, and its seconds summed up: each check reads everything again.
- After a search only the response's text is tokenized, and `generate` gets these ids with the cache and no attention
  mask. It takes them for the whole conversation. 4.47.1 leaves out as many at their front as are cached, and raises
  IndexError where none remain. 5.23 does the same with a response longer than the cache; of one that is not, it leaves
  out cached - len(response) ids, counts positions from there and not from the end of the cache, and raises RuntimeError
  where none remain. Mirrored by doing it: what is counted is what the model was given.
- The id that generation stopped on has no keys and values, and is never given again. Mirrored likewise.
- What it prints is the response and what follows, so that nobody sees that ids are missing.

Not mirrored: sampling (the ids of the plan are forced, so that engines compare), and parsing. The notebook's pattern
takes everything from the first <tool_call> to the last </tool_call>: a second search would end in a JSONDecodeError.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from longhand import Engine
from longhand.agent.replay_modes import NOTEBOOK_STOPS, Replay, Turn, common_prefix
from longhand.engine.compare import divergence
from longhand.engine.tokenizer import Tokenizer
from torch import Tensor


class Notebook:
    """One conversation with a Qwen2ForCausalLM. Our tokenizer stands for transformers' own: the ids are the same."""

    def __init__(self, model: Any, tokenizer: Tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.cache: Any = None
        self.held: list[int] = []  # every id that was forwarded, in order: what the cache holds
        self.passes: list[tuple[int, int]] = []  # per forward: ids, and the first one's position
        model.model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module: Any, arguments: Any, options: dict[str, Any]) -> None:
        ids, positions = options["input_ids"], options.get("position_ids")
        self.held += ids[0].tolist()
        at = len(self.held) - ids.shape[1] if positions is None or not ids.shape[1] else int(positions[0, 0])
        self.passes.append((ids.shape[1], at))

    def turn(self, fed: Sequence[int], sampled: Sequence[int]) -> dict[str, Any]:
        """What is fed as text, and these ids sampled. `lost`: ids of the text that the model was not given."""
        text, reused = self.tokenizer.decode(fed), len(self.held)
        self.passes = []
        kept = {} if self.cache is None else {"past_key_values": self.cache}
        started = time.perf_counter()
        ids = self.tokenizer.encode(text)
        forced, stop = Forced(self, sampled, len(ids)), RegexStop(self.tokenizer)
        row: dict[str, Any] = {"reused": reused, "error": ""}
        try:
            made = self.model.generate(
                torch.tensor([ids]), max_new_tokens=len(sampled), do_sample=False, use_cache=True,
                return_dict_in_generate=True, logits_processor=[forced], stopping_criteria=[stop], **kept,
            )  # fmt: skip
            self.cache = made.past_key_values
        except (IndexError, RuntimeError) as error:  # nothing left to forward
            row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        computed, position = self.passes[0] if self.passes else (0, reused)
        return row | {
            "computed": computed, "lost": len(ids) - computed, "position_shift": reused - position if computed else 0,
            "seconds": forced.seconds - started if forced.held else 0.0, "sampled": stop.checks,
            "stop_check_seconds": stop.seconds, "held": forced.held or list(self.held), "logits": forced.logits,
        }  # fmt: skip


class Forced:
    """A logits processor that lets only the plan's id through; the first call is the moment of the first token."""

    def __init__(self, loop: Notebook, sampled: Sequence[int], start: int):
        self.loop, self.sampled, self.start = loop, sampled, start
        self.seconds = 0.0
        self.held: list[int] = []
        self.logits: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.start
        if step == 0:
            self.seconds = time.perf_counter()
            self.held, self.logits = list(self.loop.held), scores[0].float().clone()
        return torch.full_like(scores, -torch.inf).index_fill_(1, torch.tensor([self.sampled[step]]), 0.0)


class RegexStop:
    """The notebook's stopping criterion: all ids as text, searched for an end."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.seconds, self.checks = tokenizer, 0.0, 0

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> bool:
        started = time.perf_counter()
        text = self.tokenizer.decode(input_ids[0].tolist())
        ended = any(pattern.search(text) for pattern in NOTEBOOK_STOPS)
        self.seconds += time.perf_counter() - started
        self.checks += 1
        return ended


def replay_notebook(model: Any, engine: Engine, plan: Sequence[Turn], same_weights: bool) -> list[dict[str, Any]]:
    """A row per turn, up to the one that raises. With the same weights, how far the first id's distribution is from
    that of the engine, which is given all ids."""
    loop, ours = Notebook(model, engine.tokenizer), Replay(engine)
    rows: list[dict[str, Any]] = []
    history: list[int] = []
    for number, turn in enumerate(plan, 1):
        history += turn.fed
        row = {"turn": number, **loop.turn(turn.fed, turn.sampled)}
        held, logits = row.pop("held"), row.pop("logits")
        row["drift"] = None if held == history else common_prefix(held, history)
        row["divergence"] = None
        if same_weights and logits is not None:
            row["divergence"], row["same_first"] = divergence(ours.start(history)[0], logits)
        rows.append(row)
        if row["error"]:
            break
        history += turn.sampled
    return rows
