"""Passages: the titled pieces of a document, of about 150 words at most, that a search finds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from .block import Block
from .blocks import read_blocks
from .sentences import split_sentences

PASSAGE_WORDS = 150
LONGEST_SENTENCE = 2400  # characters, about 400 words; more is not prose (data in one line) and is cut between words


@dataclass(frozen=True)
class Passage:
    """A piece of a document. `number` counts from 1 within it; `trail` is its chain of headings, outermost first.

    In `text` paragraphs are a blank line apart; list items, table rows and code are lines of their own.
    """

    number: int
    title: str
    trail: str
    text: str


def read_passages(text: str, name: str) -> list[Passage]:
    """The passages of the document `text`; `name` is its file name, whose suffix (one of SUFFIXES) says how to read it.

    A passage's title is its heading, behind the document's own title ("Doc title: Heading") where the document has
    one: a single level-1 heading at its top, a `title` in its front matter, HTML's <title>. A document without
    headings is named by its first line if that is short and no sentence, else by its file name.
    """
    path = PurePosixPath(name)
    fallback = " ".join(re.split(r"[-_\s]+", path.stem)).strip()
    return list(_passages_of(read_blocks(text, path.suffix), fallback[:1].upper() + fallback[1:]))


def _passages_of(blocks: list[Block], fallback: str) -> Iterator[Passage]:
    if not any(block.level for block in blocks) and len(blocks) > 1 and _is_title(blocks[0].text):
        blocks = [Block(1, blocks[0].text), *blocks[1:]]
    at_top = bool(blocks) and blocks[0].level == 1 and sum(block.level == 1 for block in blocks) == 1
    document = blocks[0].text if at_top else ""
    trail: dict[int, str] = {}
    paragraphs: list[str] = []
    number = 0
    for block in [*blocks, Block(6, "")]:  # the last one flushes
        if block.level == 0:
            paragraphs.append(block.text)
            continue
        heading = trail[max(trail)] if trail else fallback
        title = f"{document}: {heading}" if document and heading != document else heading
        for text in _grouped(paragraphs):
            number += 1
            yield Passage(number, title, " ".join(trail[level] for level in sorted(trail)) or fallback, text)
        paragraphs = []
        trail = {level: text for level, text in trail.items() if level < block.level} | {block.level: block.text}


def _is_title(line: str) -> bool:
    return "\n" not in line and len(line.split()) <= 12 and len(line) <= 80 and not re.search("[.:;,\u3002]$", line)


def _grouped(paragraphs: list[str]) -> Iterator[str]:
    """Neighbouring paragraphs in runs up to PASSAGE_WORDS; only one that alone is longer is cut, between sentences."""
    group: list[str] = []
    size = 0
    for piece in (piece for paragraph in paragraphs for piece in _cut(paragraph)):
        length = _word_count(piece)
        if group and size + length > PASSAGE_WORDS:
            yield "\n\n".join(group)
            group, size = [], 0
        group.append(piece)
        size += length
    if group:
        yield "\n\n".join(group)


def _cut(paragraph: str) -> Iterator[str]:
    if _word_count(paragraph) <= PASSAGE_WORDS and len(paragraph) <= LONGEST_SENTENCE:
        yield paragraph
        return
    piece, size = "", 0
    for line in paragraph.split("\n"):
        for place, part in enumerate(part for sentence in split_sentences(line) for part in _parts(sentence)):
            length = _word_count(part)
            if piece and size + length > PASSAGE_WORDS:
                yield piece
                piece, size = "", 0
            piece += (" " if place else "\n") * bool(piece) + part
            size += length
    if piece:
        yield piece


def _parts(sentence: str) -> Iterator[str]:
    start = 0
    while len(sentence) - start > LONGEST_SENTENCE:
        space = sentence.rfind(" ", start + 1, start + LONGEST_SENTENCE)
        end = space if space > 0 else start + LONGEST_SENTENCE
        yield sentence[start:end].strip()
        start = end
    yield sentence[start:].strip()


def _word_count(text: str) -> int:
    """Words between spaces; two characters where Chinese and Japanese use none, and 16 where data has none."""
    return max(len(text.split()) + len(re.findall("[\u3040-\u30ff\u3400-\u9fff]", text)) // 2, len(text) // 16)
