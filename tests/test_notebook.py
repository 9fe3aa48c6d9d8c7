"""The notebook's way of going on after a search: counted by id, and done with the real `generate`."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand.agent.bench import corpus
from longhand.agent.replay_modes import NOTEBOOK_STOPS, Turn, made_up, plan_of, replay

PATH = Path(__file__).parents[1] / "benchmarks" / "notebook.py"


@pytest.fixture(scope="module")
def notebook():
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("notebook_benchmark", PATH)
    module = sys.modules["notebook_benchmark"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tiny_folder):
    transformers = pytest.importorskip("transformers")
    return transformers.Qwen2ForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32).eval()


def plan_with(engine, prompt, thinking, response, turns=3):
    return made_up(engine, corpus(), turns, prompt, thinking, response)


@settings(max_examples=15)
@given(prompt=st.integers(60, 120), thinking=st.integers(70, 100), response=st.integers(60, 500))
def test_as_many_ids_are_left_out_as_are_cached(tiny_engine, prompt, thinking, response):
    plan = plan_with(tiny_engine, prompt, thinking, response)
    rows = replay(tiny_engine, plan, ["notebook"])
    cached = 0
    for row, turn in zip(rows, plan, strict=False):
        encoded = len(tiny_engine.tokenizer.encode(tiny_engine.tokenizer.decode(turn.fed)))
        assert row.reused == cached
        assert bool(row.error) == (encoded <= cached)
        assert row.lost == min(cached, encoded)
        assert row.computed == encoded - row.lost
        cached += row.computed + len(turn.sampled) - 1  # the id that generation stopped on is never computed
    assert [bool(row.error) for row in rows[:-1]] == [False] * (len(rows) - 1)
    assert bool(rows[-1].error) == (len(rows) < 3 or rows[-1].computed == 0)


def test_what_is_lost_shows_in_the_first_id(tiny_engine):
    plan = plan_with(tiny_engine, 80, 90, 400, turns=2)
    first, second = replay(tiny_engine, plan, ["notebook"])
    assert (first.drift, first.lost) == (None, 0)
    assert first.divergence < 1e-6
    assert second.drift == first.computed + 89  # </tool_call> is where they part
    assert second.length == second.reused + second.computed
    assert second.divergence > 1e-3
    assert [row.mode for row in replay(tiny_engine, plan, ["notebook", "append"])] == ["append", "notebook"] * 2


def test_a_run_that_ends_leaves_the_other_modes_alone(tiny_engine):
    rows = replay(tiny_engine, plan_with(tiny_engine, 90, 80, 70), ["append", "notebook"])
    assert [(row.turn, row.mode, bool(row.error)) for row in rows] == [
        (1, "append", False), (1, "notebook", False), (2, "append", False), (2, "notebook", True), (3, "append", False),
    ]  # fmt: skip


def test_generate_itself_does_what_is_counted(tiny_engine, model, notebook):
    """Of responses longer than the cache; for others the versions of transformers differ."""
    plan = plan_with(tiny_engine, 80, 90, 400, turns=2)
    done = notebook.replay_notebook(model, tiny_engine, plan, same_weights=True)
    counted = replay(tiny_engine, plan, ["notebook"])
    names = ("turn", "computed", "reused", "lost", "drift")
    assert [[row[name] for name in names] for row in done] == [
        [getattr(row, name) for name in names] for row in counted
    ]
    assert [row["divergence"] for row in done] == pytest.approx([row.divergence for row in counted], abs=1e-5)
    assert [(row["error"], row["position_shift"], row["sampled"]) for row in done] == [("", 0, 90)] * 2
    assert all(row["seconds"] > 0 and row["stop_check_seconds"] > 0 for row in done)


@pytest.mark.parametrize("response", [60, 100, 168, 169])
def test_a_short_response_never_arrives_whole_and_in_its_place(tiny_engine, model, notebook, response):
    plan = plan_with(tiny_engine, 80, 90, response, turns=2)
    _, row = notebook.replay_notebook(model, tiny_engine, plan, same_weights=True)
    assert row["reused"] == 169
    assert row["error"] or row["lost"] or row["position_shift"]
    assert row["divergence"] is None or row["divergence"] > 1e-3


def test_the_criterion_stops_at_a_closed_call_and_reads_all_ids_each_time(tiny_engine, model, notebook):
    encode = tiny_engine.tokenizer.encode
    asked, after = encode("<tool_call>\nx\n</tool_call>"), encode("and on and on")
    plan = plan_of([("prompt", encode("<|im_start|>user\nq<|im_end|>\n")), ("sampled", asked + after)])
    (row,) = notebook.replay_notebook(model, tiny_engine, plan, same_weights=False)
    assert row["sampled"] == len(asked)
    criterion = notebook.RegexStop(tiny_engine.tokenizer)
    ended = [criterion(torch.tensor([ids]), None) for ids in (asked[:-1], asked, asked + after, encode("a<|im_end|>"))]
    assert ended == [False, True, False, True]
    assert criterion.checks == 4
    assert not any(pattern.search("the tags <tool_call>...</tool_call>, and more") for pattern in NOTEBOOK_STOPS)


def test_a_plan_of_one_id_turns(tiny_engine):
    rows = replay(tiny_engine, [Turn((5, 6), (7,)), Turn((8, 9, 10), (11,))], ["notebook"])
    assert [(row.computed, row.reused, row.lost) for row in rows] == [(2, 0, 0), (1, 2, 2)]
