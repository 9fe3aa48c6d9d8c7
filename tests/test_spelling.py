"""Spelling: slips in queries that can hardly be anything else, and names that may be slips of known ones."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from longhand.agent.docs import DocsSearch
from longhand.agent.query import STOP_WORDS
from longhand.agent.spelling import close_to_any, mended
from longhand.agent.words import synonyms

KNOWN = {"parrot", "married", "bridge", "harbour"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("teh parot on wich bridge", "the parrot on which bridge"),
        ("whne was he maried", "when was he married"),
        ("a bridgge", "a bridge"),
        ("hen and hat", "hen and hat"),  # a stop word does not lose its first letter
        ("bride harbor", "bride harbor"),  # words of their own
        ("Teh Parot", "Teh Parot"),  # names stay as they are
    ],
)
def test_slips_are_mended(typed, meant):
    assert mended(typed, KNOWN.__contains__) == meant


@given(st.text())
def test_what_occurs_is_never_changed(text):
    assert mended(text, lambda word: True) == text


@given(st.text(alphabet="abcdefgh ", max_size=40))
@example("fed feeed")
def test_only_words_that_are_known_are_put_in(text):
    known = {"bad", "bead", "deaf"}
    before, after = text.split(), mended(text, known.__contains__).split()
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert new == old or new in known or new in STOP_WORDS or synonyms(new)


def test_a_form_of_a_known_word_is_no_slip():
    assert mended("what fed them, eatten by", lambda word: False) == "what fed them, eatten by"


def test_a_name_with_a_slip_is_close():
    assert close_to_any("shackelton", ["shackleton", "bounty"])
    assert not close_to_any("danube", ["rhine", "elbe", "duke"])


def test_a_slip_is_searched_for_as_what_it_was_meant(tmp_path):
    (tmp_path / "ship.md").write_text("# Ship\n\nThe ship had two masts. A parrot sat on the first of them.\n")
    (tmp_path / "house.md").write_text("# House\n\nThe house had a door. It was sat upon by nobody.\n")
    found = DocsSearch(tmp_path, cache_dir=tmp_path / "cache").search("where sat teh parot")
    assert found[0].content.startswith("A parrot sat")
