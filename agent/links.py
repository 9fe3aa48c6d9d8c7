"""Links: which pages of a folder a passage names. They are what a search could be for next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from .query import STOP_WORDS

MOST = 4  # links of one result
SHORTEST = 4  # letters of a word that stands for a whole name
_WORD = re.compile(r"[^\W_]+")
_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"\s*\([^()]*\)\s*$")
_JOINTS = frozenset("of the and de da di du del della la le van von den der al bin y".split())
_STYLES = frozenset("Sir Lord Lady Dame Dr Mr Mrs Miss Captain Professor Admiral General".split())


@dataclass
class _Node:
    """Names that begin with the same words: all of them below it."""

    below: dict[str, _Node] = field(default_factory=dict)
    count: int = 0
    one: tuple[str, ...] = ()  # of the names, and the only one where they are one
    whole: tuple[str, ...] = ()  # the name that has no more words


class Links:
    """The names of a folder's pages, and of what their headings name."""

    def __init__(self, titles: Iterable[str]):
        """titles: of passages, "Page" or "Page: Heading"."""
        self._root = _Node()
        self._names: dict[tuple[str, ...], str] = {}
        self._pages: set[tuple[str, ...]] = set()
        self._last: dict[str, list[tuple[str, ...]]] = {}
        for title in titles:
            for place, name in enumerate(map(_name, title.split(": "))):
                parts = tuple(_WORD.findall(name))
                if not parts or (place and name.islower() and len(parts) == 1):  # "The ship" is a heading like others
                    continue
                if place == 0:
                    self._pages.add(parts)
                if self._add(parts, name) and self._is_name(parts):
                    self._last.setdefault(parts[-1], []).append(parts)
        for parts in self._pages:  # "silkworms" of the page "Silkworms"
            self._add((parts[0][0].lower() + parts[0][1:], *parts[1:]), self._names[parts])

    def named_in(self, content: str, title: str) -> tuple[str, ...]:
        """The names that stand in `content` in their own spelling, in order, at most MOST, without the passage's own;
        those in lower case last. A first or last word that only one name has stands for all of it."""
        own = {_name(part) for part in title.split(": ")}
        said = _Said(content)
        found: dict[str, bool] = {}  # whether it stands there in lower case
        at = 0
        while at < len(said.words):
            parts, at = next(self._at(said, at), ((), at + 1))
            if parts and (name := self._names[parts]) not in own:
                found[name] = found.get(name, True) and parts[0] != _WORD.findall(name)[0]
        return tuple(sorted(found, key=lambda name: found[name]))[:MOST]

    def _add(self, parts: tuple[str, ...], name: str) -> bool:
        """Whether the name is new."""
        if parts in self._names:
            return False
        self._names[parts] = name
        node = self._root
        for part in parts:
            node = node.below.setdefault(part, _Node())
            node.count, node.one = node.count + 1, parts
        node.whole = parts
        return True

    def _is_name(self, parts: tuple[str, ...]) -> bool:
        """Whether a word may stand for all of it: "Fame in Rome" is no name; of headings, two or three words are."""
        small = [part for part in parts if part[0].islower()]
        return _JOINTS.issuperset(small) and (parts in self._pages or (not small and len(parts) < 4))

    def _at(self, said: _Said, at: int) -> Iterator[tuple[tuple[str, ...], int]]:
        """What a word begins or stands for, the longest first, and the place behind it."""
        path, node = [], self._root
        for word in said.words[at:]:
            if word not in node.below:
                break
            path.append(node := node.below[word])
        for length, node in sorted(enumerate(path, 1), key=lambda one: -one[0]):
            # "Water" at a sentence's beginning is no heading that is named
            if node.whole and (length > 1 or node.whole in self._pages or not said.begins[at]):
                yield node.whole, at + length
            elif not node.whole and node.count == 1 and self._is_name(node.one) and said.stands_alone(at, length):
                yield node.one, at + length
        ended = self._last.get(said.words[at], ())
        if len(ended) == 1 and len(ended[0]) > 1 and said.stands_alone(at, 1, ended[0]):
            yield ended[0], at + 1


class _Said:
    """The words of a passage, and how they stand."""

    def __init__(self, content: str):
        spans = list(_WORD.finditer(content))
        self.words = [span.group() for span in spans]
        gaps = [content[a.end() : b.start()] for a, b in pairwise(spans)]
        self.joined = [False, *(gap in (" ", "-", ".", ". ") for gap in gaps), False]  # with the word before
        self.begins = [True, *(bool(re.search(r"[.?!:;]\W*\s", gap)) for gap in gaps)]  # a sentence

    def stands_alone(self, at: int, length: int, parts: tuple[str, ...] = ()) -> bool:
        """Whether these words may stand for a name, and are no part of another one: neither "Queen Victoria" nor
        "Victoria Falls" is a lake. `parts`: words of the name, which may stand before."""
        word, end = self.words[at], at + length
        if len(word) < SHORTEST or not word[0].isupper() or (self.begins[at] and word.lower() in STOP_WORDS):
            return False
        if self.joined[end] and self.words[end][:1].isupper():
            return False
        before = self.words[at - 1] if at and self.joined[at] else ""
        known = before in parts or before in _STYLES or before.lower() in STOP_WORDS
        return known or not before[:1].isupper()


def _name(part: str) -> str:
    """A title without its article and what stands in brackets behind it."""
    return _IN_BRACKETS.sub("", _ARTICLE.sub("", part.strip()))
