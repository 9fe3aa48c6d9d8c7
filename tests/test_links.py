"""Links: which pages of a folder a passage names."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent.docs import DocsSearch
from longhand.agent.links import MOST, Links

LINKS = Links([
    "Georges Bizet", "Georges Bizet: A prodigy", "Georges Bizet: Water", "Lake Victoria", "The Vltava",
    "Mercury (planet)",
    "Edward I of England", "Neuschwanstein Castle", "Silkworms", "People: Grace Hopper", "Harbour: The ship",
    "Michelangelo: Fame in Rome", "Cologne", "Cologne Cathedral", "Karl Brandt", "Emil Brandt", "llama.cpp",
])  # fmt: skip


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("Carmen is an opera by Georges Bizet.", ["Georges Bizet"]),
        ("Carmen is not by Bizet at all.", ["Georges Bizet"]),
        ("It flows into the Vltava near Tarn.", ["Vltava"]),
        ("He saw Mercury at noon.", ["Mercury"]),
        ("The castle was built for Edward I, who was away.", ["Edward I of England"]),
        ("His debts for Neuschwanstein grew.", ["Neuschwanstein Castle"]),
        ("He bred silkworms and met Grace Hopper.", ["Grace Hopper", "Silkworms"]),  # lower case comes last
        ("The chip is called Hopper; Captain Hopper laughed.", ["Grace Hopper"]),
        ("The town of Cologne is proud of Cologne Cathedral.", ["Cologne", "Cologne Cathedral"]),
        ("It runs on llama.cpp.", ["llama.cpp"]),
        ("Brandt wrote it.", []),  # which of two
        ("Queen Victoria saw the Victoria Falls.", []),  # other things
        ("Water is wet, and a ship is no heading.", []),
        ("He went to Rome, and Fame followed.", []),
        ("His Fame in Rome was great.", ["Fame in Rome"]),
        ("It was an edward.", []),
        ("", []),
    ],
)
def test_what_a_passage_names(content, names):
    assert LINKS.named_in(content, "Carmen") == tuple(names)


def test_a_passage_does_not_lead_to_itself():
    said = "Georges Bizet met Grace Hopper."
    assert LINKS.named_in(said, "Georges Bizet: A prodigy") == ("Grace Hopper",)
    assert LINKS.named_in(said, "People: Grace Hopper") == ("Georges Bizet",)
    assert LINKS.named_in("Cologne has a river.", "Cologne Cathedral") == ("Cologne",)


def test_no_more_than_a_few():
    names = [f"Oro{chr(97 + i)} Velm" for i in range(9)]
    assert Links(names).named_in(" and ".join(names), "X") == tuple(names[:MOST])


@given(st.lists(st.text(max_size=20), max_size=8), st.text(max_size=60), st.text(max_size=12))
def test_any_text_is_fine(titles, content, title):
    found = Links(titles).named_in(content, title)
    assert len(set(found)) == len(found) <= MOST
    assert all(any(name in one for one in titles) for name in found)


def test_a_search_hands_them_on(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "bridge.md").write_text("# Velm Bridge\n\nThe Velm Bridge was designed by Ida Rom.\n")
    (folder / "rom.md").write_text("# Ida Rom\n\nIda Rom was born in Tarn.\n")
    search = DocsSearch(folder, cache_dir=tmp_path / "cache")
    (bridge, *_) = search.search("designer of the Velm Bridge")
    assert bridge.links == ("Ida Rom",)
    assert bridge.as_dict()["links"] == ["Ida Rom"]
    (rom, *_) = search.search("Where was Ida Rom born?")
    assert rom.links == ()
    assert "links" not in rom.as_dict()


def test_many_titles_and_many_words_take_no_long_time():
    links = Links([f"Chapter {n}: The harbour of Velm {n}" for n in range(20000)])
    started = time.process_time()
    assert links.named_in("Chapter and harbour " * 200, "X") == ()
    assert links.named_in("As Chapter 77 says", "X") == ("Chapter 77",)
    assert time.process_time() - started < 10
