"""Traces: written while the run goes on, nothing left out, no secret; read back, also when torn."""

import json
import math
import sys
from datetime import date
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent import ask, cli
from longhand.agent.agent import Agent
from longhand.agent.budget import Budget
from longhand.agent.events import Finished, Token
from longhand.agent.prepare import RedactedSearch
from longhand.agent.redact import RedactedStream, json_line, redact
from longhand.agent.search import RecordingSearch, ReplaySearch, SearchError, SearchResult
from longhand.agent.trace import TRACE_FORMAT, Recorder, spans
from longhand.agent.trace_export import sample
from longhand.agent.trace_file import read_trace
from longhand.agent.trace_lines import TraceLines
from longhand.engine.engine import Engine
from longhand.engine.errors import LonghandError
from rich.console import Console

CANARY = "tvly-canary-0123456789"
QUERY = "old tower tall"
CALL = '<tool_call>\n{"action": "web_search", "action_input": {"query": "%s"}}\n</tool_call>'
THOUGHT = f"I look.\n{CALL % QUERY}"
SAID = "The old tower is 34 metres tall. [Tower](tower.md#1)"
ANSWER = f"It says so.\n</think>\n\n{SAID}<|im_end|>"
TOWER = SearchResult("Tower", "tower.md#1", "The old tower is 34 metres tall.")
SPAN_KEYS = ["type", "turn", "source", "start", "ids", "text", "cached", "computed", "seconds"]


@pytest.fixture
def parrot(tiny_engine):
    """parrot(text, ..., found={query: results}, budget=...) -> an Agent whose model samples these, turn by turn."""

    def make(*turns, found=None, **budget):
        ids = iter([token_id for text in turns for token_id in tiny_engine.tokenizer.encode(text)])

        def logits(hidden):
            return torch.full((tiny_engine.config.vocab_size,), -1e9).index_fill(0, torch.tensor(next(ids)), 0.0)

        real = tiny_engine
        decoder = SimpleNamespace(config=real.config, hidden=real.decoder.hidden, logits=logits)
        engine = Engine(decoder, real.tokenizer, real.device, real.dtype, real.kv_dtype, 2048, None, "print", "parrot")
        search = ReplaySearch({QUERY: [TOWER]} if found is None else found)
        return Agent(engine, search, Budget(**budget), today=date(2026, 1, 2))

    return make


def recorded(agent, path, question="How tall?", session=None, recorder=None, check=None):
    """Run and record a question; returns the answer and the recorder."""
    recorder = recorder or Recorder(path)
    events = agent.run(question, session)
    recorder.begin(agent, question)
    for event in events:
        recorder.see(event)
        if check is not None:
            check(event)
    return event.answer, recorder


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


@given(
    parts=st.lists(
        st.tuples(
            st.sampled_from(["prompt", "sampled", "tool", "forced"]),
            st.lists(st.integers(0, 255), min_size=1, max_size=9),
        ),
        max_size=9,
    )
)
def test_spans_cover_all_ids_in_order(tiny_engine, parts):
    session = tiny_engine.session()
    for source, ids in parts:
        session.feed(ids, source=source)
    found = spans(session)
    assert [i for span in found for i in span["ids"]] == list(session.ids)
    assert [span["source"] for span in found for _ in span["ids"]] == list(session.sources)
    assert [span["start"] for span in found] == [sum(len(s["ids"]) for s in found[:n]) for n in range(len(found))]
    assert all(one["source"] != two["source"] for one, two in pairwise(found))
    assert all(span["text"] == tiny_engine.tokenizer.decode(span["ids"]) for span in found)


def test_a_whole_run(parrot, tmp_path):
    agent, path = parrot(THOUGHT, ANSWER), tmp_path / "run.jsonl"
    answer, _ = recorded(agent, path)
    header, *middle, outcome = rows_of(path)
    assert (header["type"], header["format"], header["question"]) == ("header", TRACE_FORMAT, "How tall?")
    wanted = {"model", "quantization", "tokenizer", "dtype", "rope", "vocab", "max_context", "search", "template",
              "today", "sampling", "budget", "seed", "device", "kernels", "longhand", "torch", "name"}  # fmt: skip
    assert wanted <= set(header)
    assert [list(row)[: len(SPAN_KEYS)] for row in middle] == [SPAN_KEYS] * 4
    assert [(row["turn"], row["source"]) for row in middle] == [(1, "prompt"), (1, "sampled"), (2, "tool"),
                                                               (2, "sampled")]  # fmt: skip
    session = agent.session
    trace = read_trace(path)
    assert (trace.ids, trace.sources) == (list(session.ids), list(session.sources))
    assert sum(row["computed"] for row in middle) == session.cached == len(session) - 1
    assert [row["stats"] for row in middle if "stats" in row] == [vars(turn) for turn in answer.turns]
    prompt, first, tool, second = trace.spans
    assert (prompt.cached, first.cached, tool.cached) == (0, prompt.end, first.end - 1)
    assert tool.computed == tool.size + 1  # and the one that was pending
    assert [row["position"] for row in first.logits + second.logits] == [
        first.start, first.end - 1, second.start, second.end - 1,
    ]  # fmt: skip
    assert [len(span.logprobs) for span in (first, second)] == [first.size, second.size]
    assert tool.search == {"query": QUERY, "results": [TOWER.as_dict()], "error": None, "notice": None,
                           "repeated": False, "cut": False}  # fmt: skip
    assert [name for name, _, _ in first.parts] == ["thinking", "call"]
    assert [name for name, _, _ in second.parts] == ["thinking", "answer"]
    assert all(sum(length for _, _, length in span.parts) == len(span.text) for span in (first, second))
    assert (outcome["answer"], outcome["finish_reason"], outcome["recomputed"]) == (SAID, "stop", 0)
    assert (trace.state, trace.recomputed, trace.questions) == ("", 0, ["How tall?"])


def test_it_can_be_read_at_every_event(parrot, tmp_path):
    """A run that is killed anywhere leaves a valid trace up to its last span."""
    agent, path, seen = parrot(THOUGHT, ANSWER), tmp_path / "run.jsonl", []

    def check(event):
        trace = read_trace(path)
        assert trace.ids == list(agent.session.ids[: len(trace.ids)])
        assert not trace.torn
        assert bool(trace.state) != isinstance(event, Finished)
        seen.append(len(trace.spans))

    recorded(agent, path, check=check)
    assert sorted(set(seen)) == [1, 2, 3, 4] or sorted(set(seen)) == [1, 2, 3, 4, 0]


def test_a_torn_last_line_is_passed_over_at_every_byte(parrot, tmp_path):
    path, cut = tmp_path / "run.jsonl", tmp_path / "cut.jsonl"
    recorded(parrot(THOUGHT, ANSWER), path)
    data = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(data) if byte == 10]
    for end in range(ends[0] + 1, len(data), 97):
        cut.write_bytes(data[:end])
        trace = read_trace(cut)
        lines = sum(one <= end for one in ends) - 1
        assert len(trace.spans) in (lines, lines + 1)  # a line that lacks its newline alone is whole
        assert trace.state
    cut.write_bytes(data[: ends[0] - 5])
    with pytest.raises(LonghandError, match="line 1 is damaged"):
        read_trace(cut)


def test_forced_ids_follow_ups_and_a_failed_search(parrot, tmp_path):
    agent = parrot(THOUGHT, "on and on and on and on", f"{SAID}<|im_end|>", ANSWER, thinking=60,
                   found={QUERY: SearchError("it is down")})  # fmt: skip
    path = tmp_path / "run.jsonl"
    agent.budget = Budget(thinking=len(agent.engine.tokenizer.encode(THOUGHT)) + 3)
    _, recorder = recorded(agent, path)
    trace = read_trace(path)
    assert trace.ids == list(agent.session.ids)
    tool, forced = (next(s for s in trace.spans if s.source == source) for source in ("tool", "forced"))
    assert tool.search["error"] == "it is down"
    assert "it is down" in tool.search["notice"]
    assert forced.reason == "thinking"
    assert sum(span.computed for span in trace.spans) == agent.session.cached
    recorded(agent, path, "And now?", agent.session, recorder)
    trace = read_trace(path)
    assert trace.questions == ["How tall?", "And now?"]
    assert (trace.ids, trace.sources) == (list(agent.session.ids), list(agent.session.sources))
    assert sum(span.computed for span in trace.spans) == agent.session.cached
    assert (len(trace.outcomes), trace.state, trace.recomputed) == (2, "", 0)


@pytest.mark.parametrize("events", [0, 1, 5, 33, 36])
def test_an_interrupted_run(parrot, tmp_path, events):
    agent, path = parrot(THOUGHT, ANSWER), tmp_path / "run.jsonl"
    run, recorder = agent.run("How tall?"), Recorder(path)
    recorder.begin(agent, "How tall?")
    for _, event in zip(range(events), run, strict=False):
        recorder.see(event)
    recorder.finish(agent.interrupted())
    trace = read_trace(path)
    assert (trace.ids, trace.sources) == (list(agent.session.ids), list(agent.session.sources))
    assert trace.outcomes[-1]["finish_reason"] == "interrupted"
    assert sum(span.computed for span in trace.spans) == agent.session.cached


def test_a_refused_question_keeps_the_old_trace(parrot, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("before\n")
    with pytest.raises(LonghandError, match="context full"):
        recorded(parrot(ANSWER), path, "long " * 3000)
    assert path.read_text() == "before\n"


def test_what_cannot_be_written(parrot, tmp_path):
    with pytest.raises(LonghandError, match="the trace cannot be written"):
        recorded(parrot(ANSWER), tmp_path / "missing" / "run.jsonl")
    with pytest.raises(LonghandError, match="the trace cannot be written"):
        recorded(parrot(ANSWER), tmp_path)
    assert list(tmp_path.iterdir()) == []


HEADER = {"type": "header", "format": TRACE_FORMAT}
DAMAGED = {
    "no such file": (None, "cannot be read"),
    "nothing": ("", "is empty"),
    "prose": ("The old tower\n\n", "line 1 is damaged: not JSON"),
    "another file": ('{"query": "x"}\n', "not a Longhand trace"),
    "a list": ("[1]\n", "not a Longhand trace"),
    "bytes": (b"\xff\xfe\n\n", "line 1 is damaged"),
    "deep": ("[" * 100_000 + "\n\n", "line 1 is damaged"),
    "older": (json.dumps({**HEADER, "format": "longhand-trace-1"}), "written by an older Longhand"),
    "newer": (json.dumps({**HEADER, "format": "longhand-trace-9"}), "format 'longhand-trace-9' is not known"),
    "bare header": (json.dumps(HEADER), "line 1 is damaged: the header's question"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_file_that_is_no_trace(tmp_path, case):
    content, message = DAMAGED[case]
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(LonghandError) as error:
        read_trace(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [{"start": 1}, {"source": "web"}, {"ids": [10**9]}, {"ids": "abc"}, {"ids": [True]}, {"turn": None}, {"text": 3},
     {"cached": -1}, {"logprobs": [1]}, {"logits": [{"position": 0}]}, {"parts": 3}, {"parts": [["x"]]},
     {"stats": {"fed": 1}}, {"type": "noise"}, {"search": {"query": 3}}, {"seconds": "fast"}, {"seconds": 10**400},
     {"search": {"query": "q", "results": [], "error": None, "notice": None, "cut": False}},
     {"stats": {"fed": 1, "computed": 1, "reused": 0, "sampled": 0, "prefill_seconds": math.nan, "decode_seconds": 0}}],
)  # fmt: skip
def test_a_damaged_span_is_named(parrot, tmp_path, change):
    path = tmp_path / "run.jsonl"
    recorded(parrot(ANSWER), path)
    rows = rows_of(path)
    rows[1] |= change
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(LonghandError, match=r"line [23] is damaged"):
        read_trace(path)


@pytest.mark.parametrize("secret", [CANARY, f" {CANARY}\n", 'tvly-"quoted"\\canary', "tvly-schlüssel"])
@pytest.mark.parametrize("name", ["TAVILY_API_KEY", "HF_TOKEN"])
def test_no_secret_is_written(parrot, tmp_path, monkeypatch, secret, name):
    monkeypatch.setenv(name, secret)
    value = secret.strip()
    leak = SearchResult(f"{value}", f"https://a.example/?key={value}", f"the key {value}{value}.")
    said = f"It is {value}. [Tower](tower.md#1)"
    agent = parrot(THOUGHT, f"</think>\n\n{said}<|im_end|>", found={QUERY: [leak]})
    path = tmp_path / "run.jsonl"
    recorded(agent, path, f"is it {value}?")
    rows, tokenizer = rows_of(path), agent.engine.tokenizer
    for row in rows:
        assert value not in json.dumps(row, ensure_ascii=False)
        assert json.dumps(value)[1:-1] not in path.read_text("utf-8")
        assert value not in tokenizer.decode(row.get("ids", []))  # ids would spell it out
    assert rows[0]["question"] == "is it [redacted]?"
    assert rows[-1]["answer"].startswith("It is [redacted].")
    trace = read_trace(path)
    redacted = [span.source for span in trace.spans if span.redacted]
    assert redacted == ["prompt", "tool", "sampled"]
    assert [span.size for span in trace.spans] == [len(s["ids"]) for s in spans(agent.session)]
    assert all(not span.logits and not span.logprobs for span in trace.spans if span.redacted)
    with pytest.raises(LonghandError, match="a span that held a secret was redacted"):
        trace.whole_ids("verified")


def test_a_secret_across_two_spans(parrot, tmp_path, monkeypatch):
    secret = f"looks\n</think>\n\n{CANARY}"
    monkeypatch.setenv("TAVILY_API_KEY", secret)
    agent, path = parrot("It looks", f"{CANARY} is it<|im_end|>"), tmp_path / "run.jsonl"
    agent.budget = Budget(thinking=len(agent.engine.tokenizer.encode("It looks")))
    recorded(agent, path)
    trace = read_trace(path)
    assert secret not in "".join(span.text for span in trace.spans)
    assert secret not in agent.engine.tokenizer.decode(trace.ids)
    assert trace.spans[-1].redacted


def test_no_secret_at_other_sinks(parrot, tmp_path, monkeypatch, capsys):
    """--json, standard error, the terminal (id by id), a cassette, and what a search hands to the model."""
    monkeypatch.setenv("TAVILY_API_KEY", CANARY)
    leak = SearchResult(CANARY, f"u?{CANARY}", f"the {CANARY}.")
    cassette = tmp_path / "cassette"
    search = RecordingSearch(RedactedSearch(ReplaySearch({QUERY: [leak], CANARY: SearchError(CANARY)})), cassette)
    agent = parrot(THOUGHT, CALL % CANARY, f"Is it {CANARY}?\n</think>\n\n{CANARY} it is {CANARY}<|im_end|>")
    agent.search = search
    answer, _ = ask.run_question(agent, f"is it {CANARY}?", Console())
    print(json_line(ask.as_object(answer, agent, SimpleNamespace(as_dict=lambda _: {}))))
    print(cli.one_line(LonghandError(f"bad {CANARY}")), file=sys.stderr)
    said = capsys.readouterr()
    assert "[redacted] it is [redacted]" in said.out
    assert CANARY not in said.out + said.err
    assert CANARY not in cassette.read_text()
    tool = [span["text"] for span in spans(agent.session) if span["source"] == "tool"]
    assert len(tool) == 2
    assert CANARY not in "".join(tool)


def test_a_span_behind_a_secret_keeps_its_ids(tmp_path, monkeypatch):
    monkeypatch.setenv("TAVILY_API_KEY", CANARY)
    lines = TraceLines(tmp_path / "run.jsonl")
    lines.open()
    row = {"logprobs": [], "parts": [], "logits": []}
    for text in (f"my key is {CANARY}", "What is the Velm Bridge?", CANARY[:9], f"{CANARY[9:]} it is"):
        lines.span({**row, "ids": [1, 2], "text": text})
    lines.close()
    written = [json.loads(line) for line in lines.path.read_text("utf-8").splitlines()]
    assert [line["ids"] for line in written] == [[], [1, 2], [1, 2], []]
    assert written[1]["text"] == "What is the Velm Bridge?"
    assert written[3]["text"] == "[redacted]"


def test_redact():
    assert redact("a secret-1 b secret-1", ["secret-1"]) == "a [redacted] b [redacted]"
    assert redact("a short b", ["short", ""]) == "a short b"


@given(st.data())
def test_a_stream_of_pieces_shows_what_the_whole_would(data):
    text = data.draw(st.lists(st.sampled_from([CANARY, CANARY[:9], "tv", "l", "y-", " ", "x"])).map("".join))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAVILY_API_KEY", CANARY)
        stream = RedactedStream()
        shown = [stream.push(text[a:b]) for a, b in pairwise([0, *cuts, len(text)])]
        assert "".join(shown) + stream.flush() == redact(text)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["prompt", "sampled", "tool", "forced"]))))
def test_only_sampled_ids_have_labels(pairs):
    ids, sources = [i for i, _ in pairs], [source for _, source in pairs]
    made = sample(ids, sources)
    assert made["input_ids"] == ids
    assert made["labels"] == [i if source == "sampled" else -100 for i, source in pairs]


@given(st.recursive(st.text() | st.just("\ud800\udc00\udfff"), lambda inner: st.lists(inner, max_size=3)))
def test_json_line_is_one_line_of_utf8_that_reads_back(value):
    line = json_line(value)
    assert "\n" not in line
    assert json.loads(line.encode("utf-8").decode("utf-8")) == json.loads(json.dumps(value))


def test_tokens_that_are_events_carry_what_is_written(parrot, tmp_path):
    agent, path, tokens = parrot(THOUGHT, ANSWER), tmp_path / "run.jsonl", []
    recorded(agent, path, check=lambda event: tokens.append(event) if isinstance(event, Token) else None)
    trace = read_trace(path)
    assert [p for span in trace.spans for p in span.logprobs] == [round(token.logprob, 6) for token in tokens]
