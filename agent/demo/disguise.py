"""Disguise: the pages of themes of real prose, in half of the draws with other names and numbers, so that only the
results can tell an answer."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from . import words
from .pages import Asked, AskedInSteps, Page, Theme, Unanswered

TELL_ME = ("Tell me about {}.", "What do you know about {}?", "What can you tell me about {}?", "Describe {}.",
           "Please tell me about {}.", "tell me about {}", "I want to know about {}.")  # fmt: skip


def drawn(rng: random.Random, themes: Sequence[Theme]) -> list[Page]:
    """The pages of one or two themes; each is also asked about as a whole."""
    pages = [page for theme in rng.sample(themes, rng.choice((1, 1, 2))) for page in disguised(rng, theme)]
    tell_me = (Asked(rng.choice(TELL_ME).format(page.title), page.sentences[0], "") for page in pages)
    return [replace(page, asked=[*page.asked, asked]) for page, asked in zip(pages, tell_me, strict=True)]


def disguised(rng: random.Random, theme: Theme) -> list[Page]:
    """The pages, in half of the draws with other names and numbers."""
    if rng.random() < 0.5:
        return list(theme.pages)
    text = " ".join(sentence for page in theme.pages for sentence in page.sentences)
    lower = {word for word in re.findall(r"[^\W\d_]+", text) if word.islower()}
    capital = {name for page in theme.pages for sentence in page.sentences
               for name in re.findall(r"(?<=\w )[^\W\d_a-z][^\W\d_]{2,}", sentence)}  # fmt: skip
    kept = {*words.MONTHS}
    others = {name.casefold(): words.name(rng) for name in sorted(capital)
              if name.casefold() not in lower and name not in kept and rng.random() < 0.85}  # fmt: skip
    numbers: dict[str, str] = {}

    def swap(match: re.Match[str]) -> str:
        word = match.group()
        if word[0].isdigit():
            if word not in numbers:
                rest = "".join(rng.choice("0123456789") for _ in word[1:])
                numbers[word] = (word[0] if len(word) == 4 else rng.choice("123456789")) + rest
            return numbers[word] if len(word) > 1 else word
        other = others.get(word.casefold())
        return word if other is None else other.lower() if word.islower() else other

    def new(text: str) -> str:
        return re.sub(r"[^\W\d_]+|\d+", swap, text)

    def asked(one: Asked) -> Asked:
        return Asked(new(one.question), new(one.sentence), new(one.answer))

    return [
        Page(
            new(page.title),
            [[new(sentence) for sentence in paragraph] for paragraph in page.paragraphs],
            [asked(one) for one in page.asked],
            [AskedInSteps(new(one.question), new(one.phrase), new(one.sentence), new(one.name), asked(one.last))
             for one in page.in_steps],
            [Unanswered(new(one.question)) for one in page.unanswered],
        )
        for page in theme.pages
    ]  # fmt: skip
