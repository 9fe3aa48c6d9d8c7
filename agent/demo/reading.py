"""Reading: runs over pages of real prose, with what the real search finds in them."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import prompt
from ..docs import DocsSearch
from ..search import SearchResult
from ..words import words as words_of
from . import questions, script, words
from .pages import Asked, AskedInSteps, Page, Theme
from .sample import Exchange, Round

DRAWS = 24  # from the pages that are open, before others are opened
TELL_ME = ("Tell me about {}.", "What do you know about {}?", "What can you tell me about {}?", "Describe {}.",
           "Please tell me about {}.", "tell me about {}", "I want to know about {}.")  # fmt: skip


@dataclass
class Opened:
    """Some pages, indexed."""

    pages: list[Page]
    search: DocsSearch


class Reading:
    """Draws runs with one random generator. Half of the pages' names and numbers are made up anew, so that nothing but
    the results can tell an answer."""

    def __init__(self, rng: random.Random, themes: Sequence[Theme]):
        self.rng, self.themes = rng, themes
        self.opened: Opened | None = None
        self.drawn = 0

    def fact(self) -> Exchange:
        """A question that one search answers."""
        while (exchange := self.about(self.page())) is None:
            pass
        return exchange

    def page(self) -> Page:
        """One of the pages that are open now."""
        return self.rng.choice(self._open().pages)

    def about(self, page: Page, again: bool = False) -> Exchange | None:
        """A question about an open page, if the search finds its answer. `again`: the question before was about it,
        too, and a pronoun may name it."""
        rng = self.rng
        if rng.random() < 0.1 or not page.asked:
            asked = Asked(rng.choice(TELL_ME).format(page.title), page.sentences[0], "")
        else:
            asked = rng.choice(page.asked)
        question, said = questions.vary(rng, asked.question), None
        if again and page.title in asked.question and rng.random() < 0.8:
            question = questions.follow_up(rng, asked.question, page.title, _pronoun(page))
            said = script.search_for_same(question.clean, page.title)
        if (found := self._find(question.clean, asked.sentence)) is None:
            return None
        results, rank = found
        first = Round(said or script.search_for(question.clean), prompt.response_text(results))
        return Exchange(question.shown, [first],
                        script.answer(script.scan(results, rank), script.cited(results[rank])))  # fmt: skip

    def unanswered(self) -> Exchange:
        """A question that no page answers, however it is searched for."""
        rng = self.rng
        while not (page := self.page()).unanswered:
            pass
        question = questions.vary(rng, rng.choice(page.unanswered))
        assert self.opened is not None
        titles = [one.title for one in self.opened.pages if one.title.lower() in question.clean.lower()]
        subject = max(titles, key=len, default=page.title)
        rounds: list[Round] = []
        said = script.search_for(question.clean)
        while True:
            results = self._search(script.query_in(said))
            rounds.append(Round(said, prompt.response_text(results)))
            query = script.shorter(script.query_in(said), question.typed(subject), results)
            if query is None or len(rounds) > 1:
                break
            said = script.search_again(results, query)
        return Exchange(question.shown, rounds, script.answer(script.scan(results, None), script.NOT_FOUND))

    def two_hops(self) -> Exchange:
        """A question that two searches answer."""
        rng = self.rng
        while True:
            opened = self._open()
            page = rng.choice(opened.pages)
            if page.in_steps and (exchange := self._in_steps(rng.choice(page.in_steps))):
                return exchange

    def _in_steps(self, asked: AskedInSteps) -> Exchange | None:
        question = questions.vary(self.rng, asked.question)
        phrase = question.typed(asked.phrase)
        found = self._find(phrase, asked.sentence)
        if not found or phrase not in question.clean:
            return None
        first, rank = found
        said = set(words_of(asked.name))
        links = (link for link in first[rank].links if said.intersection(words_of(link)))
        name = next(links, None if first[rank].links else asked.name)
        if name is None:
            return None  # only other pages are named
        then = self._find(question.clean.replace(phrase, name, 1), asked.last.sentence)
        if then is None:
            return None
        second, last = then
        on = script.search_on(script.scan(first, rank), question.clean, phrase, name)
        rounds = [
            Round(script.search_for_first(question.clean, phrase), prompt.response_text(first)),
            Round(on, prompt.response_text(second)),
        ]
        return Exchange(question.shown, rounds,
                        script.answer(script.scan(second, last), script.cited(second[last])))  # fmt: skip

    def _find(self, question: str, sentence: str) -> tuple[list[SearchResult], int] | None:
        """What the search finds for a question, and which result holds the sentence; None if none does."""
        results = self._search(script.query_of(question))
        rank = next((rank for rank, result in enumerate(results) if sentence in result.content), None)
        return None if rank is None else (results, rank)

    def _search(self, query: str) -> list[SearchResult]:
        assert self.opened is not None
        return self.opened.search.search(query)

    def _open(self) -> Opened:
        """The open pages, or others after a while."""
        if self.opened is None or self.drawn >= DRAWS:
            themes = self.rng.sample(self.themes, self.rng.choice((1, 1, 2)))
            pages = [page for theme in themes for page in _disguised(self.rng, theme)]
            if self.opened:
                self.opened.search.close()
            self.opened, self.drawn = Opened(pages, self._indexed(pages)), 0
        self.drawn += 1
        return self.opened

    def _indexed(self, pages: list[Page]) -> DocsSearch:
        rng = self.rng
        with tempfile.TemporaryDirectory() as folder:
            docs = Path(folder, "docs")
            docs.mkdir()
            for page in pages:
                slug = re.sub(r"[^a-z0-9]+", rng.choice("--__"), page.title.lower()).strip("-_") or "page"
                form = rng.random()
                slug = slug if form < 0.6 else slug.split("-")[0] if form < 0.8 else words.made_up(rng)
                while (path := docs / f"{slug}.md").exists():
                    slug += rng.choice("abcdefgh")
                path.write_text(f"# {page.title}\n\n" + "\n\n".join(self._paragraphs(page)) + "\n", "utf-8")
            # The index stays readable through its connection when the folder is gone.
            return DocsSearch(docs, cache_dir=folder)

    def _paragraphs(self, page: Page) -> Iterator[str]:
        headed = self.rng.random() < 0.3
        for number, paragraph in enumerate(page.paragraphs):
            if headed and number:
                yield f"## {self.rng.choice(words.NOUNS).capitalize()}"
            yield " ".join(paragraph)


def _pronoun(page: Page) -> str:
    """What its sentences call its subject."""
    said = re.findall(r"[a-z]+", " ".join(page.sentences).lower())
    forms = {"it": ("it", "its"), "he": ("he", "him", "his"), "she": ("she", "her", "hers")}
    return max(forms, key=lambda pronoun: sum(map(said.count, forms[pronoun])))


def _disguised(rng: random.Random, theme: Theme) -> list[Page]:
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
            [new(question) for question in page.unanswered],
        )
        for page in theme.pages
    ]  # fmt: skip
