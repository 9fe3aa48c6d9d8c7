"""The table of word vectors, what is near in it, and a search that finds what other words say."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from longhand.agent import meaning
from longhand.agent.docs import DocsSearch
from longhand.agent.words import stem
from safetensors.numpy import load_file

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "word_vectors.py"


def near(asked, *said):
    return meaning.nearness(stem(asked), meaning.known(map(stem, said)))


def test_the_table_is_as_it_says():
    file = load_file(meaning.TABLE)
    stems, vectors = file["stems"].tobytes().decode("ascii").split("\n"), file["vectors"]
    assert vectors.shape == (9_000, 64)
    assert vectors.dtype == np.int8
    assert len(set(stems)) == 9_000
    assert all(vectors.any(1))
    assert not {stem(word) for word in ("paris", "seven", "october", "1912")}.intersection(stems)
    assert meaning.TABLE.stat().st_size < 700_000


@pytest.mark.parametrize(("word", "other", "far"), [
    ("price", "cost", "river"), ("reject", "refuse", "garden"), ("lawyer", "attorney", "mountain"),
    ("ship", "vessel", "poem"), ("illness", "disease", "bridge"),
])  # fmt: skip
def test_near_words_are_near(word, other, far):
    assert near(word, other) > 0.5 > near(word, far)
    assert near(word, other, far) == near(word, other) == pytest.approx(near(other, word))
    assert near(word, word) == 1


def test_what_the_table_lacks_is_far():
    assert near("price") == near("Zzyzx", "price") == near("price", "Zzyzx") == 0
    assert meaning.direction({"zzyzx": 1.0}) is meaning.direction({}) is meaning.direction({stem("price"): 0.0}) is None
    assert meaning.agreement(None, meaning.known([stem("price")])) == 0
    assert meaning.agreement(meaning.direction({stem("price"): 1.0}), []) == 0


def test_a_text_points_where_its_words_do():
    way = meaning.direction({stem("price"): 2.0, stem("ticket"): 1.0})
    said = [meaning.known(map(stem, text.split())) for text in ("cost fare", "cost fare river bank", "river bank")]
    first, mixed, last = (meaning.agreement(way, rows) for rows in said)
    assert first > mixed > last
    assert meaning.agreement(way, said[0] * 2) == pytest.approx(first, abs=1e-3)  # its length does not matter


def test_the_search_finds_what_other_words_say(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "boris.md").write_text(
        "# Boris Godunov\n\nHis opera was finished in the autumn. Boris Godunov was turned down because it lacked a "
        "part for a woman. The costumes were sewn in Paris. Boris Godunov was sung again in 1874.\n", "utf-8",
    )  # fmt: skip
    (docs / "mill.md").write_text("# The mill\n\nThe wheel of the mill is made of oak.\n", "utf-8")
    search = DocsSearch(docs, cache_dir=tmp_path)
    found = {
        "Why was Boris Godunov rejected?": "turned down",
        "Which city were the clothes for Boris Godunov made in?": "costumes",
        "What timber is the mill wheel cut from?": "oak",
    }
    for question, answer in found.items():
        assert answer in search.search(question)[0].content


def test_the_script_writes_a_table(tmp_path, monkeypatch, capsys):
    words = ["the", "7", "house", "Houses", "seven", "paris", "homes", "zz"]
    vectors = {word: [float(place == i) for i in range(102)] for place, word in enumerate(words)}
    given = {"dimensions": 100, "words": words, "vectors": vectors}
    (tmp_path / "v.json").write_text(json.dumps(given), "utf-8")
    (tmp_path / "w.dic").write_text("6\nthe\nhouse/S\nhome/S\nseven\nParis\nzz/x\n", "utf-8")
    out = tmp_path / "t.safetensors"
    monkeypatch.setattr(sys, "argv", ["word_vectors.py", str(tmp_path / "v.json"), str(tmp_path / "w.dic"), "--out",
                                      str(out)])  # fmt: skip
    runpy.run_path(str(SCRIPT), run_name="__main__")
    file = load_file(out)
    assert file["stems"].tobytes().decode("ascii").split() == [stem(word) for word in ("the", "house", "home", "zz")]
    assert file["vectors"].shape[0] == 4
    assert "4 stems" in capsys.readouterr().out
