"""Checked citations: what passes, and what is marked with which kind and reason."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand.agent.citations import check_answer, is_not_found
from longhand.agent.events import Citation
from longhand.agent.search import SearchResult

TOWER = SearchResult(
    "The old tower",
    "tower.md#1",
    "The old tower is 34 metres tall and stands by the sea. Anna Berg finished it in 1889. It cost 1,250 crowns.",
)
QUARRY = SearchResult("The quarry", "https://quarry.example/history", "The quarry by the river closed in 1911.")
WIKI = SearchResult("Mercury", "https://wiki.example/Mercury_(planet)", "Mercury is the smallest planet.")
ODD = SearchResult("Notes", "my notes (final).md#3", "The old bridge is 12 metres long.")
CHINESE = SearchResult("古塔", "ta.md#1", "北京的古塔建于1889年,高34米。")
RESULTS = [TOWER, QUARRY, WIKI, ODD, CHINESE]
TALL = "How tall is the old tower?"
CITED = "[The old tower](tower.md#1)"
CLOSED = "[The quarry](https://quarry.example/history)"


def check(text, question=TALL, results=RESULTS, searched=True):
    """(urls cited, [(kind, reason)])."""
    citations, unsupported = check_answer(question, text, results, searched)
    return [citation.url for citation in citations], [(item.kind, item.reason) for item in unsupported]


@pytest.mark.parametrize(
    "text",
    [
        f"The old tower is 34 metres tall and stands by the sea. {CITED}",
        f"The old tower is 34 metres tall {CITED}.",
        f"As {CITED} says, the tower is 34 metres tall.",
        f"It is 34 metres high, this tower by the sea {CITED}.",
        f"The tower, finished by Anna Berg, cost 1250 crowns and is 34 metres tall {CITED}.",
        f"The tower is 34 metres tall {CITED}, {CITED}.",
        "The tower is 34 metres tall [The old tower]( <tower.md#1> ).",
        'The tower is 34 metres tall [The old tower](tower.md#1 "a note").',
        "The tower is 34 metres tall [1](tower.md#1).",
        "The tower is 34 metres tall [[1]](tower.md#1).",
        f"1. The tower is 34 metres tall {CITED}\n2. It stands by the sea {CITED}",
        f"- The tower is 34 metres tall {CITED}\n\n> It stands by the sea {CITED}",
        f"The tower is 34 metres tall.\n\nSource: {CITED}",
        f"The tower is 34 metres tall.\n\n## Sources\n\n1. {CITED}\n2. {CITED}",
        "The tower is 34 metres tall [The old tower](tower.md#1)。",
    ],
)
def test_supported_answers_pass(text):
    assert check(text) == (["tower.md#1"], [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"The old tower is 35 metres tall {CITED}.", "the number 35"),
        (f"The old tower is 3.4 metres tall {CITED}.", "the number 3.4"),
        (f"As {CITED} says, the old tower is 35 metres tall.", "the number 35"),
        (f"The old tower of Maria Stern is 34 metres tall {CITED}.", "the name Maria"),
        (
            f"The tower of 34 metres attracts millions of visitors from abroad every summer {CITED}.",
            "of the sentence's",
        ),
        (f"The tower is 35 metres tall.\n\nSources:\n- {CITED}", "the number 35"),
        (f"The tower is 34 metres tall {CITED}. It was finished in 1911 {CITED}.", "the number 1911"),
        (f"The tower is 34 metres tall {CITED}. It was finished in 1911.", "the number 1911"),
    ],
)
def test_what_the_source_does_not_hold_is_marked(text, reason):
    urls, marked = check(text)
    assert urls == ["tower.md#1"]
    assert [kind for kind, _ in marked] == ["sentence"]
    assert reason in marked[0][1]


def test_a_number_in_the_text_of_a_link_is_checked():
    assert ("sentence", "the cited result does not hold the number 35") in check(
        "[The old tower is 35 metres tall](tower.md#1)."
    )[1]


def test_only_the_sentence_at_fault_is_marked():
    text = f"The tower is 34 metres tall. It is made of green cheese, as everyone knows {CITED}."
    _, (marked,) = check_answer(TALL, text, RESULTS, True)
    assert (marked.kind, marked.url) == ("sentence", "tower.md#1")
    assert marked.text.startswith("It is made of green cheese")


def test_each_group_of_links_stands_for_its_own_sentence():
    good = f"As {CITED} says, the tower is 34 metres tall. As {CLOSED} says, the quarry closed in 1911."
    assert check(good) == (["tower.md#1", QUARRY.url], [])
    both = f"The tower is 34 metres tall {CITED} and the quarry closed in 1911 {CLOSED}."
    assert check(both) == (["tower.md#1", QUARRY.url], [])
    swapped = f"The tower is 34 metres tall {CLOSED} and the quarry closed in 1911 {CITED}."
    assert [kind for kind, _ in check(swapped)[1]] == ["sentence", "sentence"]
    in_a_row = f"The tower is 34 metres tall and the quarry closed in 1911 {CITED} {CLOSED}."
    assert check(in_a_row) == (["tower.md#1", QUARRY.url], [])
    paragraphs = f"The tower is 34 metres tall {CITED}.\n\nThe quarry closed in 1911 {CLOSED}."
    assert check(paragraphs) == (["tower.md#1", QUARRY.url], [])
    crossed = f"The tower is 34 metres tall {CLOSED}.\n\nThe quarry closed in 1911 {CITED}."
    assert len(check(crossed)[1]) == 2


def test_urls_that_no_search_returned():
    text = "The tower is 34 metres tall [The old tower](https://made-up.example/tower)."
    citations, unsupported = check_answer(TALL, text, RESULTS, True)
    assert citations == []
    (marked,) = unsupported
    assert (marked.kind, marked.url) == ("url", "https://made-up.example/tower")
    assert marked.reason == "no search of this run returned this url"
    assert check(f"It is 34 metres tall {CITED} [x](tower.md#2).")[1] == [("url", marked.reason)]
    assert check(f"It is 34 metres tall {CITED}", results=[])[1] == [("url", marked.reason)]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("Mercury is the smallest planet [Mercury](https://wiki.example/Mercury_(planet)).", WIKI.url),
        ("Mercury is the smallest planet (https://wiki.example/Mercury_(planet)).", WIKI.url),
        ("Mercury is the smallest planet: https://wiki.example/Mercury_(planet).", WIKI.url),
        ("Mercury is the smallest planet <https://wiki.example/Mercury_(planet)>.", WIKI.url),
        ("The quarry closed in 1911, see https://quarry.example/history, and stayed so.", QUARRY.url),
        ("The quarry closed in 1911 **https://quarry.example/history**!", QUARRY.url),
        ("The quarry closed in 1911 (https://quarry.example/history).", QUARRY.url),
        ("采石场:The quarry closed in 1911(https://quarry.example/history)。", QUARRY.url),
        ("The old bridge is 12 metres long [Notes](my notes (final).md#3).", ODD.url),
        ("The old bridge is 12 metres long [Notes](<my notes (final).md#3>).", ODD.url),
    ],
)
def test_urls_are_found_whole(text, url):
    urls, marked = check(text, "What is there?")
    assert urls == [url]
    assert [kind for kind, _ in marked if kind == "url"] == []


def test_a_citation_is_listed_once_with_the_title_of_its_first_link():
    text = f"It is 34 metres tall [Here](tower.md#1). It stands by the sea {CITED}. https://quarry.example/history"
    assert check_answer(TALL, text, RESULTS, True)[0] == [
        Citation("Here", "tower.md#1"),
        Citation("The quarry", QUARRY.url),
    ]


def test_an_answer_without_a_source_is_marked():
    assert check("The tower is 34 metres tall.") == ([], [("uncited", "the answer cites no source")])
    assert check("", searched=True) == ([], [])


@pytest.mark.parametrize("question", ["Hello", "Who are you?", "What is your name?", "What's up?", "Explain towers."])
def test_what_asks_for_no_fact_may_be_answered_without_a_search(question):
    assert check("I am a program.", question, searched=False) == ([], [])


@pytest.mark.parametrize(
    "question",
    [
        TALL,
        "Who built it?",
        "When was the old tower finished?",
        "After which tower was it named?",
        "What did Anna Berg do?",
    ],
)
def test_a_fact_told_without_a_search_is_marked(question):
    assert check("I am a program.", question, searched=False) == ([], [("uncited", "the answer cites no source")])
    assert check("I could not find it.", question, searched=False) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "I could not find it in these documents.",
        "I couldn't find how tall the tower is.",
        "No relevant results.",
        "Its height is not mentioned.",
        "抱歉,没有找到答案。",
    ],
)
def test_saying_that_nothing_was_found_needs_no_source(text):
    assert is_not_found(text)
    assert check(text) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, I did not find anything.",
        "I have not been able to find this.",
        "The search results do not mention the height.",
        "The answer could not be found in the documents.",
        "I searched twice, but there is no information about it.",
    ],
)
def test_there_are_many_ways_to_say_that_nothing_was_found(text):
    assert is_not_found(text)


@pytest.mark.parametrize(
    "text",
    [
        "The wreck was not found until 2022.",
        "He could not find work and moved to Paris.",
        "The tomb was not found by Carter but by his water boy.",
        "The bridge is 4500 m long, and there are no results for its builder.",
    ],
)
def test_a_fact_about_finding_is_a_fact(text):
    assert not is_not_found(text)
    assert check(text)[1] == [("uncited", "the answer cites no source")]


def test_what_else_was_not_found_is_no_claim_of_the_source_before_it():
    asked = "Who drew the plans of the tower of the lighthouse?"
    assert check(f"The tower is 34 metres tall {CITED}. I could not find who drew its plans.", asked)[1] == []
    said = check(f"The tower is 34 metres tall {CITED}. I could not find its 12 rooms in Oslo.", asked)[1]
    assert [reason for _, reason in said] == ["the cited result does not hold the number 12"]


def test_not_found_is_not_read_out_of_a_title():
    text = "It is 34 metres tall [What we could not find](tower.md#1)."
    assert not is_not_found(text)
    assert check(text) == (["tower.md#1"], [])


@pytest.mark.parametrize(
    ("question", "text", "reason"),
    [
        ("How tall is the tower of Bergen?", f"The tower is 34 metres tall {CITED}.", "does not speak of Bergen"),
        ("When was the old tower finished?", f"Anna Berg finished the old tower {CITED}.", "holds no date"),
        ("How tall is the old tower?", f"The old tower stands by the sea {CITED}.", "holds no length"),
        ("Who ate the sandwich?", f"Anna Berg finished the old tower {CITED}.", "does not speak of"),
    ],
)
def test_an_answer_to_another_question_is_marked(question, text, reason):
    urls, marked = check(text, question)
    assert urls == ["tower.md#1"]
    assert [kind for kind, _ in marked] == ["question"]
    assert reason in marked[0][1]


def test_the_result_that_speaks_of_more_is_the_one_to_cite():
    design = SearchResult("The bridge", "bridge.md#1", "The chief engineer of the bridge was Olaf Strand.")
    paint = SearchResult("The bridge", "bridge.md#2", "The colour of the bridge was chosen by Irma Holm.")
    question = "Who was the chief engineer of the bridge?"
    good = f"{design.content} [The bridge](bridge.md#1)"
    bad = f"{paint.content} [The bridge](bridge.md#2)"
    assert check(good, question, [paint, design]) == (["bridge.md#1"], [])
    assert check(f"{good} {bad}", question, [paint, design])[1] == []
    assert check(bad, question, [paint])[1] == [("question", "the cited result does not speak of 'chief'")]
    near = SearchResult("The bridge", "bridge.md#3", "One chief engineer, Irma Holm, chose another colour.")
    question = "Who was the chief engineer of the steel bridge?"
    assert check(f"{near.content} [The bridge](bridge.md#3)", question, [near]) == (
        ["bridge.md#3"],
        [],
    )  # the best there is
    more = SearchResult("The bridge", "bridge.md#1", "The chief engineer of the steel bridge was Olaf Strand.")
    assert check(f"{near.content} [The bridge](bridge.md#3)", question, [near, more])[1] == [
        ("question", "bridge.md#1 speaks as much of what was asked")
    ]


BRIDGE = "the bridge"
ASKED = [  # title, question, what answers it, what does not, why not
    (BRIDGE, "When was the bridge opened to the public?", "The bridge was inaugurated for the public in May 1931.",
     "In May 1931 the public (who had been at the opening) saw the bridge with 21 elephants.", "speak of 'opened'"),
    (BRIDGE, "Where was the bridge designed?", "The plan of the bridge was drawn at Cape Orme by two men.",
     "At Cape Orme, which is far away, the bridge had its grand opening.", "speak of 'designed'"),
    (BRIDGE, "How many lamps does the bridge have?", "On dark evenings twelve lamps burn on the bridge for ships.",
     "On dark evenings the twelve keepers of the bridge watch for ships.", "count any 'lamp'"),
    (BRIDGE, "How long is the bridge?", "From end to end, says the keeper, the bridge is 312 metres long.",
     "The deck of the bridge hangs 34 metres above the water of the Ash.", "holds no length"),
    (BRIDGE, "How much does the bridge weigh?", "With all its lamps the bridge weighs as much as 900 tonnes.",
     "The keeper of the bridge got a prize of 500 pounds for his parrot.", "speak of 'weigh'"),
    (BRIDGE, "Who was the second keeper of the bridge?", "The second keeper of the bridge was an old sailor, Ned Parr.",
     "The keeper of the bridge in those years was an old sailor, Ned Parr.", "speak of 'second'"),
    (BRIDGE, "Who built engine 4090 of the bridge?", "Engine 4090 of the bridge was built by a smith, Ned Parr.",
     "Engine 3090 of the bridge was built by the same smith, Ned Parr.", "speak of '4090'"),
    (BRIDGE, "Which wood is the deck of the bridge made of?", "The deck of the bridge rests on beams of oak and iron.",
     "The deck of the bridge was made by a smith from the town.", "holds no wood"),
    (BRIDGE, "Who repaired the broken cable of the bridge?",
     "After the storm Ned Parr mended the broken cable of the bridge.",
     "After the storm Ned Parr walked over the bridge with his grey parrot.", "speak of 'repaired'"),
    (BRIDGE, "How deep does the bridge sway?", "In a storm the bridge can swing to a depth of 3 metres.",
     "In a storm the ferry takes over for the bridge, 3 metres from it.", "speak of 'sway'"),
    (BRIDGE, "Who was Anna Berg?", "Anna Berg was a painter who lived by the bridge for years.",
     "Anna Berg gave a speech by the bridge in the rain.", "holds no description"),
    (BRIDGE, "How old was Anna Berg when the bridge opened?",
     "Anna Berg was aged only 37 when the bridge opened its gates.",
     "Anna Berg came in 1937 when the bridge opened its gates to all.", "holds no age"),
    (BRIDGE, "How deep is the harbour at the bridge?", "The harbour at the bridge has a depth of 12 metres at ebb.",
     "The harbour at the bridge runs for 700 metres without a single lock.", "holds no length"),
    (BRIDGE, "Who was the mother of Anna Berg?", "The mother of Anna Berg was a weaver by the bridge, Ida Rom.",
     "Anna Berg lies beside the mother of her child in the church of Orme.", "holds no person"),
    (BRIDGE, "When was Anna Berg born?", "Anna Berg was born in 1832 beside the bridge, in a mill.",
     "Anna Berg built the bridge for his wife, who died in 1631 while giving birth to a son.", "speak of 'born'"),
    (BRIDGE, "Where was Anna Berg born?", "Anna Berg was born in Åmål, far from the bridge and the sea.",
     "Anna Berg was born in December 1284, as the brave Olaf Strand tells.", "holds no place"),
]  # fmt: skip


@pytest.mark.parametrize(("title", "question", "good", "bad", "reason"), ASKED, ids=[case[1] for case in ASKED])
def test_what_was_asked_is_spoken_of(title, question, good, bad, reason):
    for sentence in good, bad:
        result = SearchResult(title, "bridge.md#1", sentence)
        _, marked = check(f"{sentence} [The bridge](bridge.md#1)", question, [result])
        assert [kind for kind, _ in marked] == ([] if sentence is good else ["question"])
    assert reason in marked[0][1]


def test_a_short_answer_leaves_it_to_its_source_to_speak_of_what_was_asked():
    source = SearchResult("The bridge", "bridge.md#1", "It was inaugurated by Anna Berg in 1931. Ned Parr kept it.")
    assert check("In 1931 [The bridge](bridge.md#1)", "When was the bridge opened?", [source])[1] == []
    assert check("In 1931 [The bridge](bridge.md#1)", "When was the bridge sold?", [source])[1] != []
    long = "Ned Parr was the man who kept it for years, from 1931 on [The bridge](bridge.md#1)"
    assert ("question", "the cited result does not speak of 'opened'") in check(
        long, "When was the bridge opened?", [source]
    )[1]


def test_the_title_says_what_a_result_is_about():
    panda = SearchResult("The panda", "panda.md#1", "An adult eats for 14 hours a day, mostly bamboo.")
    fish = SearchResult("The lungfish", "fish.md#1", "It spends the day in caves.")
    bee = SearchResult("The honeybee", "bee.md#1", "In summer it eats for 14 hours a day.")
    eat = f"{panda.content} [The panda](panda.md#1)"
    assert check(eat, "What does a lungfish eat?", [panda, fish])[1] == [("question", "fish.md#1 is about 'lungfish'")]
    assert check(eat, "What does a panda eat?", [panda, fish])[1] == []
    other = SearchResult("The bee hummingbird", "bird.md#1", "It is small.")
    assert check(f"{bee.content} [The honeybee](bee.md#1)", "What does a bee eat?", [bee, other])[1] == []


def test_a_repeated_sentence_with_another_name():
    source = SearchResult(
        "The prize", "prize.md#1", "The prize, founded in 1927 by the pianist Jan Żurawlew, is given yearly."
    )
    link = "[The prize](prize.md#1)"
    honest = (source.content, "The prize, founded in 1927, is given yearly.", "Jan Żurawlew founded the prize in 1927.",
              "The prize, founded in 1927 by Jan Żurawlew, is given every year.")  # fmt: skip
    for text in honest:
        assert check(f"{text} {link}", "When was the prize founded?", [source])[1] == []
    garbled = source.content.replace("Żurawlew", "codesurawlew")
    assert check(f"{garbled} {link}", "Who founded the prize?", [source])[1] == [
        ("sentence", "the cited result says Żurawlew where the sentence says codesurawlew")
    ]


def test_a_short_number_of_a_name_does_not_tell_what_was_asked():
    probe = SearchResult("The probes", "probe.md#1", "In 40,000 years Rover 1 will pass 2 stars.")
    (marked,) = check(f"{probe.content} [The probes](probe.md#1)", "How much does Rover 1 weigh?", [probe])[1]
    assert marked == ("question", "the cited result does not speak of 'weigh'")


def test_the_date_must_be_in_the_answer_and_not_in_its_link():
    text = "Anna Berg finished the old tower [The tower, 1889](tower.md#1)."
    assert [kind for kind, _ in check(text, "When was the old tower finished?")[1]] == ["question"]
    text = f"Anna Berg finished the old tower in 1889 {CITED}."
    assert check(text, "When was the old tower finished?") == (["tower.md#1"], [])


def test_chinese():
    question = "古塔有多高?"
    assert check("古塔建于1889年,高34米 [古塔](ta.md#1)。", question) == (["ta.md#1"], [])
    (marked,) = check("古塔建于1889年,高35米 [古塔](ta.md#1)。", question)[1]
    assert marked == ("sentence", "the cited result does not hold the number 35")
    (marked,) = check("上海的机场每年接待很多来自国外的旅客 [古塔](ta.md#1)。", question)[1]
    assert marked[0] == "sentence"


texts = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from([CITED, CLOSED, "](", "[", "]", "(", ")", "<", ">", "http://", "https://a.b/", "\n\n", "\n- ",
                         "34 metres", "1,2,3", "Sources:", ". ", "。", "\ud800", "Tower", "when"]),
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=300)
@given(question=texts, text=texts, odd=texts, searched=st.booleans())
def test_any_text_is_checked(question, text, odd, searched):
    results = [*RESULTS, SearchResult(odd, odd, odd)]
    citations, unsupported = check_answer(question, text, results, searched)
    known = {result.url for result in results}
    urls = [citation.url for citation in citations]
    assert len(set(urls)) == len(urls)
    assert set(urls) <= known
    for item in unsupported:
        assert item.kind in ("url", "sentence", "uncited", "question")
        assert (item.kind == "url") == (item.url is not None and item.url not in known)


LENGTH = 100_000
LONG = {
    **{piece: piece for piece in (
        "[", "[]", "[[]", "[x", "[a](", "]", "(", "1,", "1.", "1 -", ". ", "a ", "Aab ", ", Aab", "Aa-", "\n", " ", "https://",
        "https://a(", "https://a.example/x ", CITED, f"tower {CITED} ", f"tower. As {CITED} ", f"tower {CITED}\n\n",
        "- ", "塔", "塔。", '"', "...)", "could not ", "by The Aab ", "Source: ",
    )},
    "an open link": "[a](" + "x" * LENGTH,
    "an open link of spaces": "[a](" + " " * LENGTH,
    "a url of dots": "https://a" + "." * LENGTH,
    "brackets": "[" * (LENGTH // 2) + "]" * (LENGTH // 2),
    "links in a title": "[" + "[a]" * (LENGTH // 3),
    "one word": "A" * LENGTH,
    "one number": "1" * LENGTH,
}  # fmt: skip


@pytest.mark.parametrize("text", LONG.values(), ids=[repr(name) for name in LONG])
def test_a_hundred_kilobytes_take_no_square(text):
    text = (text * (LENGTH // len(text) + 1))[:LENGTH] + CITED
    question = "When and how tall is the old Tower, by whom, why, how much, how many metres, what colour?"
    started = time.process_time()
    check_answer(question, text, RESULTS, True)
    assert time.process_time() - started < 15  # the longest takes 3 seconds, the square of 100,000 steps minutes


@pytest.mark.parametrize("asked", ["Where is {} buried?", "Who was the sister of {}?", "When did {} die?"])
def test_the_role_that_leads_to_what_is_asked_is_no_answer(asked):
    text = f"{DESIGNER.content} [{DESIGNER.title}]({DESIGNER.url})"
    question = asked.format("the designer of the bridge")
    assert [kind for kind, _ in check(text, question, [DESIGNER])[1]] == ["question"]
    assert check(text, "Who was the designer of the bridge?", [DESIGNER])[1] == []


DESIGNER = SearchResult("The bridge", "bridge.md#1", "The bridge was designed in 1901 by Anna Berg of Orme.")
BIRTH = SearchResult("Anna Berg", "berg.md#1", "Anna Berg was born in 1871 at Ruhn, far from any bridge.")
DEATH = SearchResult("Anna Berg", "berg.md#2", "Anna Berg died in 1940 in the tower of the bridge at Orme.")
OTHER = SearchResult("Olaf Strand", "strand.md#1", "Olaf Strand was born in 1866, in the year of the long winter.")


@pytest.mark.parametrize(("end", "holds"), [(BIRTH, True), (DEATH, False), (OTHER, False)])
def test_the_end_of_two_hops_answers_the_last_query(end, holds):
    question = "When was the designer of the bridge born?"
    text = "\n\n".join(f"{one.content} [{one.title}]({one.url})" for one in (DESIGNER, end))
    last = ("When Anna Berg born", [end])
    citations, unsupported = check_answer(question, text, [DESIGNER, end], True, last)
    assert [citation.url for citation in citations] == ["bridge.md#1", end.url]
    assert [item.kind for item in unsupported] == ([] if holds else ["question"])
    alone = f"{DESIGNER.content} [{DESIGNER.title}]({DESIGNER.url})"  # answers of one source are asked nothing more
    assert check_answer("When was the bridge designed?", alone, [DESIGNER], True, last)[1] == []


@pytest.mark.parametrize(("end", "holds"), [(BIRTH, True), (DEATH, False), (OTHER, False), (DESIGNER, False)])
def test_an_answer_need_not_cite_the_first_of_two_hops(end, holds):
    question = "When was the designer of the bridge born?"
    text = f"{end.content} [{end.title}]({end.url})"
    last = ("When Anna Berg born", [BIRTH, DEATH, OTHER])
    results = [DESIGNER, BIRTH, DEATH, OTHER]
    assert [item.kind for item in check_answer(question, text, results, True, last)[1]] == (
        [] if holds else ["question"]
    )
    unseen = check_answer(question, text, results[1:], True, last)[1]  # nothing says that she designed the bridge
    assert [item.kind for item in unseen] == ["question" if end in results[1:] else "url"]
    asked = ("When Olaf Strand born", [OTHER])  # he did not
    assert check_answer(question, text, results, True, asked)[1] != []


@pytest.mark.parametrize(("links", "holds"), [(("Anna Berg",), True), ((), False), (("Olaf Strand",), False)])
def test_a_link_tells_whose_last_name_the_first_of_two_hops_says(links, holds):
    first = SearchResult("The bridge", "bridge.md#1", "The bridge was designed in 1901 by Berg.", links=links)
    text = f"{BIRTH.content} [{BIRTH.title}]({BIRTH.url})"
    last = ("When Anna Berg born", [BIRTH, DEATH])
    checked = check_answer("When was the designer of the bridge born?", text, [first, BIRTH, DEATH], True, last)[1]
    assert [item.kind for item in checked] == ([] if holds else ["question"])


def test_what_stands_out_behind_two_hops_is_a_matter_of_the_last_query():
    question = "When was the designer of the bridge born?"
    rival = SearchResult("The other bridge", "other.md#1", "The designer of the other bridge was born in 1866.")
    text = f"{BIRTH.content} [{BIRTH.title}]({BIRTH.url})"
    last = ("When Anna Berg born", [BIRTH, DEATH])
    assert check_answer(question, text, [DESIGNER, rival, BIRTH, DEATH], True, last)[1] == []
    near = SearchResult("Anna Berg", "singer.md#1", "Anna Berg was born in 1866, on a ship.")
    both = ("When Anna Berg born", [near, BIRTH])
    marked = check_answer(question, text, [DESIGNER, near, BIRTH], True, both)[1]
    assert [item.reason for item in marked] == ["singer.md#1 speaks as much of what was asked"]


def test_a_pronoun_stands_for_what_was_searched_for():
    text = f"{OTHER.content} [{OTHER.title}]({OTHER.url})"
    last = ("When Anna Berg born", [OTHER, DEATH])
    assert [u.kind for u in check_answer("When was she born?", text, [OTHER, DEATH], True, last)[1]] == ["question"]
    text = f"{BIRTH.content} [{BIRTH.title}]({BIRTH.url})"
    last = ("When Anna Berg born", [BIRTH])
    assert check_answer("When was she born?", text, [BIRTH], True, last)[1] == []


def test_the_answer_before_does_not_answer_a_follow_up():
    text = f"{BIRTH.content} [{BIRTH.title}]({BIRTH.url})"
    _, marked = check_answer("How long is it?", text, [BIRTH], False)  # no new search was made
    assert [item.kind for item in marked] == ["question"]
    assert check_answer("When was she born?", text, [BIRTH], False)[1] == []


@pytest.mark.parametrize(
    "question",
    [
        "Could you look this up? How tall is the old tower?",
        "Hi, How tall is the old tower?",
        "excuse me, could you please tell me how tall the old tower is",
        "i would like to know how tall the old tower is",
        "Do you know how tall the old tower is?",
        "Whta is teh height of the old tower?",
        "How tall is the old tower? Please be brief.",
        "How tall is the old tower? Thanks!",
    ],
)
def test_the_way_it_is_asked_need_not_be_spoken_of(question):
    assert check(f"The old tower is 34 metres tall and stands by the sea. {CITED}", question) == (["tower.md#1"], [])


def test_an_abbreviation_ends_no_preface():
    text = f"The old tower is 34 metres tall and stands by the sea. {CITED}"
    assert check(text, "when was st. tower built?")[1]
    assert check(text, "How tall is st. tower?") == (["tower.md#1"], [])


def test_a_name_of_two_letters_is_a_name():
    text = f"The old tower is 34 metres tall and stands by the Ob. {CITED}"
    assert check(text)[1] == [("sentence", "the cited result does not hold the name Ob")]


def test_openings_of_a_long_question_take_no_long_time():
    started = time.perf_counter()
    check(f"The old tower is 34 metres tall. {CITED}", "hello" + " " * 20_000 + ", " * 5_000 + TALL)
    assert time.perf_counter() - started < 1.5


def test_whoever_did_it_need_not_be_called_so():
    home = SearchResult("Ada Brook", "brook.md#1", "Ada Brook, who painted Nighthawk, has her home at Delft.")
    for who in ("man who", "artist who", "person that"):
        question = f"Where does the {who} painted Nighthawk live?"
        assert check(f"{home.content} [Ada Brook](brook.md#1)", question, [home]) == (["brook.md#1"], [])


def test_who_is_only_led_to_is_no_answer():
    film = SearchResult("Nighthawk", "film.md#1", "Nighthawk was painted by Ada Brook in Delft.")
    question = "Who was the teacher of the person who painted Nighthawk?"
    _, unsupported = check(f"{film.content} [Nighthawk](film.md#1)", question, [film])
    assert unsupported == [("question", "the cited result does not speak of 'teacher'")]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("Which school did Nighthawk's painter lead?", "lead"),
        ("Which school did the first painter of Nighthawk lead?", "lead"),
        ("Who was the wife of the painter of Nighthawk?", "wife"),
        ("Under whom did the artist who painted Nighthawk study?", "study"),
        ("Who married the pupil of Ada Brook?", "married"),
    ],
)
def test_what_is_asked_about_a_role_must_be_spoken_of(question, word):
    film = SearchResult("Nighthawk", "film.md#1", "Nighthawk was first painted by Ada Brook and her pupil Eva Lund.")
    _, unsupported = check(f"{film.content} [Nighthawk](film.md#1)", question, [film])
    assert unsupported == [("question", f"the cited result does not speak of {word!r}")]


def test_a_role_that_is_itself_asked_for_is_an_answer():
    film = SearchResult("Nighthawk", "film.md#1", "Nighthawk was first painted by Ada Brook and her pupil Eva Lund.")
    for question in ("Who was the painter of Nighthawk?", "Who was Ada Brook's pupil?", "Name the pupil of Ada Brook."):
        assert check(f"{film.content} [Nighthawk](film.md#1)", question, [film]) == (["film.md#1"], [])


def test_what_answers_stands_out_among_the_results():
    question = "When was the keel of the Orla laid?"
    orla = SearchResult("The Orla", "orla.md#1", "The keel of the Orla was laid on 3 May 1871 at Velm.")
    wreck = SearchResult("The Orla", "orla.md#2", "The Orla ran aground in 1902 with her keel broken.")
    again = SearchResult("Shipyards", "yards.md#1", "At Velm the keel of the Orla was laid on 3 May 1871.")

    def reasons(cited, *others):
        text = f"{cited.content} [{cited.title}]({cited.url})"
        return [item.reason for item in check_answer(question, text, [cited, *others], True)[1]]

    assert reasons(orla, wreck) == []
    assert reasons(orla, again, wreck) == []  # another result that says the same speaks for it
    assert reasons(wreck, orla) != []
