"""What a result tells that it lacks of its query."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent.docs import DocsSearch
from longhand.agent.gaps import MOST_LACKED, lacks
from longhand.agent.looks import LOOKS, UNITS
from longhand.agent.search import SearchResult

KINDS = {*LOOKS, *UNITS, "number"}


@pytest.mark.parametrize(
    ("query", "title", "content", "lacked"),
    [
        ("Who mother Ada Lovelace", "Ada Lovelace", "She was a mathematician, taught by Mary Somerville.", ("mother",)),
        ("Who was the mother of Ada Lovelace?", "Ada Lovelace", "Her mother, Anne Milbanke, left him.", ()),
        ("When Velm Bridge opened", "Ostra Bridge", "The bridge was inaugurated in 1901.", ("Velm",)),
        ("When Velm Bridge opened", "Velm Bridge", "The bridge was inaugurated by the king.", ("date",)),
        ("When Velm Bridge opened", "Velm Bridge", "It was built in 1901, of iron and much stone.", ("opened",)),
        ("How long is the Danube?", "Danube", "It is 2,850 km long.", ()),
        ("How long is the Danube?", "Danube", "It flows through ten countries.", ("length or time",)),
        ("Danube 1,280 ships", "Danube", "In a year 1280 boats go up the river to Ulm.", ()),
        ("Danube 1,280 ships", "Danube", "In a year 2,300 boats go up the river to Ulm.", ("1,280",)),
        ("Who bought the Velm Telescope?", "Velm Telescope", "In 1901 it was sold to Ida Rom of Tarn.", ()),
        ("What does the koala feed on?", "Koala", "Koalas eat the leaves of eucalyptus.", ()),
        ("What colour is the Velm Bridge?", "Velm Bridge", "The bridge was painted a bright red.", ()),
        ("What colour is the Velm Bridge?", "Velm Bridge", "The bridge was painted again in 1901.", ("colour",)),
        ("artist who painted the Velm altar", "Velm altar", "The altar was painted by Ida Rom.", ()),
        ("artist who painted the Velm altar", "Velm altar", "The altar was bought by Ida Rom.", ("painted",)),
        (
            "Where is the man who found Velm buried?",
            "Ida Rom",
            "Ida Rom found Velm in 1901 and died soon.",
            ("buried", "place"),
        ),
        ("Dr. Zoë Ångström", "Ångström", "Zoe wrote it.", ("Dr",)),
        ("一百 北京", "北京", "北京在中国。", ("一百",)),
        ("", "Danube", "A river.", ()),
        ("the of a", "Danube", "A river.", ("the", "of")),
    ],
)
def test_words_and_kinds_that_a_result_does_not_speak_of(query, title, content, lacked):
    assert lacks(query, SearchResult(title, "a.md#1", content)) == lacked


TEXT = st.text(st.sampled_from("Ada Bridge when 12,5.'’é北京\ud800-\n") | st.characters(), max_size=60)


@given(query=TEXT, title=TEXT, content=TEXT)
def test_any_text_is_met_or_lacked(query, title, content):
    lacked = lacks(query, SearchResult(title, "a.md#1", content))
    assert len(lacked) == len(set(lacked)) <= MOST_LACKED
    assert all(word in query or word in KINDS for word in lacked)


@given(query=TEXT)
def test_a_result_that_repeats_the_query_lacks_no_word_of_it(query):
    assert set(lacks(query, SearchResult(query, "a.md#1", query))) <= KINDS


def test_a_long_query_takes_no_long_time():
    started = time.perf_counter()
    lacks("When Velm opened " * 20000, SearchResult("Danube", "a.md#1", "A river. " * 20000))
    assert time.perf_counter() - started < 5


def test_a_search_of_a_folder_tells_it(tmp_path):
    (tmp_path / "bridge.md").write_text("# The Velm Bridge\n\nIt was built of iron by Ida Rom. It opened in 1901.\n")
    search = DocsSearch(tmp_path, cache_dir=tmp_path / "cache")
    (bridge,) = search.search("When was the Velm Bridge painted?")
    assert bridge.lacks == ("painted",)
    assert bridge.as_dict()["lacks"] == ["painted"]
    (bridge,) = search.search("When was the Velm Bridge opened?")
    assert bridge.lacks == ()
    assert "lacks" not in bridge.as_dict()
    search.close()


def test_a_search_with_fewer_words_tells_what_is_lacking_of_those_before(tmp_path):
    (tmp_path / "bridge.md").write_text("# The Velm Bridge\n\nIt was built of iron by Ida Rom. It opened in 1901.\n")
    search = DocsSearch(tmp_path, cache_dir=tmp_path / "cache")
    asked = "When was the Velm Bridge painted?"
    (bridge,) = search.search("Velm Bridge")
    (within,) = search.search_within("Velm Bridge", asked)
    (repainted,) = search.search_within("bridge painted", asked)
    assert (bridge.lacks, within.lacks) == ((), ("painted", "date"))
    assert repainted.lacks[0] == "painted"
    assert (within.url, within.content) == (bridge.url, bridge.content)
    assert [*within.as_dict()] == ["title", "lacks", "url", "content"]
    search.close()
