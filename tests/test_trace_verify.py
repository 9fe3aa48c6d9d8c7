"""Verify, replay, export and branch: on runs of the built-in model, and on what is not what it should be."""

import json
from datetime import date
from pathlib import Path

import longhand
import numpy as np
import pytest
import torch
from longhand import DEMO, Agent, Budget, Engine, SamplingParams
from longhand.agent import branch
from longhand.agent.ask import run_question
from longhand.agent.search import SearchError, SearchResult
from longhand.agent.trace import Recorder
from longhand.agent.trace_export import export
from longhand.agent.trace_file import read_trace
from longhand.agent.trace_logits import FULL_ROW, TOP, compare, pack
from longhand.agent.trace_replay import TraceSearch, agent_of, replay
from longhand.agent.trace_verify import TOLERANCE, tolerance, verify
from longhand.engine.errors import LonghandError
from longhand.kernels import reference
from longhand.kernels.native_library import find_library

pytestmark = pytest.mark.skipif(not (DEMO / "config.json").exists(), reason=f"{DEMO} is not there: train it first")

DOCS = Path(longhand.__file__).parent / "agent" / "demo" / "docs"
QUESTIONS = [
    "When was QwQ-32B released?",
    "Which temperature is recommended for QwQ-32B, and which top-p?",
    "How many layers does QwQ-32B have?",
    "Hello! Who are you?",
]


@pytest.fixture(scope="module")
def engine(demo_engine):
    return demo_engine


@pytest.fixture(scope="module")
def search(demo_search):
    return demo_search


@pytest.fixture(scope="module")
def traced(engine, search, tmp_path_factory):
    """traced(question, ..., seed=0, **budget) -> the path of a trace of these questions over one session."""
    made = {}

    def make(*questions, seed=0, temperature=0.6, stop_after=None, **budget):
        key = (questions, seed, temperature, stop_after, *budget.items())
        if key in made:
            return made[key]
        path = made[key] = tmp_path_factory.mktemp("trace") / "run.jsonl"
        agent = Agent(engine, search, Budget(**budget), SamplingParams(temperature), seed, date(2026, 1, 2))
        recorder, session = Recorder(path), None
        for question in questions:
            events = agent.run(question, session)
            session = agent.session
            recorder.begin(agent, question)
            for number, event in enumerate(events):
                recorder.see(event)
                if number == stop_after:
                    events.close()
                    recorder.finish(agent.interrupted())
                    break
        return path

    return make


RUNS = {
    **{question: ((question,), {}) for question in QUESTIONS},
    "another seed": ((QUESTIONS[0],), {"seed": 7}),
    "hot": ((QUESTIONS[1],), {"seed": 3, "temperature": 1.5}),
    "greedy": ((QUESTIONS[0],), {"temperature": 0.0}),
    "closed thinking": ((QUESTIONS[0],), {"thinking": 4}),
    "no searches": ((QUESTIONS[0],), {"searches": 0}),
    "three questions": (tuple(QUESTIONS[:3]), {}),
    "interrupted": ((QUESTIONS[0],), {"stop_after": 70}),
}


@pytest.mark.parametrize("run", RUNS)
def test_every_run_is_verified_and_replayed(engine, traced, run):
    questions, options = RUNS[run]
    trace = read_trace(traced(*questions, **options))
    for one_session in (False, True):
        checked = list(verify(trace, engine, one_session))
        assert len(checked) == sum(span.source == "sampled" for span in trace.spans)
        assert max(turn.scaled for turn in checked) <= TOLERANCE["float32"] == 1e-4
        # The CPU kernels give an id's row the same bits however the ids before it were split; torch's products do not.
        assert max(turn.largest for turn in checked) <= (0 if find_library() else 2e-4)
        assert max(turn.kl for turn in checked) < 1e-6
        assert all(difference.top1 and difference.compared == engine.config.vocab_size
                   for turn in checked for difference in turn.differences)  # fmt: skip
    assert trace.recomputed == 0
    found = replay(trace, engine)
    assert (found.position, found.recorded, found.recomputed) == (None, len(trace.ids), 0)


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"dtype": "float16"}, {"kv_dtype": "int8"}], ids=str)
def test_other_types_keep_to_their_tolerance_with_the_plain_operations(search, monkeypatch, tmp_path, options):
    monkeypatch.setattr("longhand.engine.engine.choose_ops", lambda *_: reference)
    engine = Engine.from_pretrained(DEMO, device="cpu", **options)
    recorder = Recorder(tmp_path / "run.jsonl")
    run_question(Agent(engine, search, today=date(2026, 1, 2)), QUESTIONS[0], None, recorder=recorder)
    found = max(turn.scaled for turn in verify(read_trace(recorder.path), engine, one_session=True))
    assert found <= tolerance(engine)


def changed(path, target, change):
    """A copy of a trace whose rows have been changed by `change(rows)`."""
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    change(rows)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return target


def test_a_cache_that_was_wrong_is_found(engine, traced, tmp_path):
    """Verify is worth what it can refuse: a cache whose values are one percent off for the ids of one span."""
    path = traced(QUESTIONS[0])
    trace = read_trace(path)
    session, packed = engine.session(), trace.spans[-1].logits[0]
    asked = trace.spans[1]  # the model's own call, in the cache when the response is computed
    session.feed(trace.ids[: asked.end])
    session.logits()
    with torch.inference_mode():
        for layer in range(engine.config.num_layers):
            session._cache.values[layer][asked.start : asked.end] *= 1.01
    session.feed(trace.ids[asked.end : packed["position"]])
    row = session.logits().numpy()

    def change(rows):
        rows[-2]["logits"][0] = pack(row, packed["position"])

    wrong = read_trace(changed(path, tmp_path / "wrong.jsonl", change))
    *_, last = verify(wrong, engine)
    assert last.largest > TOLERANCE["float32"]


def test_ids_that_were_changed_are_found(engine, traced, tmp_path):
    def change(rows):
        rows[3]["ids"][20] = 300 if rows[3]["ids"][20] != 300 else 301

    path = changed(traced(QUESTIONS[0]), tmp_path / "other.jsonl", change)
    *_, last = verify(read_trace(path), engine)
    assert last.largest > TOLERANCE["float32"]
    found = replay(read_trace(path), engine)
    assert found.position == read_trace(path).spans[2].start + 20
    assert found.now[0] != found.was[0]


def test_another_checkpoint_is_refused(tiny_engine, traced):
    with pytest.raises(LonghandError, match="recorded with another rope"):
        list(verify(read_trace(traced(QUESTIONS[0])), tiny_engine))


@pytest.mark.parametrize("vocab", [100, FULL_ROW, FULL_ROW + 1, 152_064])
def test_packed_rows(vocab):
    generator = np.random.default_rng(0)
    row = (generator.standard_normal(vocab) * 4).astype(np.float32)
    packed = json.loads(json.dumps(pack(row, 7)))
    assert ("row" in packed) == (vocab <= FULL_ROW)
    assert packed["ids"] == np.argsort(-row, kind="stable")[:TOP].tolist()
    same = compare(packed, row)
    assert (same.position, same.top1) == (7, True)
    assert same.largest <= 2e-6
    assert same.kl < 1e-9
    other = row.copy()
    other[packed["ids"][0]] -= 9
    differs = compare(packed, other)
    assert differs.largest >= 8.9
    assert differs.kl > 0.1
    assert not differs.top1
    full, half = torch.log_softmax(torch.tensor(row).double(), -1), torch.log_softmax(torch.tensor(other).double(), -1)
    kl = float((full.exp() * (full - half)).sum())
    if vocab <= FULL_ROW:
        assert differs.kl == pytest.approx(kl, rel=1e-6)
    else:
        assert differs.kl <= kl + 1e-6  # of a coarser distribution: never more
    packed["ids"] = packed["ids"][1:]
    with pytest.raises(ValueError, match="belong together"):
        compare(packed, row)


def test_export_loads_with_json_and_torch(traced, engine):
    traces = [read_trace(traced(QUESTIONS[0])), read_trace(traced(*QUESTIONS[:3]))]
    samples = [json.loads(line) for line in export(traces).splitlines()]
    for trace, sample in zip(traces, samples, strict=True):
        assert list(sample) == ["input_ids", "labels"]
        ids, labels = (torch.tensor(sample[name]) for name in ("input_ids", "labels"))
        assert ids.shape == labels.shape
        assert (ids[labels != -100] == labels[labels != -100]).all()
        assert int((labels != -100).sum()) == sum(s.size for s in trace.spans if s.source == "sampled")
    loss = torch.nn.functional.cross_entropy(torch.randn(len(ids) - 1, engine.config.vocab_size), labels[1:])
    assert loss.isfinite()


def test_an_unrecorded_query_says_so(traced):
    path = traced(QUESTIONS[0])
    search = TraceSearch(read_trace(path))
    query = read_trace(path).searches[0]["query"]
    assert search.search(f"  {query} ")
    for again in (query, "something else"):
        with pytest.raises(SearchError, match=f'no search for "{again}" was recorded in {path}'):
            search.search(again)


# --- branches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("questions", [QUESTIONS[:1], QUESTIONS[:3]])
def test_the_same_response_gives_the_same_ids(engine, traced, search, questions):
    trace = read_trace(traced(*questions))
    tool = [span for span in trace.spans if span.source == "tool"][-1]
    agent = agent_of(trace, engine, search)
    results = tuple(SearchResult(**result) for result in tool.search["results"])
    other = (SearchResult("T", "t.md#1", "Nothing is known."),)
    prefix, found = branch.branch(
        trace, agent, tool.turn, [branch.Response("same", results), branch.Response("other", other)]
    )
    same, differs = list(found)
    assert prefix.computed == tool.start
    said = [span["text"] for span in same.answer.trace]  # of this question: those behind it are not asked again
    assert said == [span["text"] for span in _merged(trace)][: len(said)]
    assert same.answer.text in [outcome["answer"] for outcome in trace.outcomes]
    assert same.answer.turns[0].reused == differs.answer.turns[0].reused == tool.start
    assert same.answer.turns[0].computed == tool.size + same.answer.turns[0].sampled - 1
    assert "Nothing is known." in differs.answer.trace[-2]["text"]
    assert (same.answer.recomputed, differs.answer.recomputed) == (0, 0)


def _merged(trace):
    """Spans as `spans` gives them: neighbours of one source as one."""
    found = []
    for span in trace.spans:
        if found and found[-1]["source"] == span.source:
            found[-1]["text"] += span.text
        else:
            found.append({"source": span.source, "text": span.text})
    return found


def test_another_query(engine, traced, search):
    trace = read_trace(traced(QUESTIONS[0]))
    agent = agent_of(trace, engine, search)
    response = branch.searched_response(search, "QwQ-32B  layers")
    prefix, found = branch.branch(trace, agent, 2, [response])
    (only,) = found
    assert only.answer.searches[0][0] == "QwQ-32B layers"
    forced = next(span for span in only.answer.trace if span["source"] == "forced")
    assert json.loads(forced["text"][11:-12])["action_input"]["query"] == "QwQ-32B layers"
    assert prefix.computed == forced["start"]
    assert only.answer.recomputed == 0


def test_samples_pay_for_the_prompt_once(engine, search):
    agent = Agent(engine, search, sampling=SamplingParams(1.2), seed=4, today=date(2026, 1, 2))
    prefix, found = branch.fork_samples(agent, QUESTIONS[1], 3)
    samples = list(found)
    assert [sample.seed for sample in samples] == [4, 5, 6]
    for sample in samples:
        first = sample.answer.turns[0]
        assert (first.fed, first.reused, first.computed) == (0, prefix.computed, first.sampled - 1)
        assert sample.answer.recomputed == 0
        alone = Agent(engine, search, sampling=SamplingParams(1.2), seed=sample.seed, today=date(2026, 1, 2))
        assert alone.ask(QUESTIONS[1]).trace == sample.answer.trace


# --- the command line ---------------------------------------------------------------------------------------------


def test_commands(run_cli, traced, tmp_path):
    path = traced(QUESTIONS[0])
    code, out, _ = run_cli("trace", "show", path)
    assert code == 0
    assert "\x1b" not in out
    assert QUESTIONS[0] in out
    assert "recomputed 0" in out
    code, out, _ = run_cli("trace", "verify", path)
    assert (code, "within the tolerance of 0.0001" in out) == (0, True)
    code, out, _ = run_cli("trace", "verify", path, "--json", "--one-session")
    assert (code, json.loads(out)["ok"]) == (0, True)
    code, out, _ = run_cli("trace", "replay", path)
    assert (code, out) == (0, f"the same {len(read_trace(path).ids)} ids; recomputed 0\n")
    code, _, _ = run_cli("trace", "export", path, path, "--sft", tmp_path / "sft.jsonl")
    assert (code, (tmp_path / "sft.jsonl").read_text().count("\n")) == (0, 2)
    (tmp_path / "other.txt").write_text("QwQ-32B was released in May 2031.")
    code, out, _ = run_cli("trace", "branch", path, "--turn", 2, "--response-file", tmp_path / "other.txt")
    assert (code, "recomputed 0" in out, "prefix, once" in out) == (0, True, True)
    code, out, _ = run_cli("ask", QUESTIONS[0], "--samples", 2, "--json")
    assert (code, len(json.loads(out)["branches"]), json.loads(out)["recomputed"]) == (0, 2, 0)


def test_exit_codes(run_cli, traced, tmp_path):
    path = traced(QUESTIONS[0])

    def swap(rows):
        rows[3]["ids"][20] = 300 if rows[3]["ids"][20] != 300 else 301

    other = changed(path, tmp_path / "other.jsonl", swap)
    code, out, _ = run_cli("trace", "verify", other)
    assert (code, "OUTSIDE the tolerance" in out) == (1, True)
    code, out, _ = run_cli("trace", "replay", other)
    assert (code, "first difference at position" in out) == (1, True)


REFUSED = {
    "no file": (["verify", "{tmp}/none"], "cannot be read"),
    "a folder": (["show", "{tmp}"], "cannot be read"),
    "an empty file": (["replay", "{tmp}/empty"], "is empty"),
    "another model": (
        ["verify", "{trace}", "--model", "{tiny}"],
        "the model that it names cannot be loaded as it was: max",
    ),
    "no model": (["replay", "{trace}", "--model", "{tmp}/none"], "no such folder"),
    "html nowhere": (["show", "{trace}", "--html", "{tmp}/no/x.html"], "--html {tmp}/no/x.html: cannot be written"),
    "sft nowhere": (["export", "{trace}", "--sft", "{tmp}/no/x"], "--sft {tmp}/no/x: cannot be written"),
    "sft of one bad": (["export", "{trace}", "{tmp}/empty", "--sft", "{tmp}/x"], "is empty"),
    "header alone": (["verify", "{tmp}/header"], "holds no span yet"),
    "no such turn": (
        ["branch", "{trace}", "--turn", "9", "--response-file", "{tmp}/text"],
        "there is one before turn 2",
    ),
    "nothing to say": (["branch", "{trace}", "--turn", "2"], "name either --response-file or --query"),
    "no response": (["branch", "{trace}", "--turn", "2", "--response-file", "{tmp}/none"], "cannot be read"),
    "empty response": (["branch", "{trace}", "--turn", "2", "--response-file", "{tmp}/empty"], "is empty"),
    "odd response": (["branch", "{trace}", "--turn", "2", "--response-file", "{tmp}/odd"], "wants a JSON list"),
    "empty query": (["branch", "{trace}", "--turn", "2", "--query", " "], "--query is empty"),
    "odd search": (
        ["branch", "{trace}", "--turn", "2", "--query", "x", "--search", "odd"],
        "--search 'odd' is not one",
    ),
    "no samples": (["ask", "--samples", "0"], "--samples must be a whole number"),
    "samples nowhere": (["ask", "--samples", "2", "--trace", "{tmp}/no/x"], "--trace {tmp}/no/x: its folder does not"),
    "samples on a folder": (["ask", "--samples", "2", "--trace", "{tmp}/x"], "--trace {tmp}/x-2: is a folder"),
    "branches on a folder": (
        ["branch", "{trace}", "--turn", "2", "--query", "a", "--query", "b", "--trace", "{tmp}/x"],
        "--trace {tmp}/x-2: is a folder",
    ),
    "over itself": (
        ["branch", "{trace}", "--turn", "2", "--response-file", "{tmp}/text", "--trace", "{trace}"],
        "--trace {trace}: would be written over {trace}",
    ),
    "a page over itself": (["show", "{trace}", "--html", "{trace}"], "--html {trace}: would be written over {trace}"),
    "samples over it": (["export", "{trace}", "--sft", "{trace}"], "--sft {trace}: would be written over {trace}"),
    "a page without a name": (["show", "{trace}", "--html", "."], "--html .: is a folder; name a file"),
    "samples into a folder": (["export", "{trace}", "--sft", "{tmp}"], "--sft {tmp}: is a folder; name a file"),
    "over a response": (
        ["branch", "{trace}", "--turn", "2", "--response-file", "{tmp}/text", "--trace", "{tmp}/text"],
        "--trace {tmp}/text: would be written over {tmp}/text",
    ),
    "over the cassette": (
        ["ask", "--cassette", "{tmp}/text", "--trace", "{tmp}/text"],
        "would be written over {tmp}/text",
    ),
    "a fork of nothing": (["show", "{tmp}/fork"], "line 1 is damaged: the header's fork has no name, ids and seconds"),
    "damaged logits": (["verify", "{tmp}/damaged"], "damaged: the logits for position"),
    "options": (["verify", "{tmp}/options"], "line 1 is damaged"),
    "budget": (["replay", "{tmp}/budget"], "line 1 is damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_take_one_line(run_cli, traced, tiny_folder, tmp_path, case):
    path = traced(QUESTIONS[0])
    (tmp_path / "empty").write_text("")
    (tmp_path / "text").write_text("words")
    (tmp_path / "odd").write_text('[{"title": 3}]')
    changed(path, tmp_path / "header", lambda rows: rows.__delitem__(slice(1, None)))
    changed(path, tmp_path / "damaged", lambda rows: rows[2]["logits"][0].update(row="AAAA"))
    changed(path, tmp_path / "options", lambda rows: rows[0].update(options={"quantization": 3}))
    changed(path, tmp_path / "fork", lambda rows: rows[0].update(fork={"name": "x", "ids": "all"}))
    (tmp_path / "x-2").mkdir()
    changed(path, tmp_path / "budget", lambda rows: rows[0].update(budget={"wishes": 3}))
    before = sorted(tmp_path.iterdir())
    names = {"tmp": tmp_path, "trace": path, "tiny": tiny_folder}
    arguments, message = REFUSED[case]
    arguments = [argument.format(**names) for argument in arguments]
    arguments = ["ask", QUESTIONS[0], *arguments[1:]] if arguments[0] == "ask" else ["trace", *arguments]
    code, out, err = run_cli(*arguments)
    assert (code, out) == (2, "")
    assert message.format(**names) in err
    assert err.count("longhand: ") == 1
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before
