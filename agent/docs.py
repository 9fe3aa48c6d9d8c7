"""DocsSearch: searching a folder of documents offline, through an SQLite FTS5 index that is kept in a cache folder."""

from __future__ import annotations

import hashlib
import math
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..engine.errors import LonghandError
from .blocks import SUFFIXES
from .passages import read_passages
from .query import STOP_WORDS, Query
from .search import SearchError, SearchResult
from .sentences import coverage, rank_sentences, split_sentences, weigh
from .spelling import close_to_any, mended
from .words import search_text, stem, synonyms, words

INDEX_VERSION = 1  # part of an index's name: raise it when the reading or the spelling of passages changes
MAX_FILE_BYTES = 20_000_000
CANDIDATES = 30  # passages that bm25 hands to the ranking by sentences
BM25_WEIGHT = 0.5  # of the best bm25, where the best sentence's overlap is worth 1
COVERAGE_WEIGHT = 0.25  # of a passage that holds all words of the query
OWN_PAGE = 0.6  # of a page whose title has a word of the query
OWN_TITLE = 0.4  # of a page whose title has no other words
NO_NUMBER = 0.3  # that is lost where a number is wanted and the best sentence holds none
SECOND_SENTENCE = 0.7  # share of the best sentence's score from which the second one comes along
MAX_TERMS = 64  # of one query; FTS5 compiles each into its expression

_NAME = re.compile(r"(?<=\S\s)[^\W\d_a-z][\w'’\ufffd-]*")  # a capital that begins no query
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Document:
    name: str  # relative to the folder, with "/"
    data: bytes


@dataclass(frozen=True)
class _Candidate:
    name: str
    number: int
    title: str
    trail: str
    text: str
    bm25: float  # larger is better


class DocsSearch:
    """Finds the passages of a folder's documents that answer a query; a result's content is their best sentences.

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
        documents = _read_documents(self.folder)
        self._path = self._cache / f"{_digest(documents)}.sqlite"
        connection = _open_index(self._path)
        if connection is None:
            _build_index(self._path, documents, progress)
            connection = _open_index(self._path)
            if connection is None:
                raise LonghandError(f"the index {self._path} cannot be read back; {_WAY_OUT}")
        self._index = connection
        self.passages: int = self._index.execute("SELECT count(*) FROM passages").fetchone()[0]

    def search(self, query: str) -> list[SearchResult]:
        """The best passages for any text, best first, at most `max_results`; [] when no word of it occurs, and when a
        name in it occurs nowhere: what other rivers are long does not answer how long the Danube is."""
        query = query.encode("utf-8", "replace").decode("utf-8").replace("\0", " ")
        try:
            query = mended(query, lambda word: self._count(word) > 0)
            asked = Query.parse(query)
            terms = asked.terms[:MAX_TERMS]
            if not terms or any(not self._knows(name) for name in _NAME.findall(query)[:MAX_TERMS]):
                return []
            candidates = self._candidates(terms)
            idf = self._idf(asked, terms)
        except sqlite3.Error as error:
            raise SearchError(
                f"the index of {self.folder} failed ({error}); delete {self._path} to rebuild it"
            ) from None
        return _pick(asked, idf, candidates)[: self.max_results]

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
            if close_to_any(part, (term for (term,) in terms)):
                return True
        return False

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
        named = {stem(word) for word in words(candidate.title.partition(":")[0]) if word not in STOP_WORDS}
        if asked_for := named.intersection(asked.stems):
            score += OWN_PAGE + OWN_TITLE * len(asked_for) / len(named)
        if "number" in asked.wants or asked.measured:
            score -= NO_NUMBER * (not ranked[0].fit)
        content = " ".join(r.sentence for r in ranked[:2] if r.score >= SECOND_SENTENCE * ranked[0].score)
        result = SearchResult(candidate.title, f"{candidate.name}#{candidate.number}", content, round(score, 6))
        scored.append((-score, candidate.name, candidate.number, result))
    return [result for *_, result in sorted(scored, key=lambda entry: entry[:3])]


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


# --- reading ----------------------------------------------------------------------------------------------------


def _read_documents(folder: Path) -> list[_Document]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise LonghandError(
            f"the documents folder {folder} {what}; name a folder that holds {', '.join(SUFFIXES)} files"
        )
    documents = [_Document(_shown(path.relative_to(folder)), _read(path)) for path in _document_paths(folder)]
    if not documents:
        raise LonghandError(f"the documents folder {folder} holds no documents ({', '.join(SUFFIXES)} files)")
    return sorted(documents, key=lambda document: document.name)


def _document_paths(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise LonghandError(f"cannot read the documents folder {error.filename}: {error.strerror}") from None

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise LonghandError(
                f"{path} is {size / 1e6:.0f} MB; documents above 20 MB are not indexed: split or remove it"
            )
        return path.read_bytes()
    except OSError as error:
        raise LonghandError(f"cannot read {path}: {error.strerror}") from None


def _shown(path: Path) -> str:
    """A relative path as text; bytes that are not UTF-8 show as replacement characters."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


# --- the index --------------------------------------------------------------------------------------------------

_WAY_OUT = "set LONGHAND_CACHE to a folder that can be written"


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Where things are kept that can be made again: as given, else $LONGHAND_CACHE, else the user's cache."""
    if given is not None:
        return Path(given)
    if os.environ.get("LONGHAND_CACHE"):
        return Path(os.environ["LONGHAND_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / "longhand" if base else Path(os.path.expanduser("~")) / ".cache" / "longhand"


def _digest(documents: list[_Document]) -> str:
    digest = hashlib.sha256(f"longhand docs index {INDEX_VERSION}".encode())
    for document in documents:
        for part in (document.name.encode(), document.data):
            digest.update(len(part).to_bytes(8, "little") + part)  # lengths: no two lists share one spelling
    return digest.hexdigest()


def _open_index(path: Path) -> sqlite3.Connection | None:
    """The index at `path`, read-only; None when there is none or it is damaged."""
    if not path.is_file():
        return None
    connection = None
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        sound = connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
        if sound and connection.execute("PRAGMA user_version").fetchone()[0] == INDEX_VERSION:
            connection.execute("SELECT count(*) FROM passages WHERE passages MATCH 'a'").fetchone()
            connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, passages, row)")
            return connection
    except sqlite3.Error:
        pass
    if connection is not None:
        connection.close()
    return None


def _build_index(path: Path, documents: list[_Document], progress: Progress | None) -> None:
    """Builds beside `path` under another name and moves it there: nobody ever opens half an index."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        with closing(sqlite3.connect(temporary)) as connection:
            _fill_index(connection, documents, progress)
        os.replace(temporary, path)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LonghandError(f"cannot write the index of the documents to {path.parent}: {reason}; {_WAY_OUT}") from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _fill_index(connection: sqlite3.Connection, documents: list[_Document], progress: Progress | None) -> None:
    connection.execute("PRAGMA journal_mode = OFF")  # a half-built file is thrown away, not mended
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(
        "CREATE VIRTUAL TABLE passages USING fts5(name UNINDEXED, number UNINDEXED, title UNINDEXED, trail UNINDEXED, "
        "body UNINDEXED, title_words, body_words, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
    for done, document in enumerate(documents, start=1):
        text = document.data.decode("utf-8", "replace")
        connection.executemany(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    document.name,
                    p.number,
                    p.title,
                    p.trail,
                    p.text,
                    search_text(p.trail),
                    search_text(p.text),
                )
                for p in read_passages(text, document.name.rpartition("/")[2])
            ],
        )
        if progress is not None:
            progress(done, len(documents))
    connection.execute("INSERT INTO passages(passages) VALUES ('optimize')")
    connection.execute(f"PRAGMA user_version = {INDEX_VERSION}")
    connection.commit()
