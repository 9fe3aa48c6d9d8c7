"""Pages of real prose with questions, written for training: themes of pages that speak of each other (`prose/*.txt`).

A file holds pages, each from a line "# Title" on. "S: " is a sentence, "P:" begins a paragraph. Behind the sentence
that answers it stands "Q: question | answer" or, for two hops, "T: question with [a part] | what the part is | answer",
where the page about what the part is has the answer. "N: " is a question that no page of the theme answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ...engine.errors import LonghandError
from ..passages import read_passages
from ..sentences import split_sentences
from ..words import stems, words

DOCS = Path(__file__).parent / "docs"
PROSE = Path(__file__).parent / "prose"


@dataclass(frozen=True)
class Asked:
    """A question with the sentence that holds its answer."""

    question: str
    sentence: str
    answer: str
    named: str = ""  # the subject as the question names it, unless by its page's title


@dataclass(frozen=True)
class Unanswered:
    """A question that no page answers."""

    question: str
    named: str = ""  # the same


@dataclass(frozen=True)
class AskedInSteps:
    """A question of two hops: `phrase` is the part of it that `sentence` says is `name`; `last` answers the rest."""

    question: str
    phrase: str
    sentence: str
    name: str
    last: Asked


@dataclass
class Page:
    """A page: its title, its paragraphs of sentences, and what is asked about it."""

    title: str
    paragraphs: list[list[str]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    in_steps: list[AskedInSteps] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)
    pronoun: str = ""  # what its sentences call its subject, if that is known

    @property
    def sentences(self) -> list[str]:
        return [sentence for paragraph in self.paragraphs for sentence in paragraph]


@dataclass(frozen=True)
class Theme:
    name: str
    pages: tuple[Page, ...]


@dataclass(frozen=True)
class Prose:
    """The real prose that training has: sentences whose build the fillers borrow, and themes of pages to read."""

    sentences: list[str]
    themes: list[Theme] = field(default_factory=list)


def read_prose() -> Prose:
    """The sentences of the built-in documents and of the pages, and the pages."""
    themes = read_themes()
    documents = [
        sentence
        for path in sorted(DOCS.glob("*.md"))
        for passage in read_passages(path.read_text("utf-8"), path.name)
        for sentence in split_sentences(passage.text)
    ]
    others = [one for theme in themes for page in theme.pages for one in page.sentences]
    # As many of the one as of the other, or what is sampled hardly holds the documents' words, and they are unlearned.
    return Prose([*documents * max(1, len(others) // len(documents)), *others], themes)


def read_themes(folder: Path = PROSE) -> list[Theme]:
    """The themes of a folder, by name. LonghandError names the line that is not as it should be."""
    return [read_theme(path) for path in sorted(folder.glob("*.txt"))]


def read_theme(path: Path) -> Theme:
    pages: list[Page] = []
    steps: list[tuple[int, Page, str, str]] = []  # line, page, sentence, text
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        kind, _, text = line.partition(" ")
        text = text.strip()
        if kind == "#":
            pages.append(Page(text))
        elif not line.strip():
            continue
        elif not pages:
            raise LonghandError(f"{path}: line {number}: stands before the first page")
        elif kind == "P:":
            pages[-1].paragraphs.append([])
        elif kind == "S:":
            if not pages[-1].paragraphs:
                pages[-1].paragraphs.append([])
            pages[-1].paragraphs[-1].append(text)
        elif kind == "N:":
            pages[-1].unanswered.append(Unanswered(text))
        elif kind in ("Q:", "T:") and pages[-1].sentences:
            sentence = pages[-1].sentences[-1]
            if kind == "T:":
                steps.append((number, pages[-1], sentence, text))
                continue
            question, _, answer = text.rpartition(" | ")
            if not question or answer not in sentence:
                raise LonghandError(f"{path}: line {number}: the answer {answer!r} is not in the sentence before it")
            pages[-1].asked.append(Asked(question, sentence, answer))
        else:
            raise LonghandError(f"{path}: line {number}: begins with none of # S: P: Q: T: N:")
    for number, page, sentence, text in steps:
        try:
            page.in_steps.append(_in_steps(pages, sentence, text))
        except ValueError as error:
            raise LonghandError(f"{path}: line {number}: {error}") from None
    return Theme(path.stem, tuple(pages))


def _in_steps(pages: list[Page], sentence: str, text: str) -> AskedInSteps:
    parts = text.split(" | ")
    if len(parts) != 3:
        raise ValueError("is not: question | what the part is | answer")
    marked, name, answer = parts
    match = re.search(r"\[(.+?)\]", marked)
    if match is None:
        raise ValueError("has no [part] to find")
    if name not in sentence:
        raise ValueError(f"{name!r} is not in the sentence before it")
    phrase = match.group(1)
    onward = marked.replace(f"[{phrase}]", name)
    told = _told(pages, name, sentence, answer)
    if not told:
        raise ValueError(f"no page about {name!r} says {answer!r}")
    last = max(told, key=lambda one: len(stems(one) & stems(onward)))
    return AskedInSteps(marked.replace(f"[{phrase}]", phrase), phrase, sentence, name, Asked(onward, last, answer))


def _told(pages: list[Page], name: str, first: str, answer: str) -> list[str]:
    """The sentences but `first` that say `answer` on the page whose title shares most words with `name`, of those that
    do."""
    wanted = set(words(name))
    for page in sorted(pages, key=lambda page: -len(wanted & set(words(page.title)))):
        said = [sentence for sentence in page.sentences if answer in sentence and sentence != first]
        if said and wanted & set(words(page.title)):
            return said
    return []
