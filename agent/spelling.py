"""Spelling: what a word that occurs nowhere may be a slip of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import lru_cache

from .query import STOP_WORDS
from .words import stem, synonyms

SLIP = 0.75  # likeness (of difflib) from which a name that occurs nowhere is taken for a slip of one that does

MOST = 64  # words that are looked at: more are a pasted text
_WORD = re.compile(r"(?<![\w'’-])[a-z]{2,}(?![\w'’-])")  # lower case: a name is left as it is


def mended(query: str, occurs: Callable[[str], bool]) -> str:
    """The query without the slips that can hardly be anything else. Looked at are words that occur nowhere: a stop word
    that lacks a letter or has two swapped ("wich", "teh"), and a letter doubled or not ("parot")."""

    def mend(match: re.Match[str]) -> str:
        word = match.group()
        if word in STOP_WORDS or synonyms(word) or synonyms(stem(word)) or occurs(word):
            return word
        return _slips_of_stop_words().get(word) or next(
            (other for other in _doubled(word) if synonyms(other) or occurs(other)), word
        )

    return _WORD.sub(mend, query, count=MOST)


def close_to_any(word: str, known: Iterable[str]) -> bool:
    """Whether a name may be a slip of one of these folded words."""
    longer = 1 + len(word) // 8
    return bool(get_close_matches(word, [one for one in known if abs(len(one) - len(word)) <= longer], 1, SLIP))


@lru_cache(maxsize=1)
def _slips_of_stop_words() -> dict[str, str]:
    return {slip: word for word in sorted(STOP_WORDS, reverse=True) for slip in _slips_of(word)}


def _slips_of(word: str) -> set[str]:
    dropped = {word[:i] + word[i + 1 :] for i in range(1, len(word))} if len(word) > 2 else set()
    return dropped | {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}


def _doubled(word: str) -> Iterator[str]:
    for i, letter in enumerate(word):
        if word[i + 1 : i + 2] == letter:
            yield word[:i] + word[i + 1 :]
        elif word[i - 1 : i] != letter:
            yield word[:i] + letter + word[i:]
