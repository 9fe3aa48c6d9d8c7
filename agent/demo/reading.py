"""Reading: runs over folders of pages, with what the real search finds in them."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import prompt
from ..agent import limit_notice
from ..docs import DocsSearch
from ..search import SearchResult
from ..words import words as words_of
from . import questions, script, words
from .pages import AskedInSteps, Page
from .sample import Exchange, Round


@dataclass
class Opened:
    """Some pages, indexed."""

    pages: list[Page]
    search: DocsSearch


class Reading:
    """Draws runs with one random generator, over a folder of pages and after a while over another one."""

    def __init__(self, rng: random.Random, pages: Callable[[], list[Page]], runs: int):
        """pages: draws those of a folder; runs: over each."""
        self.rng, self.pages, self.runs = rng, pages, runs
        self.opened: Opened | None = None
        self.drawn = 0

    def fact(self) -> Exchange:
        """A question that one search answers, or a second, shorter one."""
        while True:
            page = self.page()
            if page.asked and (exchange := self.about(page)):
                return exchange

    def page(self) -> Page:
        """One of the pages that are open now."""
        return self.rng.choice(self._open().pages)

    def about(self, page: Page, again: bool = False) -> Exchange | None:
        """A question about an open page, if the search finds its answer. `again`: the question before was about it,
        too, and a pronoun may name it."""
        rng = self.rng
        asked = rng.choice(page.asked)
        named = asked.named or page.title
        question, said = questions.asked(rng, asked.question), None
        if again and named in asked.question and rng.random() < 0.8:
            question = questions.follow_up(rng, asked.question, named, _pronoun(page))
            said = script.search_for_same(question.clean, named)
        said = said or script.search_for(question.clean)
        results = self._search(script.query_in(said))
        rounds = [Round(said, prompt.response_text(results))]
        rank = _holding(results, asked.sentence)
        if rank is None:
            if not asked.answer or any(asked.answer.casefold() in one.content.casefold() for one in results):
                return None  # another sentence may say it, too
            query = script.shorter(script.query_in(said), question.typed(named), results)
            if query is None:
                return None
            again_said = script.search_again(results, query)
            results = self._search(query, script.query_in(said))
            rounds.append(Round(again_said, prompt.response_text(results)))
            if (rank := _holding(results, asked.sentence)) is None:
                return None
        return Exchange(question.shown, rounds,
                        script.answer(script.scan(results, rank), script.cited(results[rank])))  # fmt: skip

    def unanswered(self) -> Exchange:
        """A question that no page answers, however it is searched for."""
        rng = self.rng
        while not (page := self.page()).unanswered:
            pass
        one = rng.choice(page.unanswered)
        question = questions.asked(rng, one.question)
        assert self.opened is not None
        titles = [page.title for page in self.opened.pages if page.title.lower() in question.clean.lower()]
        subject = one.named or max(titles, key=len, default=page.title)
        rounds: list[Round] = []
        said, wider = script.search_for(question.clean), None
        while True:
            results = self._search(script.query_in(said), wider)
            rounds.append(Round(said, prompt.response_text(results)))
            query = script.shorter(script.query_in(said), question.typed(subject), results)
            if query is None or len(rounds) > 1:
                break
            said, wider = script.search_again(results, query), script.query_in(said)
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
        question = questions.asked(self.rng, asked.question)
        phrase = question.typed(asked.phrase)
        if phrase not in question.clean:
            return None
        opening = script.search_for_first(question.clean, phrase)
        found = self._taken_for_one_step(question.clean, asked) if self.rng.random() < 0.15 else None
        if one_step := found is not None:
            opening = script.search_for(question.clean)
        found = found or self._find(phrase, asked.sentence)
        if not found:
            return None
        first, rank = found
        said = set(words_of(asked.name))
        links = (link for link in first[rank].links if said.intersection(words_of(link)))
        name = next(links, None if first[rank].links else asked.name)
        if name is None:
            return None  # only other pages are named
        begun = Round(opening, prompt.response_text(first), learned=not one_step)
        then = self._find(question.clean.replace(phrase, name, 1), asked.last.sentence)
        if then is None:
            return None
        second, last = then
        on = script.search_on(script.scan(first, rank), question.clean, phrase, name)
        if self.rng.random() < 0.04:
            notice = prompt.notice_text(limit_notice(self.rng.randint(1, 5)))
            rounds = [begun, Round(on, notice)]
            return Exchange(question.shown, rounds, script.answer(script.scan([], None), script.partly(first[rank])))
        rounds = [begun, Round(on, prompt.response_text(second))]
        return Exchange(question.shown, rounds,
                        script.answer(script.scan(second, last), script.cited(second[last])))  # fmt: skip

    def _taken_for_one_step(self, question: str, asked: AskedInSteps) -> tuple[list[SearchResult], int] | None:
        """What the whole question finds, where that shows the first step, and so that there are two."""
        found = self._find(question, asked.sentence)
        return None if found is None or _holding(found[0], asked.last.sentence) is not None else found

    def _find(self, question: str, sentence: str) -> tuple[list[SearchResult], int] | None:
        """What the search finds for a question, and which result holds the sentence; None if none does."""
        results = self._search(script.query_of(question))
        rank = _holding(results, sentence)
        return None if rank is None else (results, rank)

    def _search(self, query: str, wider: str | None = None) -> list[SearchResult]:
        assert self.opened is not None
        return self.opened.search.search_within(query, wider)

    def _open(self) -> Opened:
        """The open pages, or others after a while."""
        if self.opened is None or self.drawn >= self.runs:
            pages = self.pages()
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
            # Files called by numbers: what an address is must be copied to the last digit.
            numbered = f"{rng.choice((words.made_up(rng), rng.choice(words.NOUNS)))}{rng.choice(('', '', '-', '_'))}"
            first = rng.randint(0, 99) if rng.random() < 0.3 else None
            for number, page in enumerate(pages):
                slug = re.sub(r"[^a-z0-9]+", rng.choice("--__"), page.title.lower()).strip("-_") or "page"
                form = rng.random()
                slug = slug if form < 0.6 else slug.split("-")[0] if form < 0.8 else words.made_up(rng)
                slug = slug if first is None else f"{numbered}{first + number}"
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


def _holding(results: list[SearchResult], sentence: str) -> int | None:
    """Which result holds the sentence."""
    return next((rank for rank, result in enumerate(results) if sentence in result.content), None)


def _pronoun(page: Page) -> str:
    """What its sentences call its subject."""
    if page.pronoun:
        return page.pronoun
    said = re.findall(r"[a-z]+", " ".join(page.sentences).lower())
    forms = {"it": ("it", "its"), "he": ("he", "him", "his"), "she": ("she", "her", "hers")}
    return max(forms, key=lambda pronoun: sum(map(said.count, forms[pronoun])))
