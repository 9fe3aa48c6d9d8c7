"""Every command of `longhand trace` on every kind of run: killed, interrupted, refused, at a limit, many questions."""

import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import longhand
import pytest
from longhand import DEMO, Agent, Budget, SamplingParams
from longhand.agent import ask
from longhand.agent.search import SearchError
from longhand.agent.trace import Recorder
from longhand.agent.trace_file import made, read_trace
from longhand.engine.errors import LonghandError
from longhand.engine.session import Session

pytestmark = pytest.mark.skipif(not (DEMO / "config.json").exists(), reason=f"{DEMO} is not there: train it first")

DOCS = Path(longhand.__file__).parent / "agent" / "demo" / "docs"
QUESTIONS = ["When was QwQ-32B released?", "How many layers does QwQ-32B have?", "Hello! Who are you?"]


@pytest.fixture(scope="module")
def engine(demo_engine):
    return demo_engine


@pytest.fixture(scope="module")
def search(demo_search):
    return demo_search


@pytest.fixture
def chat(engine, search, tmp_path):
    """chat(question or (question, number of events), ..., **budget) -> the path of a trace of one session, as the
    command line writes it; a number is where Ctrl-C strikes."""

    def make(*questions, search=search, **budget):
        path = tmp_path / "run.jsonl"
        agent = Agent(engine, search, Budget(**budget), SamplingParams(0.6), 0, date(2026, 1, 2))
        recorder, session, real = Recorder(path), None, agent.run
        for question in questions:
            text, stop = question if isinstance(question, tuple) else (question, None)

            def run(asked, session=None, stop=stop):
                events = real(asked, session)

                def until():
                    for number, event in enumerate(events):
                        if number == stop:
                            events.close()
                            raise KeyboardInterrupt
                        yield event

                return until()

            agent.run = run
            try:
                ask.run_question(agent, text, None, session, recorder)
            except LonghandError as error:
                if getattr(error, "fatal", False):
                    break
            session = agent.session
        return path

    return make


def every_command(run_cli, path):
    """show, --html, verify, replay and export take it; returns what `show` and the page say."""
    trace, target = read_trace(path), path.with_suffix(".out")
    code, shown, err = run_cli("trace", "show", path)
    assert (code, err) == (0, "")
    assert "recomputed 0" in shown
    assert run_cli("trace", "show", path, "--html", target)[0] == 0
    html = target.read_text("utf-8")
    code, out, err = run_cli("trace", "replay", path)
    assert (code, out.splitlines()[0]) == (0, f"the same {len(trace.ids)} ids; recomputed 0"), out + err
    code, _, _ = run_cli("trace", "export", path, "--sft", target)
    assert (code, json.loads(target.read_text())["input_ids"]) == (0, trace.ids)
    code, out, err = run_cli("trace", "verify", path)
    if any(span.logits for span in trace.spans):
        assert (code, "within the tolerance of 0.0001" in out) == (0, True), out + err
    else:
        assert (code, "holds no logits yet" in err) == (2, True)
    for text in (shown, html):
        assert (trace.state in " ".join(text.split())) or not trace.state
    return shown, html


def test_many_questions(chat, run_cli):
    path = chat(*QUESTIONS)
    trace = read_trace(path)
    assert (trace.questions, len(trace.outcomes)) == (QUESTIONS, 3)
    _, html = every_command(run_cli, path)
    assert "the first of 3 questions in one session" in html
    assert all(f"question {number}" in html for number in (2, 3))


@pytest.mark.parametrize("events", [0, 1, 30])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_interruption_among_many_questions(chat, run_cli, place, events):
    """Ctrl-C ends an answer, and the chat goes on."""
    questions = [(question, events) if number == place else question for number, question in enumerate(QUESTIONS)]
    path = chat(*questions)
    trace = read_trace(path)
    ends = [outcome["finish_reason"] for outcome in trace.outcomes]
    assert (trace.questions, ends[place]) == (QUESTIONS, "interrupted")
    assert ends.count("interrupted") == 1
    every_command(run_cli, path)


def test_an_interruption_before_the_first_id(chat, run_cli, monkeypatch, engine):
    """Ctrl-C while the prompt is computed."""
    real, calls = Session._compute, []

    def compute(session, start, end):
        calls.append(start)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(session, start, end)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "_compute", compute)
        path = chat(*QUESTIONS[:2])
    assert [outcome["finish_reason"] for outcome in read_trace(path).outcomes] == ["interrupted", "stop"]
    every_command(run_cli, path)


def test_a_refused_question_among_others(chat, run_cli):
    """It was never fed: it has neither a span nor an outcome, and the answers stay with their questions."""
    path = chat(QUESTIONS[0], "too long " * 2000, QUESTIONS[2])
    trace = read_trace(path)
    assert trace.questions == [QUESTIONS[0], QUESTIONS[2]]
    assert [outcome["finish_reason"] for outcome in trace.outcomes] == ["stop", "stop"]
    every_command(run_cli, path)


def test_a_limit_notice(chat, run_cli):
    path = chat(QUESTIONS[0], QUESTIONS[1], searches=0)
    trace = read_trace(path)
    notices = [search["notice"] for search in trace.searches if search["query"]]
    assert notices
    assert all("The limit of 0 searches is reached" in notice for notice in notices)
    assert not any(map(made, trace.searches))
    shown, html = every_command(run_cli, path)
    assert notices[0] in " ".join(shown.split())
    assert notices[0] in html
    assert "it made no searches in documents" in html


def test_closed_thinking(chat, run_cli):
    path = chat(QUESTIONS[0], thinking=4)
    assert "forced" in [span.source for span in read_trace(path).spans]
    _, html = every_command(run_cli, path)
    assert "forced (thinking)" in html


class Refused:
    name = "docs"

    def search(self, query):
        raise SearchError("the key was refused", fatal=True)


def test_a_search_that_ends_the_run(chat, run_cli):
    path = chat(QUESTIONS[0], search=Refused())
    shown, html = every_command(run_cli, path)
    assert "ended with an error: the key was refused" in shown
    assert "Ended with an error: the key was refused" in html


KILLED = """
import os, signal, sys
from datetime import date
from pathlib import Path
from longhand import DEMO, Agent, Engine
from longhand.agent.docs import DocsSearch
from longhand.agent.trace import Recorder

path, docs, cache, last, kind, count, *questions = sys.argv[1:]
engine = Engine.from_pretrained(DEMO, device="cpu")
agent = Agent(engine, DocsSearch(Path(docs), cache_dir=Path(cache)), seed=0, today=date(2026, 1, 2))
recorder, session, seen = Recorder(Path(path)), None, 0
for number, question in enumerate(questions):
    events = agent.run(question, session)
    session = agent.session
    recorder.begin(agent, question)
    for event in events:
        recorder.see(event)
        seen += (number, type(event).__name__) == (int(last), kind)
        if seen == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("question", "kind", "count"),
    [(0, "Token", 1), (0, "Token", 25), (0, "ToolResponse", 1), (0, "Token", 80), (1, "Token", 1), (1, "Token", 10)],
)
def test_a_killed_run(run_cli, tmp_path, question, kind, count):
    """Everything up to the last span, in the first question and in the second."""
    path = tmp_path / "run.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path, DOCS, tmp_path / "cache", str(question), kind, str(count),
         *QUESTIONS[:2]],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    trace = read_trace(path)
    assert (len(trace.questions), len(trace.outcomes)) == (question + 1, question)
    assert trace.spans[-1].source == ("sampled" if kind == "ToolResponse" else trace.spans[-1].source)
    assert trace.state == "no outcome: the run goes on, or was killed"
    every_command(run_cli, path)


def test_a_run_that_was_killed_before_its_first_span(run_cli, chat, tmp_path):
    path = chat(QUESTIONS[2])
    path.write_text(path.read_text("utf-8").split("\n")[0] + "\n")
    assert run_cli("trace", "show", path)[0] == 0
    assert run_cli("trace", "show", path, "--html", tmp_path / "x.html")[0] == 0
    assert "No answer yet." in (tmp_path / "x.html").read_text()
    for command in (["verify", path], ["replay", path], ["export", path, "--sft", tmp_path / "x"]):
        code, _, err = run_cli("trace", *command)
        assert (code, "holds no span yet" in err) == (2, True)
