"""Worlds: folders of made-up pages, with what is asked about them and what they do not tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .language import Fact, Linked, Writer
from .pages import Asked, AskedInSteps, Page, Unanswered
from .shelf import Shelf
from .subjects import Subject

NAMING = {"person": ("who",), "place": ("where", "name"), "thing": ("name", "thing", "where")}  # values that name one


@dataclass
class Told:
    """What a page is about and tells. `hidden` is asked for only in two steps, from the page with the `link`."""

    subject: Subject
    facts: list[Fact]
    hidden: Fact | None = None
    link: tuple[Linked, Fact] | None = None
    said: dict[str, str] = field(default_factory=dict)  # statements as the page has them

    @property
    def known(self) -> list[Fact]:
        return [*self.facts, *([self.hidden] if self.hidden else [])]


class Worlds:
    """Draws folders with the random generator of a writer."""

    def __init__(self, writer: Writer, shelf: Shelf):
        self.writer, self.shelf, self.rng = writer, shelf, writer.rng

    def drawn(self) -> list[Page]:
        """The pages of a folder: some by themselves, some that name each other, some of like names."""
        rng = self.rng
        told: list[Told] = []
        for _ in range(rng.randint(3, 12)):
            if rng.random() < 0.5:
                told += self._linked()
            else:
                near = told and rng.random() < 0.3
                subject = self.shelf.relative(rng.choice(told).subject) if near else self.writer.subject()
                told.append(Told(subject, self.facts(subject, rng.randint(1, 3))))
        pages = [self._page(one) for one in told]
        for page, one in zip(pages, told, strict=True):
            page.unanswered += self._untold(one)
            if one.link is not None:
                link, fact = one.link
                last = next(other.said[fact.statement] for other in told if other.hidden is fact)
                page.in_steps.append(
                    AskedInSteps(fact.question, link.phrase, one.said[link.statement], link.value.name,
                                 Asked(fact.question, last, fact.value))
                )  # fmt: skip
        return pages

    def _linked(self) -> tuple[Told, Told]:
        """A page that names another one's subject, and that page."""
        link = self.writer.link()
        fact = self.writer.fact(link.value, named=link.phrase)
        while fact.family.describes:  # "Who was the designer of the bridge?" asks for the first hop
            fact = self.writer.fact(link.value, named=link.phrase)
        naming = Told(link.subject, self.facts(link.subject, 1, unlike=link.value.group), link=(link, fact))
        return naming, Told(link.value, self.facts(link.value, self.rng.randint(0, 2), [fact]), hidden=fact)

    def facts(self, subject: Subject, count: int, known: Sequence[Fact] = (), unlike: str | None = None) -> list[Fact]:
        """Facts of a subject, none of a kind twice or of those known, and none whose value is of the kind of subject
        `unlike`: no second designer of the same bridge."""
        seen = [fact.family.questions for fact in known]
        facts: list[Fact] = []
        while len(facts) < count:
            fact = self.writer.fact(subject)
            if fact.family.questions not in seen and (unlike is None or fact.family.value not in NAMING[unlike]):
                seen.append(fact.family.questions)
                facts.append(fact)
        return facts

    def _page(self, told: Told) -> Page:
        """A page of what is told and some other sentences, in any order."""
        rng = self.rng
        pronoun = rng.choice(("he", "she")) if told.subject.kind == "person" else "it"
        link = told.link[0] if told.link else None
        stated = [(fact.statement, fact.value) for fact in told.known]
        stated += [(link.statement, link.value.name)] if link else []
        told.said = {statement: self._sentence(statement, value, told.subject, pronoun) for statement, value in stated}
        sentences = [*told.said.values(), *(self.writer.filler() for _ in range(rng.choice((0, 1, 1, 2))))]
        rng.shuffle(sentences)
        cut = rng.randint(1, len(sentences)) if rng.random() < 0.3 else len(sentences)
        asked = [Asked(fact.question, told.said[fact.statement], fact.value, fact.named) for fact in told.facts]
        paragraphs = [part for part in (sentences[:cut], sentences[cut:]) if part]
        return Page(told.subject.name, paragraphs, asked, pronoun=pronoun)

    def _sentence(self, statement: str, value: str, subject: Subject, pronoun: str) -> str:
        """The statement as a page has it: now and then longer, or with a pronoun for the page's subject."""
        rng, sentence = self.rng, statement
        if rng.random() < 0.2:
            sentence = re.sub(
                rf"\b{re.escape(subject.phrase)}(?![\w'’-])", pronoun, sentence, count=1, flags=re.IGNORECASE
            )
            sentence = sentence[0].upper() + sentence[1:]
        if rng.random() < 0.25:
            sentence = self.writer.lengthen(sentence)
        return sentence if value.casefold() in sentence.casefold() else statement

    def _untold(self, told: Told) -> list[Unanswered]:
        """What the page does not tell of its subject, and a question about something that has no page."""
        other = self.shelf.relative(told.subject) if self.rng.random() < 0.7 else self.writer.subject()
        absent = self.writer.fact(other, named=other.phrase)
        unlike = told.link[0].value.group if told.link else None
        lacking = self.facts(told.subject, 1, told.known, unlike)
        return [
            Unanswered(fact.question, fact.named) for fact in (*lacking, absent)
            if fact is absent or not fact.family.describes  # any sentence about it would do
        ]  # fmt: skip
