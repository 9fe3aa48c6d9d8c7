"""Pages of real prose that training reads, and the runs that are drawn over them."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from longhand.agent.calls import parse_calls
from longhand.agent.demo import script
from longhand.agent.demo.pages import PROSE, read_prose, read_theme, read_themes
from longhand.agent.demo.reading import Reading
from longhand.agent.demo.sample import Round
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
    assert bridge.unanswered == ["What did the Velm Bridge cost?"]
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


@pytest.fixture(scope="module")
def reading() -> Reading:
    return Reading(random.Random(11), read_themes())


def results_of(one: Round) -> list[str]:
    return [result["content"] for result in json.loads(one.response)]


def query_of(one: Round) -> str:
    (call,) = parse_calls(one.said.split("<tool_call>\n")[1].removesuffix("\n</tool_call>"))
    return call.query


def test_a_question_of_one_hop_is_answered_by_a_result(reading):
    for _ in range(60):
        exchange = reading.fact()
        (one,) = exchange.rounds
        answer = exchange.answer.split("</think>\n\n")[1]
        assert any(answer.startswith(content) for content in results_of(one))
        assert query_of(one)


def test_the_second_hop_asks_about_a_page_that_the_first_result_names(reading):
    linked = 0
    for _ in range(40):
        first, second = reading.two_hops().rounds
        asked = re.search(r" in two steps \| (.*)\[(.+)\](.*)\n", first.said)
        found = re.search(r": yes\. \[(.+?)\] = (.+) \| (.*)\[= \2\](.*)\n", second.said)
        assert asked
        assert found, second.said
        assert asked.groups() == (found[3], found[1], found[4])
        links = [link for result in json.loads(first.response) for link in result.get("links", [])]
        linked += found[2] in links
        assert found[2] in links or any(found[2] in content for content in results_of(first))
        assert query_of(first) == script.query_of(asked[2])
        assert query_of(second) == script.query_of(f"{found[3]}{found[2]}{found[4]}")
    assert linked > 30


def test_a_follow_up_is_about_the_same_page(reading):
    pronouns = 0
    for _ in range(150):
        page = reading.page()
        exchange = reading.about(page, again=True)
        if exchange and ", about the same = " in exchange.rounds[0].said:
            pronouns += 1
            assert f"about the same = {page.title} | " in exchange.rounds[0].said
            assert script.query_of(page.title) in query_of(exchange.rounds[0])
    assert pronouns > 10


def test_half_of_the_pages_have_other_names(reading):
    titles = {page.title for theme in read_themes() for page in theme.pages}
    drawn = []
    for _ in range(30):
        reading.drawn = 10**6  # others are opened
        drawn.append(reading.page().title in titles)
    assert 5 < sum(drawn) < 25


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
                assert found.lacks == lacks(query_of(one), found)
    assert twice > 30
