"""The loop, with a model that says what a script tells it: a real Session and Tokenizer over a decoder that is none."""

import json
import unicodedata
from datetime import date
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand.agent import prompt
from longhand.agent.agent import EXTRA_ROUNDS, MAX_CALL, Agent
from longhand.agent.budget import Budget
from longhand.agent.demo.pages import Prose
from longhand.agent.demo.samples import Sampler
from longhand.agent.events import Finished, Forced, Token, ToolCall, ToolResponse
from longhand.agent.search import RecordingSearch, ReplaySearch, SearchError, SearchResult
from longhand.engine.config import ModelConfig
from longhand.engine.engine import Engine
from longhand.engine.errors import LonghandError
from longhand.engine.sampler import SamplingParams
from longhand.engine.tokenizer import CONTROL_TOKENS

CPU, F32 = torch.device("cpu"), torch.float32
QUESTION = "How tall is the old tower?"
TOWER = SearchResult("The old tower", "tower.md#1", "The old tower is 34 metres tall and stands by the sea.")
QUARRY = SearchResult("The quarry", "quarry.md#2", "The quarry by the river closed in 1911.")
SAID = "The old tower is 34 metres tall [The old tower](tower.md#1)."
ANSWER = f"It says 34.\n</think>\n\n{SAID}<|im_end|>"
CLOSE = "\n</think>\n\n"


def call(query, native=False):
    if native:
        return "<tool_call>\n" + json.dumps({"name": "web_search", "arguments": {"query": query}}) + "\n</tool_call>"
    return '<tool_call>\n{"action": "web_search", "action_input": ' + json.dumps({"query": query}) + "}\n</tool_call>"


class ScriptedEngine(Engine):
    """An Engine whose model samples, in its n-th turn, what `script` says for it: a text, a function from a place in
    the turn to an id, or None for what `inner`, a real engine, would sample. Its cache holds the ids themselves, so
    that a test can see what was forwarded where."""

    def __init__(self, tokenizer, script, max_context=20_000, inner=None):
        config = ModelConfig(512, 2, 2, 1, 1, 1, 2, 1e-6, 1e4, max_context, False) if inner is None else inner.config
        self.script, self.inner, self.opened, self.on_forward = script, inner, [], None
        decoder = SimpleNamespace(config=config, hidden=self.hidden, logits=self.logits)
        self.encoded = cache(tokenizer.encode)
        super().__init__(decoder, tokenizer, CPU, F32, F32, max_context, None, "fingerprint", "scripted")

    def session(self, seed=0):
        self.opened.append(super().session(seed))
        return self.opened[-1]

    def hidden(self, ids, cache):
        if self.on_forward is not None:
            self.on_forward()
        if self.inner is not None:
            return self.inner.decoder.hidden(ids, cache)
        rows = ids.float().reshape(-1, 1, 1).expand(-1, 1, 2)
        cache.extend(0, rows, rows)
        return rows[:, 0]

    def logits(self, hidden):
        turn, place = self.where()
        entry = self.script(turn) if callable(self.script) else self.script[turn]
        if entry is None:
            return self.inner.decoder.logits(hidden)
        if not callable(entry) and place == len(self.encoded(entry)):
            return torch.zeros(512) if self.inner is None else self.inner.decoder.logits(hidden)  # behind its end
        wanted = entry(place) if callable(entry) else self.encoded(entry)[place]
        return torch.full((self.config.vocab_size,), -1e9).index_fill(0, torch.tensor(wanted), 0.0)

    def where(self):
        """Which turn of the model this is, from 0, and how many ids of it are sampled."""
        sampled = [source == "sampled" for source in self.opened[-1].sources]
        place = next((n for n, said in enumerate(reversed(sampled)) if not said), len(sampled))
        before = sampled[: len(sampled) - place]
        turn = sum(now and not then for then, now in zip([False, *before], before, strict=False))
        return turn, place


class FakeSearch:
    name = "fake"

    def __init__(self, found=None):
        self.found, self.queries = found, []

    def search(self, query):
        self.queries.append(query)
        found = [TOWER, QUARRY] if self.found is None else self.found
        found = found.get(query, []) if isinstance(found, dict) else found
        if isinstance(found, BaseException):
            raise found
        return list(found)


@pytest.fixture(scope="module")
def scripted(dense_tokenizer):
    """scripted(script, search=None, budget=Budget(), max_context=...) -> an Agent over a new ScriptedEngine."""

    def make(script, search=None, max_context=20_000, inner=None, sampling=None, seed=0, **budget):
        engine = ScriptedEngine(dense_tokenizer, script, max_context, inner)
        return Agent(engine, search or FakeSearch(), Budget(**budget), sampling, seed, date(2026, 1, 2))

    return make


def run(agent, question=QUESTION, session=None):
    """Events of a whole run; the session is checked behind every one of them."""
    events = []
    for event in agent.run(question, session):
        sound(agent)
        events.append(event)
    assert [event for event in events if isinstance(event, Finished)] == [events[-1]]
    return events


def only(kind, events):
    return [event for event in events if isinstance(event, kind)]


def sound(agent):
    """The session's invariants, and that the only control ids from a tool are the frame's."""
    session, control = agent.session, agent.engine.control
    ids = session.ids
    assert session.cached <= len(ids) == len(session.sources) <= session.max_context
    assert session.recomputed == 0
    assert sum(turn.computed for turn in session.turns) == session.cached
    assert session.pending == ids[session.cached :]
    if agent.engine.inner is None:
        cache = session._cache
        assert cache.keys[0][: session.cached, 0, 0].int().tolist() == list(ids[: session.cached])
    framed = [i for i, source in zip(ids, session.sources, strict=True)
              if source == "tool" and i in agent.engine.tokenizer.added]  # fmt: skip
    assert framed == [control.tool_response, control.tool_response_end] * (len(framed) // 2)


def said(agent, source):
    """The texts of the spans of one source."""
    return [span["text"] for span in agent.interrupted().trace if span["source"] == source]


def unframed(text):
    assert text.startswith("\n<tool_response>\n")
    assert text.endswith("\n</tool_response>\n")
    return text.removeprefix("\n<tool_response>\n").removesuffix("\n</tool_response>\n")


# --- calls and answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("thinking", [True, False])
def test_one_search_and_a_cited_answer(scripted, native, thinking):
    before, behind = ("I will look.\n", ANSWER) if thinking else ("Easy.\n</think>\n\nI look: ", f"{SAID}<|im_end|>")
    agent = scripted([before + call("tower height", native), behind])
    events = run(agent)
    answer = events[-1].answer
    assert answer.text == SAID
    assert [(citation.title, citation.url) for citation in answer.citations] == [("The old tower", "tower.md#1")]
    assert answer.unsupported == []
    assert answer.searches == [("tower height", [TOWER, QUARRY])]
    assert agent.search.queries == ["tower height"]
    assert (answer.finish_reason, answer.recomputed, len(answer.turns)) == ("stop", 0, 2)
    assert json.loads(unframed(*said(agent, "tool"))) == [TOWER.as_dict(), QUARRY.as_dict()]
    tokens = only(Token, events)
    assert tuple(t.id for t in tokens) == tuple(
        i for i, source in zip(agent.session.ids, agent.session.sources, strict=True) if source == "sampled"
    )
    assert "".join(t.text for t in tokens if t.part == "answer").endswith(SAID)
    assert json.loads("".join(t.text for t in tokens if t.part == "call"))
    assert [type(e) for e in events if not isinstance(e, Token)] == [ToolCall, ToolResponse, Finished]
    assert only(ToolResponse, events)[0].ids == agent.session.sources.count("tool")


def test_no_search(scripted):
    agent = scripted(["A greeting.\n</think>\n\nHello!<|im_end|>"])
    answer = run(agent, "Hello")[-1].answer
    assert (answer.text, answer.searches, answer.unsupported, answer.finish_reason) == ("Hello!", [], [], "stop")


@pytest.mark.parametrize("form", ["{}\n{}", "[{}, {}]", "{}, {}"])
def test_two_calls_in_one_block_are_answered_in_order(scripted, form):
    one, two = (json.dumps({"name": "web_search", "arguments": {"query": query}}) for query in ("tower", "quarry"))
    search = FakeSearch({"tower": [TOWER], "quarry": [QUARRY]})
    agent = scripted(["<tool_call>" + form.format(one, two) + "</tool_call>", ANSWER], search)
    events = run(agent)
    assert only(ToolCall, events)[0].queries == ("tower", "quarry")
    assert [r.query for r in only(ToolResponse, events)] == search.queries == ["tower", "quarry"]
    (text,) = said(agent, "tool")
    first, second = text.split("\n</tool_response>\n\n<tool_response>\n")
    assert json.loads(first.removeprefix("\n<tool_response>\n")) == [TOWER.as_dict()]
    assert json.loads(second.removesuffix("\n</tool_response>\n")) == [QUARRY.as_dict()]
    assert len(events[-1].answer.turns) == 2


def test_two_blocks_in_a_row(scripted):
    search = FakeSearch({"tower": [TOWER], "quarry": [QUARRY]})
    agent = scripted([call("quarry"), call("tower"), ANSWER], search)
    answer = run(agent)[-1].answer
    assert [query for query, _ in answer.searches] == ["quarry", "tower"]
    assert (answer.text, answer.unsupported) == (SAID, [])


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("<tool_call>\n{not json}\n</tool_call>", "not valid JSON"),
        ("<tool_call>\n\n</tool_call>", "empty"),
        ('<tool_call>{"name": "calculator", "arguments": {"query": "1"}}</tool_call>', "calculator"),
        ('<tool_call>{"name": "web_search", "arguments": {"query": " "}}</tool_call>', "no query"),
        ("no beginning</tool_call>", "no beginning"),
        ('<tool_call>{"name": "web_search"<tool_call>\n</tool_call>', "not valid JSON"),
        ('<tool_call></think>{"name": "web_search"}</tool_call>', "no beginning"),
    ],
)
def test_a_call_that_cannot_be_run_is_corrected(scripted, block, says):
    agent = scripted([block, call("tower"), ANSWER])
    events = run(agent)
    wrong, right = only(ToolCall, events)
    assert says in wrong.error
    assert (wrong.queries, right.error, right.queries) == ((), None, ("tower",))
    assert json.loads(unframed(said(agent, "tool")[0])) == {"notice": wrong.error}
    assert (agent.search.queries, events[-1].answer.finish_reason) == (["tower"], "stop")


def test_a_call_that_is_begun_and_forgotten_does_not_swallow_the_answer(scripted):
    agent = scripted([f"Hm. <tool_call>\nno, I know it.\n</think>\n\n{SAID}<|im_end|>"])
    assert run(agent)[-1].answer.text == SAID


def test_a_call_without_an_end_is_no_call(scripted, dense_tokenizer):
    # 512 is the longest cycle that counts as a loop; the text here has none.
    text = "<tool_call>" + " ".join(str(n * n) for n in range(2000))
    assert len(dense_tokenizer.encode(text)) > 4 * MAX_CALL
    agent = scripted([text, f"{SAID}<|im_end|>"], thinking=100)
    events = run(agent)
    assert only(Forced, events) == [Forced(CLOSE, "thinking")]
    assert len(only(Token, events)) < MAX_CALL + 200
    assert events[-1].answer.text == SAID


# --- budgets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("searches", [0, 1, 2, 5])
def test_so_many_searches_then_a_notice_and_an_answer_in_the_same_turn(scripted, searches):
    script = [call(f"question {n}") for n in range(searches + 1)]
    agent = scripted([*script, ANSWER], searches=searches)
    events = run(agent)
    responses = only(ToolResponse, events)
    assert len(agent.search.queries) == len(events[-1].answer.searches) == searches
    assert [response.notice is None for response in responses] == [True] * searches + [False]
    assert f"limit of {searches} searches" in responses[-1].notice
    assert f"limit of {searches} searches" in json.loads(unframed(said(agent, "tool")[-1]))["notice"]
    assert (events[-1].answer.text, events[-1].answer.finish_reason) == (SAID, "stop")
    assert list(agent.session.ids).count(agent.engine.control.im_start) == 2
    assert f"up to {searches} times" in said(agent, "prompt")[0]


@pytest.mark.parametrize("searches", [0, 2])
@pytest.mark.parametrize(
    "turn",
    [lambda n: call(f"question {n}"), lambda n: call("again"), lambda n: "<tool_call>{</tool_call>"],
    ids=["new", "same", "malformed"],
)
def test_a_model_that_never_stops_calling(scripted, turn, searches):
    agent = scripted(turn, searches=searches)
    events = run(agent)
    answer = events[-1].answer
    assert (answer.finish_reason, answer.text) == ("searches", "")
    assert only(Forced, events) == [Forced(CLOSE, "searches")]
    assert len(agent.search.queries) <= searches
    assert len(answer.turns) <= searches + EXTRA_ROUNDS + 3


def test_calls_behind_an_answer_do_not_lose_it(scripted):
    agent = scripted(lambda n: f"Ready.\n</think>\n\n{SAID}\n{call(f'more {n}')}", searches=1)
    answer = run(agent)[-1].answer
    assert (answer.text, answer.finish_reason) == (SAID, "searches")


def test_a_query_that_was_answered_is_not_searched_again(scripted):
    search = FakeSearch({"Tower height": [TOWER], "quarry": []})
    again = [call("  tower \t HEIGHT"), call("quarry"), call("Quarry"), ANSWER]
    agent = scripted([call("Tower height"), *again], search, searches=2)
    events = run(agent)
    responses = only(ToolResponse, events)
    assert search.queries == ["Tower height", "quarry"]
    assert [r.repeated for r in responses] == [False, True, False, True]
    assert [r.results for r in responses] == [(TOWER,), (TOWER,), (), ()]
    tool = said(agent, "tool")
    assert tool[0] == tool[1]
    assert (events[-1].answer.finish_reason, len(events[-1].answer.searches)) == ("stop", 2)


class WithinSearch(FakeSearch):
    """One that tells what its results lack."""

    def search_within(self, query, wider):
        self.within.append((query, wider))
        return self.search(query)


@pytest.mark.parametrize(
    ("queries", "wider"),
    [
        (["Old tower height", "the TOWER: old!"], None),  # "the" is new
        (["Old tower height", "TOWER, old"], "Old tower height"),
        (["height", "Old tower height", "old tower", "tower"], "Old tower height"),  # the first that had more
        (["tower height", "height tower"], None),
        (["Old tower", "tower height"], None),
    ],
)
def test_a_query_with_fewer_words_is_searched_within_the_one_before(scripted, tmp_path, queries, wider):
    search = WithinSearch({query: [TOWER] for query in queries})
    search.within = []
    recording = RecordingSearch(search, tmp_path / "tape.jsonl")
    run(scripted([*map(call, queries), ANSWER], recording, searches=len(queries)))
    recording.close()
    made = dict.fromkeys(queries) | dict(search.within)
    assert made == dict.fromkeys(queries) | {queries[-1]: wider, **({"old tower": wider} if len(queries) > 2 else {})}
    run(scripted([call("Old tower"), call("tower"), ANSWER], FakeSearch({"Old tower": [], "tower": []})))  # has none


def test_a_new_question_is_not_searched_within_the_one_before(scripted):
    search = WithinSearch({"old tower": [TOWER], "tower": [TOWER]})
    search.within = []
    agent = scripted([call("old tower"), ANSWER, call("tower"), ANSWER], search)
    agent.ask(QUESTION)
    agent.ask(QUESTION, agent.session)
    assert search.queries == ["old tower", "tower"]
    assert search.within == []


def test_a_block_of_many_equal_calls_is_bounded(scripted):
    # Their spaces differ: exact repetition is a loop, and is noticed while it is sampled.
    calls = [{"name": "web_search", "arguments": {"query": " " * (n * n % 11) + "tower"}} for n in range(16)]
    many = "<tool_call>" + json.dumps(calls) + "</tool_call>"
    agent = scripted([many, ANSWER], searches=3)
    events = run(agent)
    assert agent.search.queries == ["tower"]
    assert len(only(ToolResponse, events)) == 3 + EXTRA_ROUNDS + 1
    assert events[-1].answer.text == SAID


def test_a_search_that_fails_is_told_and_may_be_tried_again(scripted):
    search = FakeSearch(SearchError("no network\ntoday"))
    agent = scripted([call("tower"), call("tower"), ANSWER], search)
    events = run(agent)
    assert search.queries == ["tower", "tower"]
    assert only(ToolResponse, events)[0].notice == "The search failed: no network today"
    assert json.loads(unframed(said(agent, "tool")[0])) == {"notice": "The search failed: no network today"}
    assert events[-1].answer.searches == [("tower", []), ("tower", [])]
    assert events[-1].answer.finish_reason == "stop"


def test_an_unrecorded_query_is_told_to_the_model(scripted):
    agent = scripted([call("tower"), ANSWER], ReplaySearch({}))
    (response,) = only(ToolResponse, run(agent))
    assert response.notice == 'The search failed: no search for "tower" was recorded in the given searches'


def test_a_fatal_search_error_ends_the_run_and_leaves_the_session_whole(scripted):
    search = FakeSearch(SearchError("the key is refused", fatal=True))
    agent = scripted(["Hm. " + call("tower"), ANSWER], search)
    with pytest.raises(SearchError, match="the key is refused"):
        list(agent.run(QUESTION))
    sound(agent)
    assert agent.interrupted().text == "Hm."
    assert len(agent.session.pending) == 1
    assert run(agent, "And now?", agent.session)[-1].answer.text == SAID


@pytest.mark.parametrize("thinking", [0, 1, 7])
def test_thinking_is_closed_when_its_budget_is_spent(scripted, thinking):
    agent = scripted(["Hm. " * 10, ANSWER][0 if thinking else 1 :], thinking=thinking)
    agent.engine.script[-1] = f"{SAID}<|im_end|>"
    events = run(agent)
    assert [event.part for event in only(Token, events)].count("thinking") == thinking
    assert only(Forced, events) == [Forced(CLOSE, "thinking")]
    forced = [i for i, source in zip(agent.session.ids, agent.session.sources, strict=True) if source == "forced"]
    assert forced == agent.engine.tokenizer.encode(CLOSE)
    assert forced[-2 if len(forced) > 2 else 1] == agent.engine.control.think_end or CLOSE in said(agent, "forced")
    assert (events[-1].answer.text, events[-1].answer.finish_reason) == (SAID, "stop")


def test_a_call_in_thinking_is_not_cut_by_the_budget(scripted):
    agent = scripted(["Hm. " + call("tower"), f"{SAID}<|im_end|>"], thinking=5)
    events = run(agent)
    assert agent.search.queries == ["tower"]
    assert [type(e).__name__ for e in events if not isinstance(e, Token)] == [
        "ToolCall", "ToolResponse", "Forced", "Finished",
    ]  # fmt: skip


@pytest.mark.parametrize("budget", [{"thinking": 0}, {"thinking": 3}, {}])
def test_a_model_that_opens_its_thinking_again_and_again(scripted, dense_tokenizer, budget):
    opening, words = dense_tokenizer.encode("<think>")[0], dense_tokenizer.encode(" the tower is tall")
    agent = scripted(
        lambda turn: lambda place: words[place % len(words)] if place % 5 else opening, None, 4000, **budget
    )
    events = run(agent)
    assert len(only(Forced, events)) == 2
    assert events[-1].answer.finish_reason == ("length" if budget else "loop")
    assert len(agent.session) < 3000


@pytest.mark.parametrize("budget", [0, 1, 10])
def test_the_answer_budget(scripted, budget):
    agent = scripted(["Ok.\n</think>The tower is a tall one by the sea, it is said."], answer=budget)
    events = run(agent)
    assert events[-1].answer.finish_reason == "length"
    assert [event.part for event in only(Token, events)].count("answer") == budget
    assert bool(events[-1].answer.text) == (budget > 0)


def test_loops_are_noticed(scripted, dense_tokenizer):
    cycle = dense_tokenizer.encode(" round and round")
    agent = scripted(lambda turn: lambda place: cycle[place % len(cycle)])
    events = run(agent)
    assert only(Forced, events) == [Forced(CLOSE, "loop")]
    assert events[-1].answer.finish_reason == "loop"
    assert events[-1].answer.text.startswith("round and round")
    answer = scripted(lambda turn: lambda place: cycle[place % len(cycle)]).ask("Can you tell me about yourself?")
    assert [item.kind for item in answer.unsupported] == ["uncited"]  # said to nobody's question
    agent = scripted([lambda place: cycle[place % len(cycle)], f"{SAID}<|im_end|>"])
    assert (run(agent)[-1].answer.text, agent.interrupted().text) == (SAID, SAID)


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
def test_the_turn_ends(scripted, end):
    agent = scripted([f"Ok.\n</think>\n\nHello.{end}"])
    answer = run(agent)[-1].answer
    assert (answer.text, answer.finish_reason) == ("Hello.", "stop")
    assert len(agent.session.pending) == 1


def test_thinking_that_is_never_closed_is_the_answer(scripted):
    agent = scripted(["It is tall.<|im_end|>"])
    assert run(agent)[-1].answer.text == "It is tall."
    agent = scripted(["Let me see. " + call("tower"), f"{SAID}<|im_end|>"])
    assert run(agent)[-1].answer.text == SAID


# --- the context --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompt_length(dense_tokenizer):
    opening = prompt.opening_ids(dense_tokenizer, date(2026, 1, 2), 5)
    return len(opening) + len(prompt.question_ids(dense_tokenizer, QUESTION))


def test_a_response_is_cut_to_leave_room_for_the_answer(scripted, prompt_length):
    long = [SearchResult("Tower", f"tower.md#{n}", "It is tall and old. " * 40) for n in range(3)]
    agent = scripted([call("tower"), "Enough.", f"{SAID}<|im_end|>"], FakeSearch(long), prompt_length + 500)
    reserve = agent.budget.reserve(agent.engine.max_context)
    events = []
    for event in agent.run(QUESTION):
        events.append(event)
        if isinstance(event, ToolResponse):
            assert len(agent.session) == agent.session.max_context - reserve
    (response,) = only(ToolResponse, events)
    assert response.cut
    body = unframed(*said(agent, "tool"))
    assert prompt.response_text(long).startswith(body.rstrip("\ufffd"))
    assert len(body) > 300
    assert only(Forced, events) == [Forced(CLOSE, "context")]
    assert (events[-1].answer.text, events[-1].answer.finish_reason) == (SAID, "stop")


def test_thinking_ends_where_the_answer_needs_the_room(scripted, prompt_length, dense_tokenizer):
    agent = scripted(
        [lambda place: 300 + place % 97 * place % 89, f"{SAID}<|im_end|>"], max_context=prompt_length + 400
    )
    events = run(agent)
    assert only(Forced, events) == [Forced(CLOSE, "context")]
    assert events[-1].answer.text == SAID


def test_every_size_of_the_context_ends_well(scripted, prompt_length):
    results = [SearchResult("Tower", "tower.md#1", "It is tall. " * 20)]
    long = ANSWER.replace("<|im_end|>", " ".join(str(n * n) for n in range(50)) + "<|im_end|>")
    reasons = set()
    for extra in [*range(0, 260, 4), *range(260, 800, 45)]:
        script = ["Let me look at it, it is said to be old. " + call("tower"), call("quarry"), *[long] * 3]
        agent = scripted(script, FakeSearch(results), prompt_length + extra)
        if extra < agent.budget.reserve(agent.engine.max_context):
            with pytest.raises(LonghandError, match="context full: the question takes"):
                agent.run(QUESTION)
            assert agent.interrupted() is None
            continue
        events = run(agent)
        for response in only(ToolResponse, events):
            assert response.ids == 0 or not response.cut or response.ids < extra
        reasons.add(events[-1].answer.finish_reason)
    assert reasons == {"context", "stop"}


def test_a_call_that_leaves_no_room_for_its_response_ends_the_run(scripted, prompt_length, dense_tokenizer):
    asks = "Hm. " + call("tower " * 30)
    length, reasons = len(dense_tokenizer.encode(asks)), {}
    for room in range(length - 3, length + 40):
        agent = scripted([asks, *[ANSWER] * 3], max_context=prompt_length + room, answer=8)
        events = run(agent)
        fed = [response.ids > 0 for response in only(ToolResponse, events)]
        forced = bool(only(Forced, events))
        reasons.setdefault((tuple(fed), forced), set()).add(events[-1].answer.finish_reason)
        if not any(fed) and not forced:
            assert events[-1].answer.text == "Hm."
            assert only(ToolResponse, events) == [] or agent.session.ids[-1] == agent.engine.control.tool_call_end
    # Room for less than the call; the call; closing the thinking behind it; a response; and more.
    assert reasons == {((), False): {"context"}, ((False,), False): {"context"}, ((False,), True): {"context"},
                       ((True,), False): {"context"}, ((True,), True): {"context"}}  # fmt: skip


# --- sessions -----------------------------------------------------------------------------------------------------


def test_follow_up_questions_append_only(scripted):
    search = FakeSearch({"tower": [TOWER], "quarry": [QUARRY]})
    closed = "It is in 2.\n</think>\n\nThe quarry by the river closed in 1911 [The quarry](quarry.md#2).<|endoftext|>"
    agent = scripted([call("tower"), ANSWER, call("quarry"), closed, call("TOWER"), ANSWER], search)
    session, ids = None, ()
    for question in (QUESTION, "When did the quarry close?", "And how tall is the tower?"):
        pending, cached = len(session.pending) if session else 0, session.cached if session else 0
        answer = run(agent, question, session)[-1].answer
        session = agent.session
        assert session.ids[: len(ids)] == ids
        assert (answer.unsupported, answer.recomputed, len(answer.turns)) == ([], 0, 2)
        first = answer.turns[0]
        assert (first.computed, first.reused) == (pending + first.fed + first.sampled - 1, cached)
        assert answer.turns[1].computed == 1 + answer.turns[1].fed + answer.turns[1].sampled - 1
        ids = session.ids
    assert search.queries == ["tower", "quarry"]
    assert len(session.turns) == 6
    text = "".join(span["text"] for span in answer.trace)
    assert text.count("<|im_start|>") == text.count("<|im_end|>") == 6
    assert "<|im_end|>\n<|im_start|>user\nWhen did" in text
    assert "<|endoftext|><|im_end|>\n<|im_start|>user\nAnd how" in text
    assert len(agent.engine.opened) == 1


def test_a_follow_up_that_does_not_fit_changes_nothing(scripted, prompt_length):
    agent = scripted([ANSWER, ANSWER], max_context=prompt_length + 300)
    run(agent)
    before = agent.session.ids
    with pytest.raises(LonghandError, match="context full"):
        agent.run("long " * 300, agent.session)
    assert agent.session.ids == before
    assert agent.interrupted() is None
    sound(agent)


@pytest.mark.parametrize("question", ["", " \n\t", "x" * 20_001])
def test_questions_that_are_refused(scripted, question):
    agent = scripted([])
    with pytest.raises(LonghandError, match="the question"):
        agent.run(question)
    assert agent.interrupted() is None


SCRIPT = ["I will look.\n" + call("tower"), "Also:\n" + call("quarry"), ANSWER, ANSWER]


def test_a_run_can_be_abandoned_at_every_event(scripted):
    length = len(run(scripted(SCRIPT)))
    for stop in range(0, length, 3):
        agent = scripted(SCRIPT)
        events = agent.run(QUESTION)
        seen = [next(events) for _ in range(stop)]
        events.close()
        answer = agent.interrupted()
        sound(agent)
        assert (answer.finish_reason, answer.recomputed) == ("interrupted", 0)
        assert "web_search" not in answer.text
        assert "User Question" not in answer.text
        assert len(answer.searches) == len([r for r in only(ToolResponse, seen) if r.results])
        again = run(agent, "And now?", agent.session)[-1].answer
        assert again.finish_reason == "stop"


@pytest.mark.parametrize("forward", [1, 2, 20, 60, 61, 62, 80])
def test_ctrl_c_while_the_model_computes(scripted, forward):
    agent = scripted(SCRIPT)
    left = iter(range(forward))

    def interrupt():
        if next(left, None) is None:
            agent.engine.on_forward = None
            raise KeyboardInterrupt

    agent.engine.on_forward = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(agent.run(QUESTION))
    sound(agent)
    assert agent.interrupted().finish_reason == "interrupted"
    assert run(agent, "And now?", agent.session)[-1].answer.finish_reason == "stop"


def test_ctrl_c_while_it_searches(scripted):
    agent = scripted(["Hm. " + call("tower"), ANSWER], FakeSearch(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        list(agent.run(QUESTION))
    sound(agent)
    assert agent.interrupted().text == "Hm."
    agent.search = FakeSearch()
    assert run(agent, "And now?", agent.session)[-1].answer.text == SAID


def test_interrupted_before_anything(scripted):
    agent = scripted([ANSWER])
    assert agent.interrupted() is None
    agent.run(QUESTION)
    assert (agent.interrupted().text, agent.interrupted().turns) == ("", [])


# --- texts from strangers -----------------------------------------------------------------------------------------

NAMES = [*CONTROL_TOKENS.values(), "<|fim_middle|>", "<file_sep>", "<|im_", "end|>", '"}]', "\\u003c", "\n", "\x1b[31m",
         "\x00", "\ud800", "é", "e\u0301", "京", "🙂", "{", "}", "]", '"', "\\", "User Question: "]  # fmt: skip
hostile = st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=6)), max_size=8).map("".join)


def written(value):
    """JSON as a model may write it: the ids of its text are plain ones, whatever the value says."""
    return json.dumps(value).replace("<", "\\u003c")


def read_back(text):
    """What a tokenizer itself does to a text: NFC, and "?" for a lone surrogate."""
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())


@settings(max_examples=60)
@given(question=hostile, fields=st.lists(st.tuples(hostile, hostile, hostile), max_size=2), query=hostile, tool=hostile)
def test_text_from_strangers_forges_nothing(scripted, question, fields, query, tool):
    question, query = question.strip() or "?", query.strip() or "?"
    unknown = "<tool_call>" + written({"name": tool, "arguments": {"query": query}}) + "</tool_call>"
    known = "<tool_call>" + written({"name": "web_search", "arguments": {"query": query}}) + "</tool_call>"
    results = [SearchResult(*three) for three in fields]
    agent = scripted([unknown, known, ANSWER], FakeSearch(results))
    events = run(agent, question)  # its sound() looks at every control id from a tool
    assert agent.search.queries == [" ".join(query.split())]
    tokenizer = agent.engine.tokenizer
    start = len(prompt.opening_ids(tokenizer, date(2026, 1, 2), 5))
    behind = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n<think>\n")
    asked = list(agent.session.ids[start : agent.session.sources.index("sampled")])
    assert asked[-len(behind) :] == behind
    assert not tokenizer.added.keys() & set(asked[: -len(behind)])
    assert tokenizer.decode(asked[: -len(behind)]) == read_back(question)
    for response, text in zip(only(ToolResponse, events), said(agent, "tool"), strict=True):
        assert not response.cut
        value = {"notice": response.notice} if response.notice else [r.as_dict() for r in response.results]
        assert json.loads(unframed(text)) == json.loads(read_back(json.dumps(value, ensure_ascii=False)))


# --- the cache ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", ["one", "shorter", "equal", "longer"])
def test_three_tool_turns_equal_a_whole_recomputation(tiny_engine, length):
    session = tiny_engine.session(seed=3)
    generator = torch.Generator().manual_seed(1)

    def some(count):
        return torch.randint(0, 256, (count,), generator=generator).tolist()

    session.feed(some(40))
    for turn in range(3):
        sampled = [token.id for token in session.generate(max_tokens=7, stop=())]
        assert len(session.pending) == 1
        cached = session.cached
        count = {"one": 1, "shorter": cached - 9, "equal": cached, "longer": cached + 30}[length]
        session.feed(some(count), source="tool")
        logits = session.logits()
        whole = tiny_engine.session()
        whole.feed(session.ids)
        assert float((logits - whole.logits()).abs().max()) <= 1e-5
        assert session.ids[-count - 7 : -count] == tuple(sampled)
        assert (session.turns[-1].computed, session.turns[-1].reused) == (count + 1, cached)
        assert session.recomputed == 0
        assert len(session.turns) == turn + 2


def test_the_agents_turns_equal_a_whole_recomputation(scripted, tiny_engine):
    results = [SearchResult("T", "t.md#1", "tower " * 30)]
    agent = scripted([call("a"), call("b"), call("c"), ANSWER], FakeSearch(results), 2048, tiny_engine)
    answer = run(agent)[-1].answer
    assert len(answer.turns) == 4
    whole = tiny_engine.session()
    whole.feed(agent.session.ids)
    assert float((agent.session.logits() - whole.logits()).abs().max()) <= 1e-5
    assert agent.session.recomputed == 0


def test_a_recorded_run_replays_with_the_same_ids(scripted, tiny_engine, tmp_path):
    sampling = SamplingParams(temperature=1.0, top_p=1.0, top_k=0)

    def ids(search, seed=5):
        agent = scripted(
            lambda turn: None if turn else call("tower"), search, 2048, tiny_engine, sampling, seed,
            searches=1, thinking=60, answer=20,
        )  # fmt: skip
        agent.ask(QUESTION)
        return agent.session.ids

    search = RecordingSearch(FakeSearch(), tmp_path / "cassette.jsonl")
    first = ids(search)
    search.close()
    assert ids(ReplaySearch(tmp_path / "cassette.jsonl")) == first
    assert ids(ReplaySearch(tmp_path / "cassette.jsonl"), seed=6) != first
    assert ids(FakeSearch([TOWER])) != first


@pytest.mark.parametrize("seed", range(4))
def test_a_training_sample_is_what_the_agent_makes_of_it(scripted, dense_tokenizer, seed):
    """A model that says what a sample says, with a search that finds what it shows, gives the sample's ids."""
    sampler = Sampler(seed, Prose(["The tower of Velm stands 33 metres tall, and it was finished in 1889 by a mason."]))
    seen = set()
    for _ in range(60):
        sample = sampler.sample()
        rounds = [one for exchange in sample.exchanges for one in exchange.rounds]
        if any("no more searches" in one.response for one in rounds):
            continue  # whether a limit is reached hangs on a budget that a sample does not tell
        seen.add(sample.behaviour)
        said = [text for e in sample.exchanges for text in (*(one.said for one in e.rounds), e.answer)]
        found = {}
        for one in rounds:
            told = json.loads(one.response)
            if one.learned or isinstance(told, list):  # the others are answered with a notice that the agent knows
                query = json.loads(one.said.split("<tool_call>\n")[1].split("\n</tool_call>")[0])["action_input"][
                    "query"
                ]
                failed = SearchError(told["notice"].removeprefix("The search failed: ")) if "notice" in told else None
                found[query] = failed or [SearchResult(**row) for row in told]
        agent = scripted(said, FakeSearch(found), searches=9)
        for exchange in sample.exchanges:
            agent.ask(exchange.question, agent.session)
        opening = prompt.opening_ids(dense_tokenizer, date(2026, 1, 2), 9)
        ids, labels = sample.encode(dense_tokenizer, opening)
        assert list(agent.session.ids) == ids
        sampled = [source == "sampled" for source in agent.session.sources]
        if all(one.learned for one in rounds):
            assert [label != -100 for label in labels] == sampled
        assert all(label in (-100, token_id) for label, token_id in zip(labels, ids, strict=True))
    assert len(seen) > 5
