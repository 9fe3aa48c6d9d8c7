"""`longhand train`: the options reach the training, what it prints, how it stops, and that nothing else pays for it."""

import inspect
import io
import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from longhand.agent import train_cli
from longhand.agent.demo import curve
from longhand.agent.demo import train as loop
from longhand.agent.demo.job import resumed_job
from longhand.agent.demo.log import Row
from longhand.agent.demo.recipe import Recipe
from longhand.engine.engine import Engine
from rich.console import Console

BRIEF = ["--steps", "3", "--tokens", "256", "--batches", "1", "--device", "cpu"]


def test_a_training_from_a_recorded_run(run_cli, tiny_folder, tmp_path):
    """ask --trace, trace export --sft, train --data: what the model sampled is what it is trained on."""
    trace, sft, out = tmp_path / "run.jsonl", tmp_path / "sft.jsonl", tmp_path / "out"
    code, _, error = run_cli("ask", "How tall is it?", "--model", tiny_folder, "--thinking", "4", "--answer", "4",
                              "--trace", trace)  # fmt: skip
    assert code == 0, error
    assert run_cli("trace", "export", trace, "--sft", sft)[0] == 0
    code, printed, error = run_cli("train", "--out", out, "--start", tiny_folder, "--data", sft, "--rate", "0.1",
                                    *BRIEF)  # fmt: skip
    assert code == 0, error
    assert printed == ""
    assert "samples from --data: 1, in 100% of the batches" in error
    assert "step 3/3  loss " in error
    assert f"{out}: trained; longhand ask --model {out}" in error
    assert [path.name for path in sorted(out.iterdir())] == [
        "config.json", "curve.png", "curve.svg", "generation_config.json", "log.jsonl", "model.safetensors",
        "recipe.json", "tokenizer.json",
    ]  # fmt: skip
    made = json.loads((out / "recipe.json").read_text())
    given = {"steps": 3, "tokens": 256, "batches": 1, "rate": 0.1, "mix": 1.0, "copy_steps": 0, "hidden_size": 48}
    assert {name: made["recipe"][name] for name in given} == given
    assert made["data"][0]["path"] == str(sft)
    assert made["start"] == str(tiny_folder.resolve())
    Engine.from_pretrained(out, device="cpu")


def test_written_data_is_read_again(run_cli, make_checkpoint, tmp_path):
    path, start = tmp_path / "samples.jsonl", make_checkpoint(max_positions=8192)
    code, _, error = run_cli("train", "--write-data", path, "--count", "3", "--seed", "5", "--start", start)
    assert code == 0, error
    assert f"{path} (samples: 3); longhand train --data {path} --start {start}" in error
    assert len(path.read_text().splitlines()) == 3
    code, _, error = run_cli("train", "--out", tmp_path / "out", "--start", start, "--data", path,
                              "--mix", "0.5", *BRIEF)  # fmt: skip
    assert code == 0, error
    assert "samples from --data: 3, in 50% of the batches" in error


def test_a_tokenizer_that_was_trained_lies_beside_the_data(run_cli, tmp_path, monkeypatch, tokenizer_json):
    from longhand.agent.demo import job

    text = json.dumps(tokenizer_json("dense"))
    monkeypatch.setattr(job, "train_tokenizer", lambda vocab_size, sentences, seed: text)
    code, _, error = run_cli("train", "--write-data", tmp_path / "samples.jsonl", "--count", "2")
    assert code == 0, error
    beside = tmp_path / "samples.tokenizer.json"
    assert f"--tokenizer {beside}" in error
    assert beside.read_text() == text


def test_ctrl_c_and_resume(run_cli, tiny_folder, tmp_path, monkeypatch):
    out, run = tmp_path / "out", loop.train

    def stopping(job, report):
        return run(job, lambda row: (report(row), row.step == 1 and signal.raise_signal(signal.SIGINT)))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", stopping)
        code, _, error = run_cli("train", "--out", out, "--start", tiny_folder, *BRIEF)
    assert code == 130
    assert f"stopped after step 2; go on with: longhand train --out {out} --resume" in error
    assert resumed_job(out, {}, device="cpu").recipe.steps == 3
    code, _, error = run_cli("train", "--out", out, "--resume", "--steps", "4", "--device", "cpu")
    assert code == 2
    assert error == (f"longhand: --resume: {out} was begun with --steps 3, not 4; leave the option out, or train anew "
                     "in another folder\n")  # fmt: skip
    code, _, error = run_cli("train", "--out", out, "--resume", "--device", "cpu")
    assert code == 0, error
    assert "step 3/3" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--count", "3"], "--count goes with --write-data"),
        (["--write-data", "x.jsonl", "--steps", "3"], "--steps is about a training; --write-data only writes samples"),
        (["--write-data", "x.jsonl", "--threads", "1"], "--threads is about a training"),
        (["--write-data", "x.jsonl", "--resume"], "--resume is about a training"),
        (["--write-data", "x.jsonl", "--count", "0"], "--count must be 1 or more, not 0"),
        (["--write-data", "no/x.jsonl"], "--write-data no/x.jsonl: its folder does not exist"),
        (["--out", "new", "--data", "none.jsonl", "--start", "DEMO"], "none.jsonl: cannot be read"),
        (["--out", "new", "--resume"], "--resume: new holds no state.safetensors"),
        (["--out", "new", "--rate", "0"], "--rate must be a positive number, not 0"),
        (["--out", "new", "--dtype", "int8"], "--dtype 'int8' is not one of bfloat16, float32"),
        (["--out", "new", "--device", "cuda:9"], "device 'cuda:9': torch sees"),
    ],
)
def test_what_is_refused(run_cli, tmp_path, monkeypatch, tiny_folder, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, printed, error = run_cli("train", *(tiny_folder if word == "DEMO" else word for word in arguments))
    assert (code, printed) == (2, "")
    assert error.startswith(f"longhand: {said}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_there_is_a_line(run_cli, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(curve.importlib.util, "find_spec", lambda name: None)
    code, _, error = run_cli("train", "--out", tmp_path / "out", "--start", tiny_folder, *BRIEF)
    assert code == 0
    assert error.endswith("no learning curve is drawn without matplotlib: pip install matplotlib\n")
    assert not list((tmp_path / "out").glob("curve.*"))


def test_a_bar_on_a_terminal():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120)
    job = SimpleNamespace(recipe=Recipe(steps=10), log_every=50)
    with train_cli.progress(console, job) as report:
        for step in range(1, 6):
            report(Row(step, 2.5, 0.75, step * 1000, step * 2.0))
    shown = file.getvalue()
    assert "5/10" in shown
    assert "loss 2.5000  hit 0.7500  500 ids/s" in shown


def test_lines_where_there_is_no_terminal():
    file = io.StringIO()
    job = SimpleNamespace(recipe=Recipe(steps=120), log_every=50)
    with train_cli.progress(Console(file=file), job) as report:
        for step in range(1, 121):
            report(Row(step, 2.5, 0.75, step * 1000, step * 6.0))
    shown = file.getvalue().splitlines()
    assert [line.split()[1] for line in shown] == ["50/120", "100/120", "120/120"]
    assert shown[1] == "step 100/120  loss 2.5000  hit 0.7500  167 ids/s  2 min left"


def test_the_help_tells_the_recipes_defaults():
    options = inspect.signature(train_cli.train, eval_str=True).parameters
    for name in ("steps", "batches", "tokens", "seed", "dtype", "decay_from", "whole_prompt_from"):
        assert options[name].annotation.__metadata__[0].help.endswith(f"[default: {getattr(Recipe, name)}]"), name
    assert options["rate"].annotation.__metadata__[0].help.endswith("[default: 1]")
    assert Recipe.rate == 1.0


def test_asking_does_not_load_what_trains(tiny_folder, tmp_path):
    code = (
        "import sys\nfrom longhand.agent import cli\n"
        "sys.argv = ['longhand', 'ask', 'Hi', '--thinking', '2', '--answer', '2', '--model', sys.argv[1]]\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print('trained by:', [name for name in sys.modules if name.startswith('longhand.agent.demo.')])\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tiny_folder)], capture_output=True, text=True, cwd=tmp_path,
                         timeout=100, check=False)  # fmt: skip
    assert run.stdout.endswith("trained by: []\n"), run.stdout + run.stderr
