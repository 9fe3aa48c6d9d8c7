"""The index of a folder's documents: which files it reads, and the SQLite FTS5 file that it keeps of their passages."""

from __future__ import annotations

import hashlib
import os
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
from .words import search_text

INDEX_VERSION = 3  # part of an index's name: raise it when the reading or the spelling of passages changes
MAX_FILE_BYTES = 20_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Document:
    name: str  # relative to the folder, with "/"
    data: bytes


# --- reading ----------------------------------------------------------------------------------------------------


def read_documents(folder: Path) -> list[Document]:
    """The documents below a folder, by name. LonghandError: it is none, holds none, or one cannot be read."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise LonghandError(
            f"the documents folder {folder} {what}; name a folder that holds {', '.join(SUFFIXES)} files"
        )
    documents = [Document(_shown(path.relative_to(folder)), _read(path)) for path in _document_paths(folder)]
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

WAY_OUT = "set LONGHAND_CACHE to a folder that can be written"


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Where things are kept that can be made again: as given, else $LONGHAND_CACHE, else the user's cache."""
    if given is not None:
        return Path(given)
    if os.environ.get("LONGHAND_CACHE"):
        return Path(os.environ["LONGHAND_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base) / "longhand" if base else Path(os.path.expanduser("~")) / ".cache" / "longhand"


def digest(documents: list[Document]) -> str:
    """What tells these documents from all others: the index of equal ones is built once."""
    hashed = hashlib.sha256(f"longhand docs index {INDEX_VERSION}".encode())
    for document in documents:
        for part in (document.name.encode(), document.data):
            hashed.update(len(part).to_bytes(8, "little") + part)  # lengths: no two lists share one spelling
    return hashed.hexdigest()


def open_index(path: Path) -> tuple[sqlite3.Connection, list[str]] | None:
    """The index at `path`, read-only, and its passages' titles; None when there is none or it is damaged."""
    if not path.is_file():
        return None
    connection = None
    try:
        uri = f"file:{quote(os.fsencode(path.absolute()))}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        sound = connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
        if sound and connection.execute("PRAGMA user_version").fetchone()[0] == INDEX_VERSION:
            connection.execute("SELECT count(*) FROM passages WHERE passages MATCH 'a'").fetchone()
            connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, passages, row)")
            return connection, [title for (title,) in connection.execute("SELECT DISTINCT title FROM passages")]
    except (sqlite3.Error, UnicodeDecodeError):
        pass
    if connection is not None:
        connection.close()
    return None


def build_index(path: Path, documents: list[Document], progress: Progress | None) -> None:
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
        raise LonghandError(f"cannot write the index of the documents to {path.parent}: {reason}; {WAY_OUT}") from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _fill_index(connection: sqlite3.Connection, documents: list[Document], progress: Progress | None) -> None:
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
