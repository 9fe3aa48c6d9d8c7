"""Sentences, words and queries: splitting, stems, and the sentence that answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent.query import Query
from longhand.agent.sentences import rank_sentences, split_sentences, weigh
from longhand.agent.words import likeness, stem, words


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Cole met Mr. St. John at No. 5.|He left.",
        "J. R. R. Tolkien wrote it.|It sold.",
        "It is 3.5 m (approx. 11 ft) high, e.g. Here.|Is it?|Yes!",
        'He said "Stop."|She did (at 5 p.m.).|Good.',
        "He lived in the U.S. Army base.|He came from the U.S.|The end.",
        "Yahoo! is old... and so is v2.|What?!|Oh.",
        "塔高三十米。|“真的吗？”|是！",
        "a line without stop|another",
        "Vol. 3 cites Smith et al. 1990, pp. 3 ff.|In 1991 it ended.",
    ],
)
def test_sentences_are_split(text):
    sentences = text.split("|")
    joined = "\n".join(sentences) if "without stop" in text else ("" if "塔" in text else " ").join(sentences)
    assert split_sentences(joined) == sentences


@given(st.text(st.sampled_from("abcA B.!?。！ \n\"')(U.S.Dr.1,")) | st.text())
def test_splitting_loses_nothing(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)


@pytest.mark.parametrize(
    "forms",
    ["open opens opened opening", "write wrote written writer", "build built building builders", "die died dying death",
     "city cities", "bridge bridges", "construct constructed construction", "stop stopped", "use used uses using",
     "drive drove driven driving", "gather gathered gathering gathers", "lay lays laid", "found finds finding",
     "founded founder founding", "bee bees"],
)  # fmt: skip
def test_forms_of_a_word_share_a_stem(forms):
    assert len({stem(form) for form in forms.split()}) == 1


def test_words_and_their_likeness():
    assert words("Ångström's 1,280 CAFÉ, e_g ＡＢ") == ["angstrom", "1280", "cafe", "e", "g", "ab"]
    assert words("塔高3米") == ["塔", "高", "塔高", "3", "米"]
    assert likeness("tall", ["wide", "tall"]) == 1
    assert 0.5 < likeness("tall", ["high"]) < 1
    assert 0.5 < likeness(stem("navigate"), [stem("navigable")]) < 1
    assert likeness("tall", ["wet"]) == likeness("austria", ["australia"]) == likeness("countri", ["count"]) == 0


def test_related_words_find_a_sentence_and_do_not_vouch_for_it():
    for asked, said in ("inaugurated", "began"), ("painted", "canvas"), ("live", "home"):
        assert likeness(stem(asked), [stem(said)]) > 0.5
        assert likeness(stem(asked), [stem(said)], related=False) == 0
    for asked, said in ("inaugurated", "opened"), ("established", "founded"), ("bee", "honeybee"), ("now", "today"):
        assert likeness(stem(asked), [stem(said)], related=False) > 0.5


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("How old was she when she died?", ("age",)),
        ("What do you call the man who looks after elephants?", ("name",)),
        ("Who found it and when?", ("person", "date")),
        ("When was it lost?", ("date",)),
        ("What kind of wood is it made of?", ("wood",)),
        ("kind wood door", ("wood",)),
        ("Who laid the first stone?", ("person",)),
        ("Which island is the largest?", ("named place",)),
        ("Tell me about the old tower.", ("description",)),
        ("Who was Anna Berg?", ("description",)),
        ("Who was Anna Berg's teacher?", ("person",)),
    ],
)
def test_what_a_query_wants(text, wants):
    assert Query.parse(text).wants == wants


def test_how_much_is_told_in_any_unit():
    assert Query.parse("How much did he pay").fit("He paid four million pounds.", ()) == 0.5
    assert Query.parse("How many did he pay").fit("He paid four million pounds.", ()) == 0


@pytest.mark.parametrize(
    ("query", "fits", "other"),
    [
        ("How tall is it", "It rises to 34 metres.", "It goes down to a depth of 34 metres."),
        ("How long is it", "It is 34 metres long.", "It lies 34 metres above the sea."),
        ("How much does it weigh", "It weighed 605 pounds.", "The prize was 500 pounds."),
        ("How much did it cost", "The prize was 500 pounds.", "It weighed 605 pounds."),
        ("How many eggs does it lay", "It lays twenty eggs.", "An egg hatches after twenty days."),
        ("How many days does it take", "An egg hatches after twenty days.", "It lays twenty eggs."),
        ("How old was she when she left", "She was 17 when she left.", "She was away for 17 hours when she left."),
        ("What wood is it made of", "It is done on a panel of poplar.", "It was done in oil by an old man."),
        ("Which island is the largest", "The largest is called Olkhon.", "The largest is rocky and bare."),
        ("Which temperature is best", "Run it at a temperature of 0.6.", "Run it at a low temperature."),
        ("Who was Anna Berg", "Anna Berg was a painter.", "Anna Berg came late."),
        ("Who was Anna Berg", "She was a painter.", "The reward was a medal."),
    ],
)
def test_what_looks_like_the_wanted_kind(query, fits, other):
    asked = Query.parse(query)
    assert asked.fit(fits, asked.stems) > max(0.5, asked.fit(other, asked.stems))


@pytest.mark.parametrize(
    ("query", "best", "other"),
    [
        ("When tower opened", "It opened in June 1931.", "It opened to some applause."),
        ("Which year was it finished", "Work ended in 1931.", "Work ended in the rain."),
        ("How tall tower", "It stands 34 metres above sea.", "It stands by the sea since 1931."),
        ("How heavy is the bell", "The bell weighs 3.5 tonnes.", "The bell has 3 cracks."),
        ("How old was he", "He died at the age of 64.", "He died in 7 beds."),
        ("How many lamps", "Twelve lamps burn on it.", "Lamps were bought in 1931 for 2 rooms."),
        ("How much memory does it have", "It has 141 GB of memory.", "It was the first with HBM3e memory."),
        ("How large is the park", "The park covers 34 hectares.", "The park has 34 gates."),
        ("How hot does the kiln get", "The kiln reaches 1,100 degrees.", "The kiln has 2 doors."),
        ("Who designed tower", "It was designed by Marta Velling.", "It was designed and built in a hurry."),
        ("Where does the tower stand", "It stands at Cape Orme.", "It stands very firmly indeed."),
        ("What is the tower called", "It is called the Needle.", "It is a fine thing to see."),
        ("Why was it closed", "It closed because the roof leaked.", "It closed with a party."),
        ("How often is it painted", "It is painted every seven years.", "It is painted with great care."),
        ("What does the whale eat", "It lives almost entirely on krill.", "It can be heard from afar."),
        ("What colour is the door", "The door is green.", "The door is heavy."),
        ("What kind of wood is the door", "It is a heavy thing of oak.", "The door is heavy."),
        ("How much did it cost", "The price was 300 crowns.", "The cost surprised all 7 of them."),
        ("tower", "The tower is a lighthouse.", "The tower was closed in 1931."),  # a name asks what that is
        ("How long tower", "The tower stretches over 30 metres.", "In the tower a bridge is 16 metres long."),
        ("How long tower", "It stretches over 30 metres.", "Near by a bridge is 16 metres long."),
    ],
)
def test_the_sentence_that_answers_comes_first(query, best, other):
    asked = Query.parse(query)
    weights = weigh(asked, dict.fromkeys(asked.stems, 1.0))
    for sentences in ([best, other], [other, best]):
        ranked = rank_sentences(asked, weights, "The tower", sentences)
        assert ranked[0].sentence == best
        assert ranked[0].score > ranked[1].score


@given(st.text(), st.text())
def test_any_query_ranks_any_text(query, text):
    asked = Query.parse(query)
    weights = weigh(asked, dict.fromkeys(asked.stems, 1.0))
    scores = [ranked.score for ranked in rank_sentences(asked, weights, query, split_sentences(text))]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1.9 + 1e-9 for score in scores)


def test_a_sentence_that_goes_on_with_the_one_before_it_counts_its_words():
    query = Query.parse("How many trees were loaded at Tahiti?")
    weights = weigh(query, dict.fromkeys(query.stems, 1.0))
    said = ["Six trees died.", "The crew stayed at Tahiti for months.", "They took 1,015 young trees.", "It rained."]
    assert rank_sentences(query, weights, "Voyage", said)[0].sentence == said[2]


def test_how_big_is_not_told_by_how_high():
    query = Query.parse("How big is Pluto?")
    high = query.fit("It has mountains over 3,000 metres high.", ())
    assert high < query.fit("Its diameter is 2,377 kilometres.", ()) == 1


def test_what_was_paid_is_money_where_nothing_else_is_asked():
    assert Query.parse("What did the navy pay for the ship?").wants == ("money",)
    assert Query.parse("Who paid for the ship?").wants == ("person",)
