"""The built-in model's training data."""

from __future__ import annotations

import json
import random
import re
from datetime import date

import pytest
from longhand.agent import prompt
from longhand.agent.calls import MalformedCallError, parse_calls
from longhand.agent.demo import questions, script
from longhand.agent.demo.language import Writer
from longhand.agent.demo.pages import Prose, read_prose
from longhand.agent.demo.sample import Round, Sample
from longhand.agent.demo.samples import Sampler
from longhand.agent.demo.script import asks, query_of
from longhand.agent.demo.tokenizer import train_tokenizer
from longhand.agent.gaps import lacks
from longhand.agent.search import SearchResult, wider_query
from longhand.engine.tokenizer import Tokenizer

PROSE = Prose(["The tower of Velm stands 33 metres tall, and it was finished in 1889 by a guild of masons."])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(json.loads(train_tokenizer(600, PROSE, seed=1)))


def said_in(text: str) -> str:
    """The answer behind the thinking."""
    return text.split("</think>\n\n")[1].removesuffix("<|im_end|>")


def shown(one: Round) -> list[SearchResult]:
    """The results that a round's response holds; none where it is a notice."""
    told = json.loads(one.response)
    return [SearchResult.from_dict(row) for row in told] if isinstance(told, list) else []


def query_in(one: Round) -> str:
    (call,) = parse_calls(one.said.split("<tool_call>\n")[1].removesuffix("\n</tool_call>"))
    return call.query


def samples(behaviour: str, count: int) -> list[Sample]:
    sampler = Sampler(7, PROSE)
    return [sampler.sample(behaviour) for _ in range(count)]


SEARCHED = ("fact", "salad", "two hops", "missing", "second search", "limit", "found", "found on", "not there")
BEHAVIOURS = (*SEARCHED, "talk", "correction", "chat")


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_labels_are_what_the_model_says(tokenizer: Tokenizer, behaviour: str) -> None:
    opening = prompt.opening_ids(tokenizer, date(2026, 1, 2), 5)
    for sample in samples(behaviour, 20):
        ids, labels = sample.encode(tokenizer, opening)
        spoken = [text for e in sample.exchanges for text in (*(r.said for r in e.rounds if r.learned), e.answer)]
        assert [i for i in labels if i != -100] == [i for text in spoken for i in tokenizer.encode(text)]
        assert all(label in (-100, i) for label, i in zip(labels, ids, strict=True))
        assert ids[: len(opening)] == opening
        assert ids[-1] == tokenizer.control.im_end


def test_every_behaviour_is_drawn() -> None:
    sampler = Sampler(1, PROSE)
    assert {sampler.sample().behaviour for _ in range(1500)} == set(BEHAVIOURS)
    kept = Sampler(1, PROSE, {"two hops", "missing"})
    assert {kept.sample().behaviour for _ in range(500)} == set(BEHAVIOURS) - {"two hops", "missing"}


@pytest.mark.parametrize("behaviour", ["fact", "salad", "correction"])
def test_an_answer_copies_a_result_of_its_search(behaviour: str) -> None:
    for sample in samples(behaviour, 100):
        (exchange,) = sample.exchanges
        assert said_in(exchange.answer) in [script.cited(result) for result in shown(exchange.rounds[-1])]


def test_the_second_hop_asks_about_what_the_first_one_found() -> None:
    cited = late = linked = 0
    for sample in samples("two hops", 300):
        (exchange,) = sample.exchanges
        found = re.search(r"yes\. \[(.+?)\] = (.+) \| (.*)\[= \2\](.*)\n", exchange.rounds[-1].said)
        if not exchange.rounds[0].learned:  # it took the question for one step
            assert "in two steps" not in exchange.rounds[0].said
            late += found is not None
            continue
        phrase = re.search(r", in two steps \| .*\[(.+)\]", exchange.rounds[0].said)
        assert phrase is not None
        assert query_in(exchange.rounds[0]) == query_of(phrase[1])
        answer = said_in(exchange.answer)
        if answer == script.NOT_FOUND or found is None or not shown(exchange.rounds[-1]):
            continue  # a hop led nowhere, or the limit was reached
        cited += 1
        again, name, before, behind = found.groups()
        assert exchange.rounds[0].said.split("\n")[0].endswith(f"| {before}[{phrase[1]}]{behind}")
        assert again == phrase[1]
        assert query_in(exchange.rounds[1]) == query_of(f"{before}{name}{behind}")
        first = shown(exchange.rounds[0])
        linked += any(name in result.links for result in first)
        assert any(name in result.links or name.casefold() in result.content.casefold() for result in first)
        assert answer in [script.cited(result) for result in shown(exchange.rounds[1])]
    assert cited > 180
    assert 0.8 * cited < linked < cited  # a name that has no page is taken out of the sentence
    assert late > 15


def test_not_found_is_said_after_a_second_search_and_cites_nothing() -> None:
    twice = lacking = 0
    for sample in samples("missing", 200):
        (exchange,) = sample.exchanges
        for one in exchange.rounds[:-1]:
            lacking += bool(shown(one)) and all(result.lacks for result in shown(one))
        assert said_in(exchange.answer) == script.NOT_FOUND
        queries = [query_in(one) for one in exchange.rounds]
        assert len(set(queries)) == len(queries)
        twice += len(queries) == 2 and len(queries[1]) < len(queries[0])
    assert twice > 180
    assert lacking > 90  # else nothing came, or the first word of a question made into a name is not missed


def test_what_the_results_lack_is_that_of_their_query() -> None:
    for behaviour in SEARCHED:
        for sample in samples(behaviour, 30):
            queries: list[str] = []
            for one in sample.exchanges[0].rounds:
                asked = wider_query(query_in(one), queries) or query_in(one)  # as the agent searches
                queries.append(query_in(one))
                for result in shown(one):
                    assert result.lacks == lacks(asked, result), one


def test_a_broken_call_is_answered_by_the_notice_that_the_program_gives() -> None:
    for sample in samples("correction", 60):
        wrong = sample.exchanges[0].rounds[0]
        assert not wrong.learned
        with pytest.raises(MalformedCallError) as error:
            parse_calls(wrong.said.split("<tool_call>\n")[1].removesuffix("\n</tool_call>"))
        assert json.loads(wrong.response)["notice"] == str(error.value)


def test_a_follow_up_names_its_subject_by_a_pronoun_and_searches_for_its_name() -> None:
    pronouns = 0
    for sample in samples("chat", 200):
        first, second = sample.exchanges[:2]
        if re.search(r"\b(he|him|his|she|her|it|its)\b", second.question) and second.rounds:
            name = re.search(r", about the same = (.+) \| .*\[= \1(?:'s)?\]", second.rounds[0].said)
            if name is None:
                continue  # about something else
            pronouns += 1
            asked = query_of(first.question).casefold()  # whose little words may have slips
            assert all(word in asked for word in query_of(name[1]).casefold().split())
            assert query_of(name[1]) in query_in(second.rounds[0])
    assert pronouns > 30


@pytest.mark.parametrize(
    ("question", "pronoun", "ways"),
    [
        ("What is the height of {s}?", "it", {"What is its height?", "What is the height of it?"}),
        ("Who taught {s}?", "he", {"Who taught him?"}),
        ("Where was {s} born?", "she", {"Where was she born?"}),
        ("Who was {s} written by?", "it", {"Who was it written by?"}),
        ("How many boys wetched {s}?", "she", {"How many boys wetched her?"}),
    ],
)
def test_pronouns_stand_in_their_case(question: str, pronoun: str, ways: set[str]) -> None:
    asked = question.format(s="Ida Rom (Ash)")
    rng = random.Random(3)
    made = [questions.follow_up(rng, asked, "Ida Rom (Ash)", pronoun) for _ in range(40)]
    said = {one.shown for one in made}
    assert {one.clean for one in made} <= {
        asked.replace("Ida Rom (Ash)", "[= Ida Rom (Ash)]"), "What is [= Ida Rom (Ash)'s] height?"
    }  # fmt: skip
    assert {one for one in said if not one.startswith(tuple(questions.JOINTS))} == ways


def test_slips_stay_in_little_words() -> None:
    rng = random.Random(2)
    question = "Where was the designer of the Velm Bridge born?"
    drawn = {questions.slips(rng, question) for _ in range(300)}
    assert len(drawn) > 20
    assert all("designer" in one and "Velm Bridge born?" in one for one in drawn)


def test_equal_seeds_give_equal_samples_and_others_do_not() -> None:
    def draw(seed: int) -> list[str]:
        sampler = Sampler(seed, PROSE)
        return [sampler.sample().exchanges[0].question for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize(
    ("question", "query", "kind"),
    [
        ("How tall is the Velm Tower?", "How tall Velm Tower", "how tall"),
        ("In which year was R. F. Soutt born?", "year R. F. Soutt born", "which"),
        ("Tell me about the index.", "index", "about something"),
        ('Who wrote "The Kelm"?', "Who wrote Kelm", "who"),
    ],
)
def test_queries_keep_the_salient_words(question: str, query: str, kind: str) -> None:
    assert query_of(question) == query
    assert asks(question) == kind


def test_a_fact_states_its_value() -> None:
    writer = Writer(random.Random(3), PROSE.sentences)
    for _ in range(300):
        fact = writer.fact()
        assert fact.value.casefold() in fact.statement.casefold(), fact


def test_words_have_the_same_pieces_wherever_they_stand(tokenizer: Tokenizer) -> None:
    alone = tokenizer.encode_literal("Zorblat")
    for text in ("the Zorblat", '"Zorblat"', "(Zorblat)", "[Zorblat](u)", "\nZorblat."):
        ids = tokenizer.encode_literal(text)
        assert any(ids[i : i + len(alone)] == alone for i in range(len(ids))), text


def test_the_built_in_documents_read_as_sentences() -> None:
    sentences = read_prose().sentences
    assert len(sentences) > 180
    assert all(not sentence.startswith("#") and "<!--" not in sentence for sentence in sentences)


def test_a_little_word_at_the_end_of_a_question_is_no_part_of_its_query() -> None:
    rng, ended = random.Random(4), 0
    for _ in range(400):
        asked = questions.asked(rng, "Who built the Velm Bridge?")
        last = asked.clean.rstrip("?").rpartition(" ")[2]
        ended += last in questions.ENDINGS
        assert query_of(asked.clean).casefold() == "who built velm bridge"
        assert last.casefold() in ("bridge", *questions.ENDINGS)
    assert 10 < ended < 50
