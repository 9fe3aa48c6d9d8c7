"""LoopDetector: notices that sampled ids have fallen into a cycle."""

from __future__ import annotations

import numpy as np


class LoopDetector:
    """Finds a period p such that the last ids repeat themselves every p ids.

    A run counts as a loop when at least `repeats` whole periods follow the first and at least `min_ids` ids repeat, so
    that a table's rules or a short chorus do not. Cost per id: one comparison with the last `max_period` ids.
    """

    def __init__(self, max_period: int = 512, repeats: int = 4, min_ids: int = 96):
        self.max_period, self.repeats, self.min_ids = max_period, repeats, min_ids
        self._recent = np.full(max_period, -1, dtype=np.int64)  # most recent first
        self._matches = np.zeros(max_period, dtype=np.int64)  # per period, how many ids in a row equal the one p before
        self._needed = np.maximum(np.arange(1, max_period + 1) * repeats, min_ids)

    def push(self, token_id: int) -> bool:
        """Take the next sampled id; True once the ids are in a loop."""
        self._matches = np.where(self._recent == token_id, self._matches + 1, 0)
        self._recent = np.concatenate(([token_id], self._recent[:-1]))
        return bool((self._matches >= self._needed).any())
