"""Budget: what one question may spend."""

from __future__ import annotations

from dataclasses import dataclass

from ..engine.errors import LonghandError


@dataclass(frozen=True)
class Budget:
    """Limits of one question, in searches and sampled ids. None is no limit but the context."""

    searches: int = 5
    thinking: int | None = None  # then `</think>` is forced
    answer: int | None = 2048

    def __post_init__(self) -> None:
        for name in ("searches", "thinking", "answer"):
            value = getattr(self, name)
            if value is None and name != "searches":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise LonghandError(f"budget: {name} must be a whole number, 0 or more, not {value!r}")

    def reserve(self, max_context: int) -> int:
        """Ids of the context kept free for the answer: an eighth of it, at most 512, and no more than an answer may
        have."""
        wanted = min(512, max_context // 8)
        return wanted if self.answer is None else min(wanted, max(self.answer, 1))
