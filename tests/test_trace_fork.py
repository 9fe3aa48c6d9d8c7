"""Traces of samples and branches: whole traces, in which what they share is noted as reused, once computed."""

import json
from datetime import date
from pathlib import Path

import longhand
import pytest
from longhand import DEMO, Agent, Budget, Engine, SamplingParams
from longhand.agent import branch
from longhand.agent.search import ReplaySearch, SearchError, SearchResult
from longhand.agent.trace import Recorder
from longhand.agent.trace_export import export
from longhand.agent.trace_file import read_trace
from longhand.agent.trace_fork import OTHER_QUERY, before, numbered
from longhand.agent.trace_page import page
from longhand.agent.trace_replay import agent_of, replay
from longhand.agent.trace_verify import TOLERANCE, verify
from longhand.engine.errors import LonghandError

pytestmark = pytest.mark.skipif(not (DEMO / "config.json").exists(), reason=f"{DEMO} is not there: train it first")

DOCS = Path(longhand.__file__).parent / "agent" / "demo" / "docs"
QUESTIONS = ["When was QwQ-32B released?", "How many layers does QwQ-32B have?", "Hello! Who are you?"]
CANARY = "tvly-canary-0123456789"
OTHER = (SearchResult("T", "t.md#1", "Nothing is known."),)


@pytest.fixture(scope="module")
def engine(demo_engine):
    return demo_engine


@pytest.fixture(scope="module")
def search(demo_search):
    return demo_search


@pytest.fixture(scope="module")
def agent(engine, search):
    return Agent(engine, search, Budget(), SamplingParams(1.2), 4, date(2026, 1, 2))


@pytest.fixture(scope="module")
def traced(engine, search, tmp_path_factory):
    """traced(question, ...) -> the path of a trace of these questions over one session."""
    made = {}

    def make(*questions):
        if questions not in made:
            path = made[questions] = tmp_path_factory.mktemp("trace") / "run.jsonl"
            agent = Agent(engine, search, seed=0, today=date(2026, 1, 2))
            recorder, session = Recorder(path), None
            for question in questions:
                events = agent.run(question, session)
                session = agent.session
                recorder.begin(agent, question)
                for event in events:
                    recorder.see(event)
        return made[questions]

    return make


def writer(path):
    return lambda number: Recorder(numbered(path, number))


def holds(trace, engine, prefix):
    """What every trace of a fork must be: nothing computed that is in the prefix, verified, replayed, exported."""
    assert trace.header["fork"]["ids"] == prefix.computed
    assert trace.header["fork"]["seconds"] == pytest.approx(prefix.prefill_seconds, abs=1e-6)
    shared = [span for span in trace.spans if span.start < prefix.computed]
    assert shared[-1].end == prefix.computed
    assert all((span.computed, span.cached, span.seconds) == (0, span.end, 0) for span in shared)
    assert all(span.stats is None or span.end > prefix.computed for span in shared)
    assert sum(span.computed for span in trace.spans) == len(trace.ids) - 1 - prefix.computed
    assert (trace.recomputed, trace.state) == (0, "")
    checked = list(verify(trace, engine))
    assert max(turn.scaled for turn in checked) <= TOLERANCE["float32"]
    assert all(turn.turn == span.turn for turn, span in zip(checked, (s for s in trace.spans if s.stats), strict=True))
    assert all(turn.reused >= prefix.computed for turn in checked)
    again = replay(trace, engine)
    assert (again.position, again.recorded, again.recomputed) == (None, len(trace.ids), 0)
    (line,) = export([trace]).splitlines()
    assert json.loads(line)["input_ids"] == trace.ids


def test_each_sample_has_a_trace_of_its_own(engine, search, agent, tmp_path):
    path = tmp_path / "run.jsonl"
    prefix, found = branch.fork_samples(agent, QUESTIONS[1], 3, writer(path))
    samples = list(found)
    assert [sample.trace.name for sample in samples] == ["run.jsonl", "run-2.jsonl", "run-3.jsonl"]
    for number, sample in enumerate(samples):
        trace = read_trace(sample.trace)
        assert (trace.header["fork"]["name"], trace.header["seed"]) == (f"sample {number + 1}", 4 + number)
        holds(trace, engine, prefix)
        alone = Agent(engine, search, sampling=SamplingParams(1.2), seed=4 + number, today=date(2026, 1, 2))
        recorder = Recorder(tmp_path / "alone.jsonl")
        events = alone.run(QUESTIONS[1])
        recorder.begin(alone, QUESTIONS[1])
        for event in events:
            recorder.see(event)
        twin = read_trace(tmp_path / "alone.jsonl")
        assert "fork" not in twin.header
        assert export([trace]) == export([twin])
        names = ("turn", "source", "start", "ids", "logprobs", "parts", "search", "question")
        assert [[getattr(span, name) for name in names] for span in trace.spans] == [
            [getattr(span, name) for name in names] for span in twin.spans
        ]
        assert [span.computed for span in trace.spans[1:]] == [span.computed for span in twin.spans[1:]]
        assert trace.outcomes[0]["answer"] == twin.outcomes[0]["answer"] == sample.answer.text


@pytest.mark.parametrize("questions", [QUESTIONS[:1], QUESTIONS[:2], QUESTIONS])
def test_each_branch_has_a_trace_of_its_own(engine, search, traced, questions, tmp_path):
    trace = read_trace(traced(*questions))
    tool = [span for span in trace.spans if span.source == "tool"][-1]
    known = sum(span.question is not None for span in trace.spans if span.start < tool.start)
    same = tuple(SearchResult(**result) for result in tool.search["results"])
    responses = [branch.Response("same", same), branch.Response("other", OTHER)]
    prefix, found = branch.branch(trace, agent_of(trace, engine, search), tool.turn, responses,
                                  writer(tmp_path / "b.jsonl"))  # fmt: skip
    first, second = [read_trace(one.trace) for one in found]
    for made in (first, second):
        holds(made, engine, prefix)
        assert made.questions == trace.questions[:known]
        assert made.outcomes[:-1] == trace.outcomes[: known - 1]
        notes = ("turn", "source", "start", "ids", "text", "logprobs", "parts", "search", "question", "reason")
        assert [[getattr(span, name) for name in notes] for span in made.spans if span.end <= tool.start] == [
            [getattr(span, name) for name in notes] for span in trace.spans if span.end <= tool.start
        ]
        assert made.stats[0][0] == tool.turn
    assert first.ids == trace.ids[: len(first.ids)]
    assert second.spans[len([s for s in trace.spans if s.end <= tool.start])].search["results"][0]["title"] == "T"
    # A branch can be branched from, like any trace.
    agent, more = agent_of(second, engine, search), [branch.Response("again", OTHER)]
    again, deeper = branch.branch(second, agent, tool.turn, more, writer(tmp_path / "c.jsonl"))
    (third,) = [read_trace(one.trace) for one in deeper]
    holds(third, engine, again)
    assert third.ids == second.ids


def test_another_query_is_written_as_forced(engine, search, traced, tmp_path):
    trace = read_trace(traced(QUESTIONS[0]))
    response = branch.searched_response(search, "QwQ-32B layers")
    agent = agent_of(trace, engine, search)
    prefix, found = branch.branch(trace, agent, 2, [response], writer(tmp_path / "q.jsonl"))
    (only,) = list(found)
    made = read_trace(only.trace)
    holds(made, engine, prefix)
    prompt, cut, forced, tool, sampled = made.spans
    whole = trace.spans[1]
    assert (cut.ids, cut.logprobs) == (whole.ids[: cut.size], whole.logprobs[: cut.size])
    assert cut.size < whole.size
    assert cut.parts == [("thinking", cut.size, len(cut.text))]
    assert (forced.source, forced.reason, forced.cached) == ("forced", OTHER_QUERY, prefix.computed)
    assert (tool.search["query"], tool.cached) == ("QwQ-32B layers", forced.end)
    assert sampled.stats["reused"] == prefix.computed == prompt.size + cut.size
    labels = json.loads(export([made]))["labels"]
    assert all(label == -100 for label in labels[forced.start : tool.end])
    shown = page(made)
    assert "another query" in shown
    assert "were computed once, for all of them" in shown


@pytest.mark.parametrize("questions", [QUESTIONS[:1], QUESTIONS])
def test_what_comes_before_any_id(traced, questions):
    """Cut anywhere, the prefix is a prefix: its ids, its parts, its outcomes."""
    trace = read_trace(traced(*questions))
    for end in (1, *(span.end + n for span in trace.spans for n in (-1, 0, 1))):
        rows = list(before(trace, end))
        spans = [row for row in rows if not isinstance(row, dict)]
        assert [i for span in spans for i in span.ids] == trace.ids[:end]
        assert all(len(span.logprobs) in (0, span.size) for span in spans)
        assert all(sum(ids for _, ids, _ in span.parts) in (0, span.size) for span in spans)
        assert sum(isinstance(row, dict) for row in rows) == sum(s.question is not None for s in spans[1:])


class Broken:
    """A search that ends a run."""

    name = "print"

    def __init__(self, error):
        self.error = error

    def search(self, query):
        raise self.error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(SearchError("the key was refused", fatal=True), {"error": "the key was refused"}),
     (KeyboardInterrupt(), {"finish_reason": "interrupted"})],
)  # fmt: skip
def test_what_ends_a_sample_ends_its_trace(engine, tmp_path, error, outcome):
    agent = Agent(engine, Broken(error), seed=0, today=date(2026, 1, 2))
    _, found = branch.fork_samples(agent, QUESTIONS[0], 2, writer(tmp_path / "run.jsonl"))
    with pytest.raises(type(error)):
        next(found)
    trace = read_trace(tmp_path / "run.jsonl")
    assert outcome.items() <= trace.outcomes[-1].items()
    assert [span.source for span in trace.spans] == ["prompt", "sampled"]
    assert trace.recomputed == 0
    assert max(turn.scaled for turn in verify(trace, engine)) <= TOLERANCE["float32"]
    assert replay(trace, engine).position is None
    assert not (tmp_path / "run-2.jsonl").exists()


def test_a_response_without_room_ends_its_trace(engine, search, traced, tmp_path):
    trace = read_trace(traced(QUESTIONS[0]))
    small = Engine.from_pretrained(DEMO, device="cpu", max_context=trace.spans[2].start + 3)
    responses = [branch.Response("long", OTHER)]
    _, found = branch.branch(trace, agent_of(trace, small, search), 2, responses, writer(tmp_path / "b.jsonl"))
    with pytest.raises(LonghandError, match="context full"):
        list(found)
    made = read_trace(tmp_path / "b.jsonl")
    assert "context full" in made.outcomes[-1]["error"]
    assert made.ids == trace.ids[: trace.spans[2].start]


# --- the command line, and secrets --------------------------------------------------------------------------------


def test_commands(run_cli, traced, tmp_path):
    path, out = tmp_path / "s.jsonl", tmp_path / "b.jsonl"
    code, said, _ = run_cli("ask", QUESTIONS[0], "--samples", 2, "--trace", path, "--device", "cpu", "--json")
    assert (code, [one["trace"] for one in json.loads(said)["branches"]]) == (0, [str(path), str(numbered(path, 2))])
    (tmp_path / "other.txt").write_text("QwQ-32B was released in May 2031.")
    more = ["--response-file", tmp_path / "other.txt"] * 2
    code, said, _ = run_cli("trace", "branch", path, "--turn", 2, *more, "--trace", out)
    assert (code, f"trace: {out}" in said.replace("\n", ""), "recomputed 0" in said) == (0, True, True)
    files = [path, numbered(path, 2), out, numbered(out, 2)]
    for file in files:
        code, said, _ = run_cli("trace", "verify", file)
        assert (code, "within the tolerance of 0.0001" in said) == (0, True)
        code, said, _ = run_cli("trace", "replay", file)
        assert (code, said) == (0, f"the same {len(read_trace(file).ids)} ids; recomputed 0\n")
        code, said, _ = run_cli("trace", "show", file)
        assert (code, "were computed once for all of them" in " ".join(said.split())) == (0, True)
    code, _, _ = run_cli("trace", "export", *files, "--sft", tmp_path / "sft.jsonl")
    assert (code, (tmp_path / "sft.jsonl").read_text().count("\n")) == (0, 4)


def test_no_secret_in_any_of_it(run_cli, monkeypatch, tmp_path):
    """Files of samples and branches, what is printed of them, pages of them; wherever the secret comes in."""
    spelled = json.dumps(CANARY)[1:-1]
    first, out = tmp_path / "s.jsonl", tmp_path / "b.jsonl"
    # Recorded while the secret was none: its ids spell it out.
    assert run_cli("ask", f"When was {CANARY} released?", "--samples", 2, "--trace", first, "--device", "cpu")[0] == 0
    monkeypatch.setenv("TAVILY_API_KEY", CANARY)
    said = []
    answer = tmp_path / f"{CANARY}.json"
    answer.write_text(json.dumps([{"title": CANARY, "url": f"u?{CANARY}", "content": f"In May, says {CANARY}."}]))
    plain = tmp_path / "plain.txt"
    plain.write_text(f"It is {CANARY}.")
    for options in (["--response-file", answer, "--response-file", plain], ["--query", f"what is {CANARY}"]):
        for more in ([], ["--json"]):
            code, *texts = run_cli("trace", "branch", first, "--turn", 2, *options, "--search", "docs",
                                   "--trace", out, *more)  # fmt: skip
            assert code == 0, texts
            said += texts
            for number in (1, 2):
                if (file := numbered(out, number)).exists():
                    said.append(file.read_text("utf-8"))
                    said.append(page(read_trace(file)))
                    said += run_cli("trace", "show", file, "--full")[1:]
                    code, *texts = run_cli("trace", "export", file, "--sft", tmp_path / "sft.jsonl")
                    assert (code, "held a secret" in texts[1]) == (2, True)  # its ids would spell it out
                    ids = [json.loads(line).get("ids", []) for line in file.read_text("utf-8").splitlines()]
                    said += [Engine.from_pretrained(DEMO, device="cpu").tokenizer.decode(one) for one in ids]
    code, *texts = run_cli("ask", f"Is it {CANARY}?", "--samples", 2, "--trace", tmp_path / "t.jsonl", "--search",
                           "docs", "--device", "cpu")  # fmt: skip
    assert code == 0
    said += [*texts, *(numbered(tmp_path / "t.jsonl", n).read_text("utf-8") for n in (1, 2))]
    assert any("[redacted]" in text for text in said)
    assert not any(CANARY in text or spelled in text for text in said)


def test_a_response_file_brings_no_secret_to_the_model(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", CANARY)
    for name, text in ((f"{CANARY}.txt", f"say {CANARY}"),
                       ("a.json", json.dumps({"query": "x", "results": [{"title": CANARY, "url": CANARY,
                                                                         "content": CANARY}]}))):  # fmt: skip
        (tmp_path / name).write_text(text)
        (result,) = branch.read_response(tmp_path / name).results
        assert CANARY not in result.title + result.url + result.content
        assert "[redacted]" in result.content


def test_a_search_in_a_sample_is_known_to_the_others_traces(engine, tmp_path):
    """Each file has what its own session was told: it can be replayed without the others."""
    found = {"When QwQ-32B released": list(OTHER)}
    agent = Agent(engine, ReplaySearch(found), seed=0, sampling=SamplingParams(0.0), today=date(2026, 1, 2))
    _, samples = branch.fork_samples(agent, QUESTIONS[0], 2, writer(tmp_path / "run.jsonl"))
    for sample in list(samples):
        trace = read_trace(sample.trace)
        assert len(trace.searches) == 1
        assert replay(trace, engine).position is None
