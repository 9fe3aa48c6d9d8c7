"""Search: what every source of results looks like, and the two that need no network (replay and recording).

A cassette is a JSONL file with one search per line, in the order in which they were made:

    {"query": "height of the Eiffel tower", "results": [{"title": "...", "url": "...", "content": "..."}]}
    {"query": "something else", "error": "Tavily did not answer in time", "fatal": false}

Everything in a result is text from strangers. Nothing here interprets it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from ..engine.errors import LonghandError
from .redact import redact
from .words import words


@dataclass(frozen=True)
class SearchResult:
    """One found passage. `score` is the source's own (larger is better; not comparable between sources) or None.
    `links`: other pages of the source that the content names; `lacks`: what of the query it does not speak of."""

    title: str
    url: str
    content: str
    score: float | None = None
    links: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What the model and a cassette see: title, url, content, and links and lacks where there are any. The score is
        left out: it is not evidence. What a result lacks stands next to its title, where a small model looks for it."""
        fields: dict[str, Any] = {"title": self.title}
        fields |= {"lacks": list(self.lacks)} if self.lacks else {}
        fields |= {"url": self.url, "content": self.content}
        return fields | ({"links": list(self.links)} if self.links else {})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SearchResult:
        """The inverse of as_dict. KeyError: a field is missing; TypeError: one is not text, or links or lacks are no
        list of it."""
        title, url, content = fields["title"], fields["url"], fields["content"]
        links, lacks = fields.get("links", []), fields.get("lacks", [])
        lists = isinstance(links, list) and isinstance(lacks, list)
        if not lists or not all(isinstance(text, str) for text in (title, url, content, *links, *lacks)):
            raise TypeError("title, url, content, links and lacks are text")
        return cls(title, url, content, links=tuple(links), lacks=tuple(lacks))

    def redacted(self) -> SearchResult:
        """Without keys and tokens that a page may hold."""
        title, url, content = map(redact, (self.title, self.url, self.content))
        links, lacks = tuple(map(redact, self.links)), tuple(map(redact, self.lacks))
        return SearchResult(title, url, content, self.score, links, lacks)


class SearchError(LonghandError):
    """A search that failed, in one line fit for the model and the person.

    `fatal`: no search of this run can succeed (no key, key refused, quota used up), so the run must stop with exit
    code 2. Otherwise the message becomes a tool response and the run goes on.
    """

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(" ".join(message.split()))
        self.fatal = fatal


class Search(Protocol):
    """A source of results. `search` returns the best first, [] for none, and raises SearchError when it fails."""

    @property
    def name(self) -> str: ...

    def search(self, query: str) -> list[SearchResult]: ...


def search_within(search: Search, query: str, wider: str | None) -> list[SearchResult]:
    """A search with fewer words than one before it had, `wider`, if there was one. A source that tells what its results
    lack has its own `search_within(query, wider)` and tells what they lack of that: leaving a word out finds no more
    of what was asked."""
    within = getattr(search, "search_within", None)
    return search.search(query) if wider is None or within is None else within(query, wider)


def wider_query(query: str, before: Sequence[str]) -> str | None:
    """The first of the queries before this one that had all of its words, and others; None if none did."""
    asked = set(words(query))
    return next((other for other in before if asked < set(words(other))), None)


class ReplaySearch:
    """Answers from recorded searches; never touches the network.

    `source` is a cassette's path, or a dict from query to results (SearchResult, or {"title", "url", "content"}) or to
    a SearchError. Queries match when they are equal up to white space. A query that was recorded more than once is
    answered in the order of recording, and from then on with the last of them.

    Raises LonghandError for a cassette that is missing or malformed (naming the line). `search` raises the recorded
    SearchError, or one that names the query and the file when the query was not recorded: fatal for a cassette.
    """

    name = "replay"

    def __init__(
        self, source: str | Path | Mapping[str, Sequence[SearchResult | Mapping[str, Any]] | SearchError]
    ) -> None:
        self._takes: dict[str, list[list[SearchResult] | SearchError]] = {}
        self._played: dict[str, int] = {}
        self._recorded = not isinstance(source, Mapping)
        if isinstance(source, Mapping):
            self._where = "the given searches"
            for query, outcome in source.items():
                self._add(query, outcome)
        else:
            self._where = str(source)
            self._load(Path(source))

    def search(self, query: str) -> list[SearchResult]:
        key = normalised(query)
        takes = self._takes.get(key)
        if takes is None:
            # Going on would be another run than the one that was recorded. Searches that were given as a dict are a
            # test's or a benchmark's, and an unknown one fails like any other.
            raise SearchError(f'no search for "{key}" was recorded in {self._where}', fatal=self._recorded)
        played = self._played.get(key, 0)
        self._played[key] = played + 1
        outcome = takes[min(played, len(takes) - 1)]
        if isinstance(outcome, SearchError):
            raise SearchError(str(outcome), fatal=outcome.fatal)  # a fresh one: an exception carries its traceback
        return list(outcome)

    def _add(self, query: str, outcome: Sequence[SearchResult | Mapping[str, Any]] | SearchError) -> None:
        takes = self._takes.setdefault(normalised(query), [])
        if isinstance(outcome, SearchError):
            takes.append(outcome)
        else:
            takes.append([one if isinstance(one, SearchResult) else SearchResult.from_dict(one) for one in outcome])

    def _load(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: U+2028 may stand inside a string
        except (OSError, UnicodeDecodeError) as error:
            raise LonghandError(f"cannot read the recorded searches in {path}: {_reason(error)}") from None
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    query, outcome = _parse_take(json.loads(line))
                    self._add(query, outcome)
                except (ValueError, TypeError, KeyError, RecursionError):
                    wanted = '{"query": ..., "results": [{"title", "url", "content"}]} or {"query": ..., "error": ...}'
                    raise LonghandError(f"{path}, line {number} is not a recorded search; it wants {wanted}") from None


class RecordingSearch:
    """Passes each search on to `inner` and appends what came of it, results or error, to a cassette.

    One JSON line per search, flushed at once, so that an interrupted run leaves a cassette that can be replayed.
    Raises LonghandError when the file cannot be opened or written.
    """

    def __init__(self, inner: Search, path: str | Path) -> None:
        self._inner = inner
        self._path = Path(path)
        try:
            self._file: TextIO = self._path.open("a", encoding="utf-8")
            if self._path.stat().st_size:
                with self._path.open("rb") as before:
                    before.seek(-1, os.SEEK_END)
                    if before.read() != b"\n":  # its last line was torn, or written by hand
                        self._file.write("\n")
        except OSError as error:
            raise LonghandError(f"cannot record searches to {path}: {_reason(error)}") from None

    @property
    def name(self) -> str:
        return self._inner.name

    def search(self, query: str) -> list[SearchResult]:
        return self.search_within(query, None)

    def search_within(self, query: str, wider: str | None) -> list[SearchResult]:
        try:
            results = search_within(self._inner, query, wider)
        except SearchError as error:
            self._write({"query": query, "error": str(error), "fatal": error.fatal})
            raise
        self._write({"query": query, "results": [result.as_dict() for result in results]})
        return results

    def close(self) -> None:
        """Closes the cassette; harmless when done twice."""
        self._file.close()

    def _write(self, take: dict[str, Any]) -> None:
        try:
            # ASCII escapes: web text may hold lone surrogates, which UTF-8 cannot carry
            self._file.write(redact(json.dumps(take)) + "\n")
            self._file.flush()
        except (OSError, ValueError) as error:
            raise LonghandError(f"cannot record searches to {self._path}: {_reason(error)}") from None


def normalised(query: str) -> str:
    """A query up to white space."""
    return " ".join(query.split())


def _parse_take(take: Any) -> tuple[str, list[SearchResult] | SearchError]:
    """Raises TypeError or KeyError for anything that is not one recorded search."""
    if not isinstance(take, dict) or not isinstance(take["query"], str):
        raise TypeError("not a recorded search")
    if "error" in take:
        if not isinstance(take["error"], str):
            raise TypeError("error is a string")
        return take["query"], SearchError(take["error"], fatal=take.get("fatal") is True)
    if not isinstance(take["results"], list):
        raise TypeError("results is a list")
    return take["query"], [SearchResult.from_dict(result) for result in take["results"]]


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8 text"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
