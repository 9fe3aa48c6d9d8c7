"""Pages of real prose that training reads, made-up ones, and the runs that are drawn over both."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from longhand.agent.calls import parse_calls
from longhand.agent.citations import is_not_found
from longhand.agent.demo import script
from longhand.agent.demo.disguise import drawn
from longhand.agent.demo.language import Writer
from longhand.agent.demo.pages import PROSE, Asked, Page, read_prose, read_theme, read_themes
from longhand.agent.demo.reading import Reading
from longhand.agent.demo.sample import Round
from longhand.agent.demo.shelf import Shelf
from longhand.agent.demo.worlds import Worlds
from longhand.agent.gaps import lacks
from longhand.agent.search import SearchResult
from longhand.engine.errors import LonghandError

THEME = """\
# Velm Bridge
S: The Velm Bridge, opened on 4 May 1871, has three arches.
Q: When was the Velm Bridge opened? | 4 May 1871
S: It was designed by Ida Rom.
T: Where was [the designer of the Velm Bridge] born? | Ida Rom | Tarn
N: What did the Velm Bridge cost?

# Ida Rom
S: Ida Rom was born in Tarn.
P:
S: She built nine bridges, all in Tarn.
Q: how many bridges did ida rom build | nine
"""
HELD_OUT = sorted(Path(__file__).parent.parent.glob("benchmarks/heldout*"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bridges.txt"
    path.write_text(text, "utf-8")
    return path


def test_a_theme_is_its_pages_and_their_questions(tmp_path):
    theme = read_theme(written(tmp_path, THEME))
    bridge, person = theme.pages
    assert (theme.name, bridge.title, person.title) == ("bridges", "Velm Bridge", "Ida Rom")
    assert person.paragraphs == [["Ida Rom was born in Tarn."], ["She built nine bridges, all in Tarn."]]
    assert bridge.asked[0].answer == "4 May 1871"
    assert [one.question for one in bridge.unanswered] == ["What did the Velm Bridge cost?"]
    (hops,) = bridge.in_steps
    assert (hops.question, hops.phrase, hops.name, hops.sentence) == (
        "Where was the designer of the Velm Bridge born?", "the designer of the Velm Bridge", "Ida Rom",
        "It was designed by Ida Rom.",
    )  # fmt: skip
    assert (hops.last.question, hops.last.sentence) == ("Where was Ida Rom born?", "Ida Rom was born in Tarn.")


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("| 4 May 1871", "| 5 May 1871", "line 3: the answer '5 May 1871' is not in the sentence before it"),
        ("| Tarn", "| Oslo", "line 5: no page about 'Ida Rom' says 'Oslo'"),
        ("| Ida Rom |", "| Una Rom |", "line 5: 'Una Rom' is not in the sentence before it"),
        ("[the designer of the Velm Bridge]", "the designer", "line 5: has no [part] to find"),
        ("# Velm", "Velm", "line 1: stands before the first page"),
        ("N: What", "What", "line 6: begins with none of"),
        ("| Ida Rom | Tarn", "| Ida Rom", "line 5: is not: question | what the part is | answer"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_is_named(tmp_path, old, new, wrong):
    with pytest.raises(LonghandError, match=re.escape(wrong)):
        read_theme(written(tmp_path, THEME.replace(old, new, 1)))


def test_no_page_is_about_what_a_held_out_document_is_about():
    titles = {page.title.casefold() for theme in read_themes() for page in theme.pages}
    assert len(titles) > 200
    for path in (path for folder in HELD_OUT for path in folder.glob("*/*.*")):
        first = path.read_text("utf-8").splitlines()[0].strip("# ").casefold()
        assert first not in titles, path


def made_up(seed: int) -> Worlds:
    rng = random.Random(seed)
    writer = Writer(rng, ["The tower of Velm stands 33 metres tall, and a guild of masons finished it in 1889."])
    return Worlds(writer, Shelf(rng, writer))


@pytest.fixture(scope="module")
def read() -> Reading:
    rng, themes = random.Random(11), read_themes()
    return Reading(rng, lambda: drawn(rng, themes), 24)


@pytest.fixture(scope="module", params=["prose", "made up"])
def reading(request, read) -> Reading:
    return read if request.param == "prose" else Reading(random.Random(11), made_up(5).drawn, 8)


def results_of(one: Round) -> list[str]:
    return [result["content"] for result in json.loads(one.response)]


def query_of(one: Round) -> str:
    (call,) = parse_calls(one.said.split("<tool_call>\n")[1].removesuffix("\n</tool_call>"))
    return call.query


def test_a_question_of_one_hop_is_answered_by_a_result(reading):
    for _ in range(60):
        exchange = reading.fact()
        *before, one = exchange.rounds
        answer = exchange.answer.split("</think>\n\n")[1]
        assert any(answer.startswith(content) for content in results_of(one))
        assert query_of(one)
        for earlier in before:
            assert script.SHORTER in one.said
            assert len(query_of(one)) < len(query_of(earlier))
            assert not any(answer.startswith(f"{content} [") for content in results_of(earlier))


def test_what_the_first_search_misses_is_searched_for_by_a_shorter_query(monkeypatch):
    asked = Asked("How high is the arch of Rom?", "It is nine feet high.", "nine feet", "Rom")
    reading = Reading(random.Random(3), list, 1)
    other, gold = SearchResult("Rom", "rom.md#1", "Rom is old."), SearchResult("Rom", "rom.md#2", asked.sentence)
    told = SearchResult("Arches", "arches.md#1", "That of Rom has nine feet.")
    for first, second, rounds in [([other], [gold], 2), ([gold], [], 1), ([other], [other], 0), ([told], [gold], 0)]:

        def search(query, first=first, second=second):
            return first if "How" in query.split() or "how" in query.split() else second

        monkeypatch.setattr(reading, "_search", search)
        exchange = reading.about(Page("Rom", [["Rom is old.", asked.sentence]], [asked]))
        assert (len(exchange.rounds) if exchange else 0) == rounds
        if rounds == 2:
            assert exchange.rounds[1].said.startswith(f"1 Rom: no. {script.SHORTER}")
            assert exchange.answer.endswith(f"{script.cited(gold)}<|im_end|>")


def test_the_second_hop_asks_about_a_page_that_the_first_result_names(reading):
    linked = limited = for_one = 0
    for _ in range(60):
        exchange = reading.two_hops()
        first, second = exchange.rounds
        asked = re.search(r" in two steps \| (.*)\[(.+)\](.*)\n", first.said)
        found = re.search(r": yes\. \[(.+?)\] = (.+) \| (.*)\[= \2\](.*)\n", second.said)
        assert found, second.said
        assert first.learned == bool(asked)
        if asked is None:  # it was taken for one step
            for_one += 1
            assert query_of(first) == script.query_of(f"{found[3]}{found[1]}{found[4]}")
            continue
        assert asked.groups() == (found[3], found[1], found[4])
        links = [link for result in json.loads(first.response) for link in result.get("links", [])]
        linked += found[2] in links
        assert found[2] in links or any(found[2] in content for content in results_of(first))
        assert query_of(first) == script.query_of(asked[2])
        assert query_of(second) == script.query_of(f"{found[3]}{found[2]}{found[4]}")
        if not isinstance(json.loads(second.response), list):  # a limit was reached between them
            limited += 1
            assert exchange.answer.endswith(f" {script.REST}<|im_end|>")
            assert is_not_found(exchange.answer)
    assert linked > 30
    assert limited < 10
    assert 0 < for_one < 20


def test_a_follow_up_is_about_the_same_page(reading):
    pronouns = 0
    for _ in range(150):
        page = reading.page()
        exchange = reading.about(page, again=True) if page.asked else None
        if exchange and ", about the same = " in exchange.rounds[0].said:
            pronouns += 1
            (named,) = re.findall(r", about the same = (?:the )?(.+) \| ", exchange.rounds[0].said)
            assert named.casefold() in page.title.casefold()  # made-up ones are now and then called by one word of it
            assert script.query_of(named) in query_of(exchange.rounds[0])
    assert pronouns > 10


def test_half_of_the_pages_have_other_names(read):
    titles = {page.title for theme in read_themes() for page in theme.pages}
    own = []
    for _ in range(30):
        read.drawn = 10**6  # others are opened
        own.append(read.page().title in titles)
    assert 5 < sum(own) < 25


def test_the_fillers_borrow_from_documents_and_pages():
    sentences = read_prose().sentences
    assert len(sentences) > 2000
    assert PROSE.is_dir()


def test_what_no_page_answers_is_searched_for_twice_and_not_found(reading):
    twice = 0
    for _ in range(40):
        exchange = reading.unanswered()
        queries = [query_of(one) for one in exchange.rounds]
        twice += len(queries) == 2
        assert [len(query.split()) for query in queries] == sorted({len(query.split()) for query in queries})[::-1]
        assert exchange.answer.endswith(f"</think>\n\n{script.NOT_FOUND}<|im_end|>")
        assert ": yes." not in exchange.answer
        for one in exchange.rounds:
            for result in json.loads(one.response):
                found = SearchResult.from_dict(result)
                assert found.lacks == lacks(queries[0], found)  # the second one has fewer words
    assert twice > 30


def test_a_made_up_folder_tells_what_is_asked_and_nothing_else_that_answers():
    worlds, like = made_up(8), 0
    for _ in range(30):
        pages = worlds.drawn()
        text = " ".join(sentence for page in pages for sentence in page.sentences)
        titles = [page.title for page in pages]
        for page in pages:
            assert all(one.sentence in page.sentences for one in page.asked)
            assert all(one.answer.casefold() in one.sentence.casefold() for one in page.asked)
            for hops in page.in_steps:
                assert hops.sentence in page.sentences
                assert hops.name in titles
                assert hops.phrase in hops.question
                assert hops.last.sentence in text
                assert hops.last.sentence not in page.sentences
            assert page.unanswered
            assert {one.question for one in page.unanswered}.isdisjoint(one.question for one in page.asked)
            assert all(one.named in one.question for one in page.unanswered)
            like += any(one.named.removeprefix("the ") in titles for one in page.unanswered)
    assert like > 100  # questions about what has a page
