"""Traces: nothing left out, nothing half-written, no secret."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent.events import Answer
from longhand.agent.search import SearchResult
from longhand.agent.trace import TRACE_FORMAT, json_line, redact, spans, write_trace
from longhand.engine.errors import LonghandError
from longhand.engine.session import TurnStats

CANARY = "tvly-canary-0123456789"


def answer_of(session, text="It is.", results=()):
    turns = [TurnStats(3, 3, 0, 2, 0.5, 0.25)]
    return Answer(text, [], [], [("tower", list(results))], turns, 0, "stop", spans(session))


def read(path):
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


def test_a_trace_is_read_back(tiny_engine, tmp_path):
    session = tiny_engine.session()
    session.feed(tiny_engine.tokenizer.encode("<|im_start|>user\nHöhe? 东京"))
    session.feed(tiny_engine.tokenizer.encode("</think>\n"), source="forced")
    results = [SearchResult("T", "u", "line\nseparator \u2028 and surrogate \ud800", 0.5)]
    path = tmp_path / "run.jsonl"
    write_trace(path, {"question": "Höhe? \ud800", "seed": 3}, answer_of(session, "34 m \udc80", results))
    header, *middle, outcome = read(path)
    assert header == {"type": "header", "format": TRACE_FORMAT, "question": "Höhe? \ud800", "seed": 3}
    assert middle == [{"type": "span", **span} for span in spans(session)]
    assert [row["source"] for row in middle] == ["prompt", "forced"]
    assert "Höhe? 东京" in path.read_text("utf-8")
    assert outcome["type"] == "outcome"
    assert (outcome["answer"], outcome["finish_reason"], outcome["recomputed"]) == ("34 m \udc80", "stop", 0)
    assert outcome["turns"] == [vars(TurnStats(3, 3, 0, 2, 0.5, 0.25))]
    assert outcome["searches"] == [{"query": "tower", "results": [results[0].as_dict()]}]


def test_written_beside_and_renamed(tiny_engine, tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    path.write_text("before\n")
    seen = []
    replace = Path.replace

    def watched(self, target):
        seen.append((self.parent, path.read_text(), len(read(self))))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write_trace(path, {}, answer_of(tiny_engine.session()))
    assert seen == [(tmp_path, "before\n", 2)]
    assert len(read(path)) == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/run.jsonl", "a folder", "a file/run.jsonl"])
def test_what_cannot_be_written_leaves_nothing(tiny_engine, tmp_path, name):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LonghandError, match="the trace cannot be written") as error:
        write_trace(tmp_path / name, {}, answer_of(tiny_engine.session()))
    assert str(tmp_path / name) in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_half_way_leaves_the_old_trace(tiny_engine, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text("before\n")
    with pytest.raises(TypeError):
        write_trace(path, {"question": object()}, answer_of(tiny_engine.session()))
    assert path.read_text() == "before\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("secret", [CANARY, f" {CANARY}\n", 'tvly-"quoted"\\canary', "tvly-schlüssel"])
@pytest.mark.parametrize("name", ["TAVILY_API_KEY", "HF_TOKEN"])
def test_no_secret_is_written(tiny_engine, tmp_path, monkeypatch, secret, name):
    monkeypatch.setenv(name, secret)
    value, tokenizer = secret.strip(), tiny_engine.tokenizer
    session = tiny_engine.session()
    session.feed(tokenizer.encode_literal(f"my key is {value}?"))
    session.feed(tokenizer.encode_literal("nothing to hide"), source="sampled")
    leak = SearchResult(f"{value}", f"https://a.example/?key={value}", f"the key {value}{value}.")
    session.feed(tokenizer.encode_literal(json.dumps([leak.as_dict()], ensure_ascii=False)), source="tool")
    path = tmp_path / "run.jsonl"
    write_trace(path, {"question": f"is it {value}?"}, answer_of(session, f"It is {value}.", [leak]))
    header, asked, sampled, tool, outcome = rows = read(path)
    for row in rows:
        assert value not in json.dumps(row, ensure_ascii=False)
        assert json.dumps(value, ensure_ascii=False)[1:-1] not in row.get("text", "")
        assert value not in tokenizer.decode(row.get("ids", []))  # ids would spell it out
    assert header["question"] == "is it [redacted]?"
    assert outcome["answer"] == "It is [redacted]."
    assert outcome["searches"][0]["results"][0]["content"] == "the key [redacted][redacted]."
    assert (asked["ids"], tool["ids"]) == ([], [])
    assert asked["redacted"] == len(tokenizer.encode_literal(f"my key is {value}?"))
    assert tokenizer.decode(sampled["ids"]) == sampled["text"] == "nothing to hide"


def test_redact():
    assert redact("a secret-1 b secret-1", ["secret-1"]) == "a [redacted] b [redacted]"
    assert redact("a short b", ["short", ""]) == "a short b"


@given(st.recursive(st.text() | st.just("\ud800\udc00\udfff"), lambda inner: st.lists(inner, max_size=3)))
def test_json_line_is_one_line_of_utf8_that_reads_back(value):
    line = json_line(value)
    assert "\n" not in line
    assert json.loads(line.encode("utf-8").decode("utf-8")) == json.loads(json.dumps(value))
