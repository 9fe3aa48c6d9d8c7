"""DocsSearch: searching a folder of documents offline, through an SQLite FTS5 index that is kept in a cache folder."""

from __future__ import annotations

import math
import os
import re
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from ..engine.errors import LonghandError
from .docs_index import WAY_OUT, Progress, build_index, cache_folder, digest, open_index, read_documents
from .gaps import lacks
from .links import Links
from .query import STOP_WORDS, Query
from .search import SearchError, SearchResult
from .sentences import coverage, own_title, rank_sentences, split_sentences, subject, weigh
from .spelling import close_to_any, mended
from .words import stem, synonyms, words

CANDIDATES = 30  # passages that bm25 hands to the ranking by sentences
BM25_WEIGHT = 0.5  # of the best bm25, where the best sentence's overlap is worth 1
COVERAGE_WEIGHT = 0.25  # of a passage that holds all words of the query
NO_NUMBER = 0.3  # that is lost where a number is wanted and the best sentence holds none
SECOND_SENTENCE = 0.75  # share of the best sentence's score from which the second one comes along
WORTH_SHOWING = 0.7  # share of the best result's score below which one is left out: hardly any of those answers
MAX_TERMS = 64  # of one query; FTS5 compiles each into its expression

_NAME = re.compile(r"(?<=\S\s)[^\W\d_a-z][\w'’\ufffd-]*")  # a capital that begins no query


@dataclass(frozen=True)
class _Candidate:
    name: str
    number: int
    title: str
    trail: str
    text: str
    bm25: float  # larger is better


class DocsSearch:
    """Finds the passages of a folder's documents that answer a query; a result's content is their best sentences,
    its links are the other pages that those name, and it lacks what of the query they do not speak of. What is worth
    much less than the best one is left out.

    Documents are the folder's .md, .markdown, .txt, .html and .htm files at any depth; names that begin with a dot are
    skipped. A result's url is "relative/path.md#n", the n-th passage of that file, from 1. Results are deterministic.

    The index is built once per content and kept in `cache_dir`, else $LONGHAND_CACHE, else $XDG_CACHE_HOME/longhand,
    else ~/.cache/longhand. The folder itself is only read. `progress(done, total)` is called per file while building.

    Raises LonghandError: folder missing, not a folder or without documents; a file that is unreadable or above 20 MB;
    a cache folder that cannot be written.
    """

    name = "docs"

    def __init__(
        self,
        folder: str | os.PathLike[str],
        max_results: int = 3,
        cache_dir: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        if max_results < 1:
            raise LonghandError(f"max_results is {max_results}: at least 1 result is wanted")
        self.folder = Path(folder)
        self.max_results = max_results
        self._cache = cache_folder(cache_dir) / "docs"
        documents = read_documents(self.folder)
        self._path = self._cache / f"{digest(documents)}.sqlite"
        opened = open_index(self._path)
        if opened is None:
            build_index(self._path, documents, progress)
            opened = open_index(self._path)
            if opened is None:
                raise LonghandError(f"the index {self._path} cannot be read back; {WAY_OUT}")
        self._index, self._titles = opened
        self._links = Links(self._titles)
        self.passages: int = self._index.execute("SELECT count(*) FROM passages").fetchone()[0]

    def search(self, query: str) -> list[SearchResult]:
        """The best passages for any text, best first, at most `max_results`; [] when no word of it occurs, and when a
        name in it occurs nowhere: what other rivers are long does not answer how long the Danube is. Where a page's
        whole title is in it, a strange name does not matter: the page may say it in other words."""
        return self.search_within(query, None)

    def search_within(self, query: str, wider: str | None) -> list[SearchResult]:
        """The same, after a search for all of its words and others, `wider`: what the results lack of that is told."""
        query = query.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
        try:
            query = mended(query, lambda word: self._count(word) > 0)
            asked = Query.parse(query)
            terms = asked.terms[:MAX_TERMS]
            strange = any(not self._knows(name) for name in _names(query)[:MAX_TERMS])
            if not terms or (strange and not self._has_page(asked)):
                return []
            candidates = self._candidates(terms)
            idf = self._idf(asked, terms)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise SearchError(
                f"the index of {self.folder} failed ({error}); delete {self._path} to rebuild it"
            ) from None
        found = _pick(asked, idf, candidates)[: self.max_results]
        asked_for = query if wider is None else wider
        return [
            replace(one, links=self._links.named_in(one.content, one.title), lacks=lacks(asked_for, one))
            for one in found
        ]

    def close(self) -> None:
        """Closes the index; harmless when done twice."""
        self._index.close()

    def _candidates(self, terms: tuple[str, ...]) -> list[_Candidate]:
        rows = self._index.execute(
            "SELECT name, number, title, trail, body, -bm25(passages, 0, 0, 0, 0, 0, 2.5, 1.0) AS score FROM passages "
            "WHERE passages MATCH ? ORDER BY score DESC, name, number LIMIT ?",
            (" OR ".join(map(_quoted, terms)), CANDIDATES),
        )
        return [_Candidate(*row) for row in rows]

    def _count(self, term: str) -> int:
        """How many passages hold the term."""
        found = self._index.execute("SELECT count(*) FROM passages WHERE passages MATCH ?", (_quoted(term),))
        return int(found.fetchone()[0])

    def _knows(self, name: str) -> bool:
        """Whether a part of the name occurs, or a word that it may be a slip of; a name with a broken letter may."""
        parts = [part for part in words(name) if len(part) > 1]  # initials stand for names that may be written out
        spelt = [other for part in parts for other in (part, *synonyms(part))]
        if not parts or "\ufffd" in name or any(map(self._count, spelt)):
            return True
        spellings = "SELECT term FROM vocabulary WHERE term >= ? AND term < ?"
        for part in parts:
            terms = self._index.execute(spellings, (part[:1], part[:1] + "\U0010ffff"))
            known = [term for (term,) in terms]  # without their endings, as FTS5's stemmer leaves them
            if close_to_any(part, known) or close_to_any(stem(part), known):
                return True
        return False

    def _has_page(self, asked: Query) -> bool:
        """Whether all words of a document's title are in the query."""
        subjects = filter(None, map(subject, self._titles))
        return any(about.issubset(asked.stems) for about in subjects)

    def _idf(self, asked: Query, terms: tuple[str, ...]) -> dict[str, float]:
        """Per stem of the query: log(1 + (N - n + 0.5) / (n + 0.5)), n of N passages holding the term (BM25's idf)."""
        idf = dict.fromkeys(asked.stems, 0.0)
        for term, stemmed in zip(terms, asked.stems, strict=False):  # the stems of the first MAX_TERMS
            n = self._count(term)
            idf[stemmed] = max(idf[stemmed], math.log(1 + (self.passages - n + 0.5) / (n + 0.5)))
        return idf


# --- picking ----------------------------------------------------------------------------------------------------


def _pick(asked: Query, idf: dict[str, float], candidates: list[_Candidate]) -> list[SearchResult]:
    """Ranks passages by bm25, by how much of the query they cover, and by the best sentence that they offer."""
    weights = weigh(asked, idf)
    most = max((candidate.bm25 for candidate in candidates), default=1.0) or 1.0
    scored: list[tuple[float, str, int, SearchResult]] = []
    for candidate in candidates:
        ranked = rank_sentences(asked, weights, candidate.title, split_sentences(candidate.text), candidate.number == 1)
        covered = coverage(weights, f"{candidate.trail}\n{candidate.text}")
        score = BM25_WEIGHT * candidate.bm25 / most + COVERAGE_WEIGHT * covered + ranked[0].score
        score += own_title(asked, candidate.title)
        if "number" in asked.wants or asked.measured:
            score -= NO_NUMBER * (not ranked[0].fit)
        content = " ".join(r.sentence for r in ranked[:2] if r.score >= SECOND_SENTENCE * ranked[0].score)
        result = SearchResult(candidate.title, f"{candidate.name}#{candidate.number}", content, round(score, 6))
        scored.append((-score, candidate.name, candidate.number, result))
    scored.sort(key=lambda entry: entry[:3])
    best = -scored[0][0] if scored else 0.0
    least = min(best, WORTH_SHOWING * best)  # numbers that are wanted and missing may take a score below 0
    return [result for negative, *_, result in scored if -negative >= least]


def _names(query: str) -> list[str]:
    """The words with a capital that begin no query; none where all words have one, as in a heading or a shout."""
    names = [name for name in _NAME.findall(query) if name[0].isupper() and not re.match(r"I['’]", name)]
    shouted = query.isupper() and len(query.split()) > 2
    return [] if shouted or any(name.lower() in STOP_WORDS for name in names if len(name) > 1) else names


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'
