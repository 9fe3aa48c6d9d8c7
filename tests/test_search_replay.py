"""Searches that need no network: replay, and what a recording leaves behind."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from longhand.agent.search import RecordingSearch, ReplaySearch, SearchError, SearchResult
from longhand.engine.errors import LonghandError

TOWER = SearchResult("Tower", "tower.md#1", "It is 34 metres tall.", score=0.5)


class Scripted:
    """A search that answers from a list; an error in it is raised."""

    name = "scripted"

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)

    def search(self, query):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_a_result_shows_no_score():
    assert TOWER.as_dict() == {"title": "Tower", "url": "tower.md#1", "content": "It is 34 metres tall."}


def test_replay_answers_up_to_white_space():
    replay = ReplaySearch({"height  of\ttower ": [TOWER], "nothing": []})
    assert replay.search(" height of\n tower") == [TOWER]
    assert replay.search("nothing") == []


def test_replay_takes_plain_dicts():
    (result,) = ReplaySearch({"q": [TOWER.as_dict()]}).search("q")
    assert result == SearchResult("Tower", "tower.md#1", "It is 34 metres tall.", score=None)


@pytest.mark.parametrize("last", ["", "\n"])
def test_a_recording_goes_on_behind_a_last_line_without_its_end(tmp_path, last):
    path = tmp_path / "tape.jsonl"
    path.write_text(json.dumps({"query": "a", "results": []}) + last)
    recording = RecordingSearch(Scripted([TOWER]), path)
    recording.search("b")
    recording.close()
    replay = ReplaySearch(path)
    assert (replay.search("a"), len(replay.search("b"))) == ([], 1)


def test_links_and_what_is_lacking_are_kept(tmp_path):
    named = SearchResult("Tower", "tower.md#1", "Ida Rom built it.", links=("Ida Rom",), lacks=("when", "date"))
    assert SearchResult.from_dict(named.as_dict()) == named
    recording = RecordingSearch(Scripted([named]), tmp_path / "tape.jsonl")
    recording.search("tower")
    recording.close()
    assert ReplaySearch(tmp_path / "tape.jsonl").search("tower") == [named]


def test_a_result_with_a_key_in_it_is_shown_without(monkeypatch):
    key = "tvly-a1B2c3D4e5F6"
    monkeypatch.setenv("TAVILY_API_KEY", key)
    shown = SearchResult(key, key, key, 0.5, (key,), (key,)).redacted()
    assert key not in repr(shown)
    assert (shown.score, len(shown.links), len(shown.lacks)) == (0.5, 1, 1)


@pytest.mark.parametrize("field", ["links", "lacks"])
@pytest.mark.parametrize("texts", ["Ida", [1], None, {"a": 1}])
def test_links_and_lacks_that_are_no_list_of_text_are_refused(field, texts):
    with pytest.raises(TypeError):
        SearchResult.from_dict({**TOWER.as_dict(), field: texts})


def test_an_unrecorded_query_is_named_with_its_file(tmp_path):
    path = tmp_path / "tape.jsonl"
    path.write_text('{"query": "a", "results": []}\n')
    with pytest.raises(SearchError, match="never asked") as caught:
        ReplaySearch(path).search("never asked")
    assert str(path) in str(caught.value)
    assert caught.value.fatal  # a run that goes on is not the one that was recorded
    with pytest.raises(SearchError) as caught:
        ReplaySearch({}).search("never asked")
    assert not caught.value.fatal


def test_a_recording_replays_results_and_errors(tmp_path):
    path = tmp_path / "tape.jsonl"
    scripted = Scripted([TOWER], SearchError("quota is\nused up", fatal=True), [])
    recording = RecordingSearch(scripted, path)
    assert recording.name == "scripted"
    assert recording.search("tower") == [TOWER]
    assert len(path.read_text().splitlines()) == 1  # flushed before close
    with pytest.raises(SearchError):
        recording.search("more")
    recording.search("none")
    recording.close()

    replay = ReplaySearch(path)
    assert [result.as_dict() for result in replay.search("tower")] == [TOWER.as_dict()]
    with pytest.raises(SearchError, match="quota is used up") as caught:
        replay.search("more")
    assert caught.value.fatal
    assert replay.search("none") == []


def test_a_recording_appends(tmp_path):
    path = tmp_path / "tape.jsonl"
    for query in ("a", "b"):
        recording = RecordingSearch(Scripted([TOWER]), path)
        recording.search(query)
        recording.close()
    assert [json.loads(line)["query"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_a_query_recorded_twice_replays_in_order_then_keeps_the_last(tmp_path):
    path = tmp_path / "tape.jsonl"
    recording = RecordingSearch(Scripted(SearchError("slow"), [TOWER]), path)
    with pytest.raises(SearchError):
        recording.search("q")
    recording.search("q")
    recording.close()
    replay = ReplaySearch(path)
    with pytest.raises(SearchError, match="slow"):
        replay.search("q")
    assert len(replay.search("q")) == len(replay.search(" q ")) == 1


@given(query=st.text(), title=st.text(), content=st.text(st.characters()))
def test_any_text_survives_the_tape(tmp_path_factory, query, title, content):
    path = tmp_path_factory.mktemp("tape") / "tape.jsonl"
    result = SearchResult(title, "u\ud800", content)  # a lone surrogate cannot be written as UTF-8
    recording = RecordingSearch(Scripted([result]), path)
    recording.search(query)
    recording.close()
    assert ReplaySearch(path).search(query) == [result]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"results": []}',
        '{"query": 3, "results": []}',
        '{"query": "a"}',
        '{"query": "a", "results": {}}',
        '{"query": "a", "results": [{"title": "t"}]}',
        '{"query": "a", "results": [{"title": "t", "url": null, "content": "c"}]}',
        '{"query": "a", "results": ["x"]}',
        '{"query": "a", "error": 5}',
    ],
)
def test_a_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "tape.jsonl"
    path.write_text('{"query": "a", "results": []}\n\n' + line + "\n")
    with pytest.raises(LonghandError, match="line 3") as caught:
        ReplaySearch(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(LonghandError, match=r"missing\.jsonl"):
        ReplaySearch(tmp_path / "missing.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"query": "\xe9"}')
    with pytest.raises(LonghandError, match=r"latin.jsonl: it is not UTF-8 text"):
        ReplaySearch(tmp_path / "latin.jsonl")
    with pytest.raises(LonghandError, match="no-such-folder"):
        RecordingSearch(Scripted(), tmp_path / "no-such-folder" / "tape.jsonl")
