"""Replaying a run in every way: each computes what its definition says (the notebook's: test_notebook.py)."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand import DEMO, Engine
from longhand.agent import bench, bench_plot, cli
from longhand.agent.replay_modes import (
    Replay,
    Turn,
    common_prefix,
    made_up,
    plan_of,
    replay,
    stop_checks,
    sweep,
    templated,
)
from longhand.engine.errors import LonghandError
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def engine():
    return Engine.from_pretrained(DEMO, device="cpu")


@pytest.fixture(scope="module")
def plan(engine):
    return made_up(engine, bench.corpus(), turns=3, prompt=120, thinking=50, response=70)


def test_a_made_up_run_has_the_lengths_that_were_asked_for(engine, plan):
    assert [len(turn.fed) for turn in plan] == [120, 70, 70]
    assert [len(turn.sampled) for turn in plan] == [50, 50, 50]
    assert all(turn.sampled[-1] == engine.control.tool_call_end for turn in plan)
    for short in ({"prompt": 5}, {"thinking": 3}, {"response": 1}, {"turns": 0}):
        with pytest.raises(LonghandError, match="made-up run"):
            made_up(engine, "text", **{"turns": 2, "prompt": 100, "thinking": 60, "response": 60, **short})


def test_append_computes_what_was_fed_and_the_pending_id(engine, plan):
    rows = replay(engine, plan, ["append"])
    assert [row.computed for row in rows] == [120, 71, 71]
    assert [row.reused for row in rows] == [0, 169, 289]
    assert all(row.drift is None and row.divergence == 0 and row.same_first for row in rows)


def test_encoding_anew_computes_everything(engine, plan):
    rows = replay(engine, plan, ["re-encode"])
    assert [row.computed for row in rows] == [row.length for row in rows] == [120, 240, 360]
    assert all(row.reused == 0 and row.drift is None for row in rows)
    assert all(row.divergence < 1e-6 and row.same_first for row in rows)


def test_text_on_the_way_keeps_the_prefix_up_to_the_first_id_that_differs(engine):
    """'a' + 'b' sampled as two ids, where the tokenizer has one for them: text forgets that."""
    encode = engine.tokenizer.encode
    whole = next(encode(word) for word in ("the", "is", "of", "on") if len(encode(word)) == 1)
    apart = [encode(letter)[0] for letter in engine.tokenizer.decode(whole)]
    head = encode("<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n<think>\n")
    plan = [
        Turn(tuple(head), tuple(apart)),
        Turn(tuple(encode("\n<tool_response>\n7\n</tool_response>\n")), tuple(whole)),
    ]
    first, second = replay(engine, plan, ["re-tokenize"])
    assert (first.drift, first.computed) == (None, len(head))
    assert second.drift == len(head)
    assert second.length == len(head) + 1 + len(plan[1].fed)
    assert second.reused == len(head) - 1  # a rewind leaves one id to forward
    assert second.computed == second.length - second.reused


def test_a_template_drops_the_thinking(engine, plan):
    text = templated(engine, plan)
    call = '<tool_call>\n{"action"'
    assert text.count(call) == 2
    assert text.count("<|im_start|>assistant") == 3
    assert text.count("<think>") == 1
    assert text.endswith("<|im_start|>assistant\n<think>\n")
    rows = replay(engine, plan, ["re-template"])
    assert rows[0].drift is None
    for row in rows[1:]:
        assert row.reused + row.computed == row.length
        assert row.length < 120 + 120 * (row.turn - 1)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_a_replay_holds_what_it_was_told_and_computes_only_what_is_new(engine, data):
    ids = st.lists(st.integers(0, 300), min_size=1, max_size=30)
    run = Replay(engine)
    for _ in range(3):
        target = data.draw(ids)
        kept = data.draw(st.integers(0, len(run.session)))
        target = list(run.session.ids[:kept]) + target
        had, before = run.session.cached, run.session.ids
        _, computed, reused, _ = run.start(target)
        assert list(run.session.ids) == target
        assert computed + reused == len(target)
        assert reused >= min(had, common_prefix(before, target)) - 1
        assert run.session.recomputed == 0
        run.sample(data.draw(ids))
        assert len(run.session.pending) == 1


def test_plans_from_spans():
    spans = [("prompt", [1, 2]), ("sampled", [3]), ("tool", [4]), ("forced", [5]), ("sampled", [6, 7]), ("tool", [8])]
    assert plan_of(spans) == [Turn((1, 2), (3,)), Turn((4, 5), (6, 7))]
    assert plan_of([*spans[:2], ("sampled", [9])]) == [Turn((1, 2), (3, 9))]
    with pytest.raises(LonghandError, match="no turn"):
        plan_of([("prompt", [1])])


def test_the_sweep_and_the_checks(engine):
    rows = sweep(engine, bench.corpus(), [300, 40], appended=16)
    assert [(row["prefix"], row["computed"], row["reused"]) for row in rows] == [(40, 16, 40), (300, 16, 300)]
    assert all(row["append_seconds"] > 0 and row["reencode_seconds"] > 0 for row in rows)
    (row,) = stop_checks(engine, bench.corpus(), [64])
    assert row["ids"] == 64
    assert row["hits"] == 0


def test_runs_that_cannot_be_replayed(engine, plan):
    with pytest.raises(LonghandError, match="mode 'none'"):
        replay(engine, plan, ["none"])
    with pytest.raises(LonghandError, match="max_context"):
        replay(engine, plan * 20)


def run(*arguments):
    return CliRunner().invoke(bench.app, ["turns", *map(str, arguments)])


def test_the_command(tmp_path, monkeypatch):
    done = run("--made-up", 2, "--prompt", 80, "--thinking", 40, "--response", 50, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert report["totals"]["append"]["computed"] == 80 + 51
    assert [turn["fed"] for turn in report["plan"]] == [80, 50]
    done = run("--made-up", 2, "--prompt", 80, "--thinking", 40, "--response", 50)
    lines = done.output.splitlines()[:-1]
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["notebook", "0", "119", "50", "ends", "-", "119", "-"] for line in lines)
    assert "notebook ends in turn 2: the response is not longer than the cache" in " ".join(lines)
    path = tmp_path / "run.jsonl"
    asked = CliRunner().invoke(
        cli.app, ["ask", "When was QwQ-32B released?", "--device", "cpu", "--trace", str(path), "--json"]
    )
    assert asked.exit_code == 0, asked.output
    turns = json.loads(asked.stdout.splitlines()[-1])["turns"]
    done = run("--trace", path, "--modes", "append,re-encode")
    assert done.exit_code == 0, done.output
    rows = [row for row in json.loads(done.output.splitlines()[-1])["turns"] if row["mode"] == "append"]
    assert [row["computed"] for row in rows] == [turns[0]["fed"], turns[1]["fed"] + 1]
    assert max(map(len, done.output.splitlines()[:-1])) <= 80
    for arguments in (("--prefixes", "1,x"), ("--trace", tmp_path / "none"), ("--trace", path, "--made-up", 2),
                      ("--modes", "fast")):  # fmt: skip
        assert isinstance(run(*arguments).exception, LonghandError)
    path.write_text(path.read_text().replace('"ids": [', '"ids": [99999999, ', 1))
    assert isinstance(run("--trace", path).exception, LonghandError)
    monkeypatch.setattr(bench_plot.importlib.util, "find_spec", lambda name: None)
    assert "pip install matplotlib" in str(run("--plots", tmp_path / "plots").exception)
    assert not (tmp_path / "plots").exists()


def test_pictures(engine, plan, tmp_path):
    pytest.importorskip("matplotlib")
    report = bench.measure(engine, plan, ["append", "re-encode", "notebook"], [32, 64], checks=[16])
    paths = list(bench_plot.draw(report, tmp_path / "plots"))
    assert sorted(path.name for path in paths) == [
        "ids.png",
        "ids.svg",
        "prefix.png",
        "prefix.svg",
        "turns.png",
        "turns.svg",
    ]
    assert all(path.stat().st_size > 4000 for path in paths)
    assert "matplotlib" in sys.modules
