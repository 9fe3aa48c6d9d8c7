"""A training sample: a whole run of the agent's loop, each id marked as sampled by the model or not.

It is written the way `Agent` writes a run: the same prompt, the same frames, the same JSON. Only what the model would
have sampled (its thinking, its calls, its answers) is learned; prompts and tool responses are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...engine.tokenizer import Tokenizer
from .. import prompt


@dataclass
class Round:
    """What the model says up to a call, and the response to it. What is not `learned` is masked: a broken call."""

    said: str
    response: str
    learned: bool = True


@dataclass
class Exchange:
    """One question, the rounds of searching, and the answer with the thought before it."""

    question: str
    rounds: list[Round]
    answer: str


@dataclass
class Sample:
    """One session: a question, or several in a chat."""

    behaviour: str
    exchanges: list[Exchange]

    def encode(self, tokenizer: Tokenizer, opening: Sequence[int] = ()) -> tuple[list[int], list[int]]:
        """`input_ids`, and `labels` that are -100 on every id the model does not sample."""
        head, tail = prompt.response_frame(tokenizer)
        parts: list[tuple[list[int], bool]] = [(list(opening), False)]
        for number, exchange in enumerate(self.exchanges):
            asked = exchange.question
            begin = prompt.follow_up_ids(tokenizer, asked, True) if number else prompt.question_ids(tokenizer, asked)
            parts.append((begin, False))
            for one in exchange.rounds:
                parts.append((tokenizer.encode(one.said), one.learned))
                parts.append((head + tokenizer.encode_literal(one.response) + tail, False))
            parts.append((tokenizer.encode(exchange.answer), True))
        ids = [token_id for part, _ in parts for token_id in part]
        labels = [token_id if sampled else -100 for part, sampled in parts for token_id in part]
        return ids, labels
