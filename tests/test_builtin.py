"""The built-in model and documents: what a person sees who installs Longhand and asks."""

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import longhand
import pytest
from longhand import DEMO, Agent, Budget, Engine, SamplingParams
from longhand.agent import prompt
from longhand.agent.calls import parse_calls
from longhand.agent.docs import DocsSearch
from longhand.agent.events import ToolCall

pytestmark = pytest.mark.skipif(not (DEMO / "config.json").exists(), reason=f"{DEMO} is not there: train it first")

DOCS = Path(longhand.__file__).parent / "agent" / "demo" / "docs"
BUILT_IN = [
    ("When was QwQ-32B released?", "March 2025", "qwq.md#"),
    ("Under which licence are the weights of QwQ-32B released?", "Apache 2.0", "qwq.md#"),
    ("How many layers does QwQ-32B have?", "64", "qwq.md#"),
    ("Which temperature is recommended for QwQ-32B?", "0.6", "qwq.md#"),
]
MADE_UP = {
    "observatory.md": "# Orlen observatory\n\nThe Orlen observatory was opened in 1964 by the astronomer Vera Tolm. "
    "It stands on a hill above the town.\n",
    "ferry.md": "# Brannick ferry\n\nThe Brannick ferry carries 240 passengers over the sound. It is painted green.\n",
}
IN_FOLDER = [
    ("When was the Orlen observatory opened?", "1964", "observatory.md#1"),
    ("How many passengers does the Brannick ferry carry?", "240", "ferry.md#1"),
]


@pytest.fixture(scope="module")
def engine():
    return Engine.from_pretrained(DEMO, device="cpu")


@pytest.fixture(scope="module")
def built_in(tmp_path_factory):
    return DocsSearch(DOCS, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made up")
    for name, text in MADE_UP.items():
        (folder / name).write_text(text)
    return folder


def asked(engine, search, question, seed=0, temperature=0.6):
    """(answer, events, session) of one run; what holds for every run is checked."""
    agent = Agent(engine, search, Budget(), SamplingParams(temperature), seed, date(2026, 1, 2))
    events = list(agent.run(question))
    answer = events[-1].answer
    assert (answer.finish_reason, answer.recomputed) == ("stop", 0)
    assert sum(turn.computed for turn in agent.session.turns) == agent.session.cached
    return answer, events, agent.session


def right(answer, value, url):
    assert value in answer.text
    assert any(citation.url.startswith(url) for citation in answer.citations)
    assert answer.unsupported == []


@pytest.mark.parametrize(("question", "value", "url"), BUILT_IN)
def test_the_built_in_documents(engine, built_in, question, value, url):
    right(asked(engine, built_in, question)[0], value, url)


@pytest.mark.parametrize(("question", "value", "url"), IN_FOLDER)
def test_documents_that_were_never_seen(engine, folder, tmp_path, question, value, url):
    right(asked(engine, DocsSearch(folder, cache_dir=tmp_path), question)[0], value, url)


def test_the_call_is_well_formed(engine, built_in):
    answer, events, session = asked(engine, built_in, BUILT_IN[0][0])
    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert call.error is None
    assert set(json.loads(call.text)) == {"action", "action_input"}
    assert [found.query for found in parse_calls(call.text)] == list(call.queries) == [q for q, _ in answer.searches]
    control, sampled = engine.control, [i for i, s in zip(session.ids, session.sources, strict=True) if s == "sampled"]
    assert [i for i in sampled if i in engine.tokenizer.added] == [
        control.tool_call, control.tool_call_end, control.think_end, control.im_end,
    ]  # fmt: skip
    tool = [i for i, source in zip(session.ids, session.sources, strict=True) if source == "tool"]
    head, tail = prompt.response_frame(engine.tokenizer)
    assert tool == head + engine.tokenizer.encode_literal(prompt.response_text(answer.searches[0][1])) + tail
    first, second = answer.turns
    assert (second.reused, second.computed) == (first.computed, 1 + len(tool) + second.sampled - 1)


@pytest.mark.parametrize("question", ["Hello!", "Thank you", "Good morning", "Who are you?", "What can you do?"])
def test_a_greeting_searches_nothing(engine, built_in, question):
    answer, events, _ = asked(engine, built_in, question)
    assert answer.searches == []
    assert not [event for event in events if isinstance(event, ToolCall)]
    assert answer.text
    assert (answer.citations, answer.unsupported) == ([], [])


def test_equal_seeds_give_equal_ids(engine, built_in):
    question = BUILT_IN[1][0]
    first, second = (asked(engine, built_in, question, seed=7, temperature=1.0)[2] for _ in range(2))
    assert first.ids == second.ids


def test_nf4(built_in):
    quantized = Engine.from_pretrained(DEMO, device="cpu", quantization="nf4")
    assert quantized.quantization == "nf4"
    for question, value, url in BUILT_IN[:2]:
        right(asked(quantized, built_in, question)[0], value, url)


def test_follow_ups_in_one_session(engine, built_in):
    agent = Agent(engine, built_in, sampling=SamplingParams(0))
    first = agent.ask(BUILT_IN[0][0])
    ids = agent.session.ids
    second = agent.ask(BUILT_IN[2][0], agent.session)
    assert agent.session.ids[: len(ids)] == ids
    assert (first.recomputed, second.recomputed) == (0, 0)
    assert second.turns[0].reused == len(ids) - 1


@pytest.mark.parametrize("own", [True, False])
def test_the_command_line(folder, tmp_path, own):
    question, value, url = IN_FOLDER[0] if own else BUILT_IN[0]
    environment = {name: text for name, text in os.environ.items() if name not in ("TAVILY_API_KEY", "FORCE_COLOR")}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "longhand.agent.cli", "ask", question, "--json", "--device", "cpu", "--model", str(DEMO),
         *(["--docs", str(folder)] if own else [])],
        capture_output=True, text=True, timeout=300, env={**environment, "LONGHAND_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert value in found["answer"]
    assert found["citations"][0]["url"].startswith(url)
    assert (found["unsupported"], found["recomputed"], found["finish_reason"]) == ([], 0, "stop")
    assert [turn["fed"] > 0 for turn in found["turns"]] == [True, True]
    computing = sum(turn["prefill_seconds"] + turn["decode_seconds"] for turn in found["turns"])
    assert 0 < computing < seconds < 120  # a few seconds on two idle cores
    assert "The built-in model only demonstrates the loop" in done.stderr


def test_loading_does_not_import_torchs_compiler():
    """It takes longer than everything else between the import of torch and the first token."""
    code = (
        "import sys; from longhand import DEMO, Engine; session = Engine.from_pretrained(str(DEMO)).session();"
        "session.feed([1, 2, 3]); next(session.generate(1)); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "False", done.stderr
