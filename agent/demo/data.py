"""Data files: samples in the lines that `longhand trace export --sft` writes, {"input_ids": [...], "labels": [...]},
checked before anything is trained, and read again line by line while training goes on.

Checked are the form, the lengths, that each id is one of the tokenizer's, and that a label is its id or -100. That the
ids were made with this very tokenizer cannot be told from them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ...engine.errors import LonghandError
from ...engine.tokenizer import Tokenizer
from .. import prompt
from ..trace_export import IGNORED
from .pages import Prose
from .samples import Sampler

Row = tuple[list[int], list[int]]  # input_ids and labels
KEYS = {"input_ids", "labels"}


@dataclass(frozen=True)
class DataFile:
    """A file that was checked: where its lines begin (and the last one ends), and the hash of its bytes."""

    path: Path
    offsets: array[int]
    sha256: str

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Data:
    """The rows of some files, in order. Lines are read when they are asked for: a million of them take 8 MB."""

    files: tuple[DataFile, ...]

    def __len__(self) -> int:
        return sum(map(len, self.files))

    def rows(self, indices: Iterable[int]) -> list[Row]:
        """The rows with these numbers. LonghandError if a file is no longer what was checked."""
        found = []
        for index in indices:
            file, line = self._place(index)
            begin, end = file.offsets[line], file.offsets[line + 1]
            try:
                with file.path.open("rb") as stream:
                    stream.seek(begin)
                    raw = json.loads(stream.read(end - begin))
                found.append((raw["input_ids"], raw["labels"]))
            except (OSError, ValueError, KeyError, TypeError):
                raise LonghandError(f"{file.path}: line {line + 1} is not what it was when training began") from None
        return found

    def _place(self, index: int) -> tuple[DataFile, int]:
        for file in self.files:
            if index < len(file):
                return file, index
            index -= len(file)
        raise IndexError


def read_data(paths: Iterable[Path], tokenizer: Tokenizer, longest: int) -> Data:
    """Check every line of some files. `longest`: ids that a row may have. LonghandError names file and line."""
    known = frozenset(tokenizer.defined)
    return Data(tuple(_read_file(path, known, longest) for path in paths))


def _read_file(path: Path, known: frozenset[int], longest: int) -> DataFile:
    offsets, digest = array("q", [0]), hashlib.sha256()
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                digest.update(line)
                offsets.append(offsets[-1] + len(line))
                if wrong := _fault(line, known, longest):
                    raise LonghandError(f"{path}: line {number} {wrong}")
    except OSError as error:
        raise LonghandError(f"{path}: cannot be read ({error.strerror})") from None
    if len(offsets) == 1:
        raise LonghandError(f"{path}: holds no sample; `longhand trace export --sft` or --write-data writes some")
    return DataFile(path, offsets, digest.hexdigest())


def _fault(line: bytes, known: frozenset[int], longest: int) -> str:
    """What is wrong with a line, or nothing."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        return "is not JSON"
    if not isinstance(raw, dict) or set(raw) != KEYS or not all(isinstance(value, list) for value in raw.values()):
        return "is not an object of two lists, input_ids and labels"
    ids, labels = raw["input_ids"], raw["labels"]
    if len(ids) != len(labels):
        return f"has {len(ids)} input_ids and {len(labels)} labels"
    if not set(map(type, [*ids, *labels])) <= {int}:
        return "holds something that is not a whole number"
    if len(ids) > longest:
        return f"has {len(ids)} ids; the model's context is {longest}"
    if not known.issuperset(ids):
        unknown = next(token_id for token_id in ids if token_id not in known)
        return f"has id {unknown}, which the tokenizer does not define"
    if any(label not in (token_id, IGNORED) for token_id, label in zip(ids, labels, strict=True)):
        return f"has a label that is neither its own id nor {IGNORED}"
    if all(label == IGNORED for label in labels[1:]):
        return "has no label to learn from (the first one has nothing before it)"
    return ""


def random_opening(tokenizer: Tokenizer, rng: random.Random) -> list[int]:
    """The ids before a question: the template of some day and limit."""
    day = date(rng.randint(2024, 2032), rng.randint(1, 12), rng.randint(1, 28))
    return prompt.opening_ids(tokenizer, day, rng.randint(1, 9))


def write_data(
    path: Path, count: int, tokenizer: Tokenizer, prose: Prose, seed: int, report: Callable[[int], None]
) -> None:
    """Write generated runs, each behind a whole template of its own. The file bears its name when it is whole."""
    sampler, rng = Sampler(seed, prose), random.Random(f"{seed}/openings")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for number in range(1, count + 1):
                ids, labels = sampler.sample().encode(tokenizer, random_opening(tokenizer, rng))
                file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
                report(number)
        partial.replace(path)
    except OSError as error:
        raise LonghandError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):
            partial.unlink()
