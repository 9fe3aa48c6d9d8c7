"""Training: the masked loss, resuming bit for bit, processes, Ctrl-C, and what is refused; on models far smaller than
the real one."""

import json
import math
import multiprocessing
import signal
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand.agent.demo import curve
from longhand.agent.demo.job import new_job, resumed_job
from longhand.agent.demo.log import read_log
from longhand.agent.demo.model import new_model
from longhand.agent.demo.pages import Prose
from longhand.agent.demo.recipe import Recipe
from longhand.agent.demo.samples import SHARES
from longhand.agent.demo.tokenizer import train_tokenizer
from longhand.agent.demo.train import Interrupt, Trainer, run, train
from longhand.agent.demo.training_ops import TrainingCache, loss_of
from longhand.engine.engine import Engine
from longhand.engine.errors import LonghandError
from longhand.engine.tokenizer import Tokenizer
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file
from torch.nn import functional

PROSE = Prose(["The tower of Velm stands 33 metres tall, and it was finished in 1889 by a guild of masons."])
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1}
SMALL = {**SIZES, "steps": 6, "batches": 1, "tokens": 512, "copy_steps": 1}


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(train_tokenizer(600, PROSE, seed=1))
    return path


@pytest.fixture(scope="module")
def data_file(tmp_path_factory, tokenizer_file):
    """Three rows: 40 ids each, of which every other one counts."""
    known = Tokenizer.from_file(tokenizer_file).defined
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [[known[(row * 40 + n) % len(known)] for n in range(40)] for row in range(3)]
    lines = [{"input_ids": ids, "labels": [i if n % 2 else -100 for n, i in enumerate(ids)]} for ids in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def begin(tmp_path, tokenizer_file):
    """begin(steps=..., data=..., log_every=..., ...) -> a small job in a new folder; `name` of the folder."""

    def make(name="out", data=(), start=None, tokenizer=tokenizer_file, processes=1, save_every=500, **given):
        recipe = {**SMALL, **given} if start is None else {**SMALL, **dict.fromkeys(SIZES), "copy_steps": 0, **given}
        recipe = {key: value for key, value in recipe.items() if value is not None}
        return new_job(tmp_path / name, recipe, start, None if start else tokenizer, data, device="cpu",
                       processes=processes, save_every=save_every, log_every=2)  # fmt: skip

    return make


def go(job, until=None, report=lambda row: None):
    """Train in this process, up to a step or to the end; returns the trainer."""
    trainer = Trainer(job)
    run(trainer, lambda: trainer.step + 1 == until, report)
    return trainer


def same_training(one, other):
    """Parameters, the optimizers' states and the written files are equal, bit for bit."""
    for (name, a), (_, b) in zip(one.model.named_parameters(), other.model.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    for a, b in zip(one.optimizers, other.optimizers, strict=True):
        for index, kept in a.state_dict()["state"].items():
            for key, value in kept.items():
                assert torch.equal(value, b.state_dict()["state"][index][key]), (index, key)
    assert [stream.position for stream in one.streams] == [stream.position for stream in other.streams]
    same_files(one.job.out, other.job.out)


def same_files(one, other):
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert log_of(one) == log_of(other)


def log_of(out):
    return [{**row, "seconds": None} for row in read_log(out / "log.jsonl")]


def tiny_model(seed=0):
    recipe = Recipe(**SIZES, vocab_size=64)
    return new_model(recipe.config(), seed)


@settings(max_examples=30)
@given(st.data())
def test_the_loss_is_that_of_the_labels_that_count(data):
    model = tiny_model()
    rows, width = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 12))
    ids = torch.tensor(data.draw(st.lists(st.integers(0, 63), min_size=rows * width, max_size=rows * width)))
    ids = ids.view(rows, width)
    counted = data.draw(st.lists(st.booleans(), min_size=rows * width, max_size=rows * width).filter(any))
    labels = torch.where(torch.tensor(counted).view(rows, width), ids, -100)
    if (labels[:, 1:] == -100).all():
        labels[0, 1] = ids[0, 1]
    loss, hit = loss_of(model, None, ids, labels, torch.float32)
    logits = model.logits(model.hidden(ids, TrainingCache()))[:, :-1].flatten(0, 1)
    target = labels[:, 1:].flatten()
    torch.testing.assert_close(loss, functional.cross_entropy(logits, target, ignore_index=-100))
    torch.testing.assert_close(hit, (logits.argmax(-1) == target)[target != -100].float().mean())


def test_nothing_is_learned_from_ids_without_a_label():
    """The gradient of the head's rows: only what is predicted pulls, and only from where it is predicted."""
    model = tiny_model()
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    labels = torch.tensor([[-100, -100, 3, -100, -100, -100]])
    loss, _ = loss_of(model, None, ids, labels, torch.float32)
    changed = ids.clone()
    changed[:, 3:] = 60  # behind the last label that counts
    assert loss_of(model, None, changed, labels, torch.float32)[0].item() == loss.item()
    changed[:, 1] = 60  # before it
    assert loss_of(model, None, changed, labels, torch.float32)[0].item() != loss.item()


def test_a_shared_opening_is_the_same_as_one_in_every_row():
    model = tiny_model()
    opening, ids = torch.tensor([[9, 8, 7, 6, 5]]), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    labels = torch.tensor([[-100, 2, 3, -100], [-100, -100, 7, 8]])
    shared = loss_of(model, opening, ids, labels, torch.float32)
    whole = loss_of(model, None, torch.cat((opening.expand(2, -1), ids), 1),
                    torch.cat((torch.full((2, 5), -100), labels), 1), torch.float32)  # fmt: skip
    torch.testing.assert_close(shared, whole)
    for loss in (shared[0], whole[0]):
        loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_bfloat16_is_near_float32_and_not_the_same():
    ids = torch.arange(24).view(2, 12)
    one, other = (loss_of(tiny_model(), None, ids, ids, dtype)[0].item() for dtype in (torch.float32, torch.bfloat16))
    assert one != other
    assert one == pytest.approx(other, rel=0.01)


def test_it_learns_and_writes_a_checkpoint_that_loads(begin):
    trainer = go(begin(steps=40, copy_steps=0, rate=2.0, whole_prompt_from=0, tokens=256))
    rows = read_log(trainer.job.out / "log.jsonl")
    assert [row["step"] for row in rows] == list(range(2, 41, 2))
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    assert rows[-1]["tokens"] == trainer.ids > rows[0]["tokens"]
    engine = Engine.from_pretrained(trainer.job.out, device="cpu")
    session = engine.session()
    session.feed(engine.tokenizer.encode("The tower"))
    assert torch.isfinite(session.logits()).all()
    written = load_file(trainer.job.out / "model.safetensors")
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(written[name], parameter.detach().bfloat16())
    assert not (trainer.job.out / "state.safetensors").exists()


def test_three_steps_and_three_more_are_six(begin, data_file):
    """With copies, generated runs and rows of a file on both sides of the stop, which also cuts a line of the log."""
    kinds = [Recipe(**SMALL, mix=0.5).kind(step) for step in range(6)]
    assert kinds == ["copies", "runs", "rows", "runs", "rows", "runs"]
    mixed = {"data": [data_file], "mix": 0.5, "batches": 2}
    straight = go(begin("straight", **mixed))
    stopped = go(begin("stopped", **mixed), until=3)
    assert stopped.step == 3
    assert log_of(stopped.job.out) == log_of(straight.job.out)[:1]
    job = resumed_job(stopped.job.out, {}, device="cpu", log_every=2, processes=1)
    assert job.recipe == straight.job.recipe
    same_training(go(job), straight)


def test_a_killed_training_goes_on_from_what_was_saved_last(begin):
    straight = go(begin("straight"))

    def kill(row):
        if row.step == 5:
            raise MemoryError

    job = begin("killed", save_every=2)
    with pytest.raises(MemoryError):
        go(job, report=kill)
    with (job.out / "log.jsonl").open("a") as file:
        file.write('{"step": 6, "loss"')  # a line that was cut off, and one of a step that will come once more
        file.write('\n{"step": 6, "loss": 1.0, "hit": 0.0, "seconds": 1, "tokens": 1}\n')
    resumed = Trainer(resumed_job(job.out, {}, device="cpu", log_every=2))
    assert resumed.step == 4
    run(resumed, lambda: False, lambda row: None)
    same_training(resumed, straight)


def test_ctrl_c_leaves_a_state(begin):
    straight, before = go(begin("straight")), signal.getsignal(signal.SIGINT)
    job = begin("stopped")
    done = train(job, lambda row: signal.raise_signal(signal.SIGINT) if row.step == 2 else None)
    assert done == 3  # the step that had begun is kept
    assert signal.getsignal(signal.SIGINT) is before
    Engine.from_pretrained(job.out, device="cpu")
    again = resumed_job(job.out, {}, device="cpu", log_every=2)
    assert train(again) == 6
    same_files(job.out, straight.job.out)


def test_a_second_ctrl_c_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        assert not interrupt.asked
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_two_processes_give_what_one_gives(begin):
    """Ctrl-C stops both after the same step, and the state of two goes on as one."""
    straight = go(begin("straight", batches=2, steps=3, tokens=256))
    job = begin("shared", batches=2, steps=3, tokens=256, processes=2)
    assert train(job, lambda row: signal.raise_signal(signal.SIGINT) if row.step == 1 else None) == 2
    same = go(resumed_job(job.out, {}, device="cpu", log_every=2, processes=1))
    same_training(same, straight)


def test_a_process_that_dies_is_told(begin):
    def kill(row):
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(LonghandError, match="process 1 of the training ended with exit code -9"):
        train(begin(batches=2, processes=2), kill)
    assert not torch.distributed.is_initialized()


def test_a_loss_that_is_no_number_ends_it(begin):
    trainer = Trainer(begin())
    with torch.no_grad():
        trainer.model.model.norm.weight.fill_(math.nan)
    with pytest.raises(LonghandError, match="step 1: the loss is nan; train with a lower --rate"):
        trainer.advance()
    assert trainer.step == 0


@pytest.mark.parametrize("kind", [{}, {"shards": 2, "tied": True, "layout": "old"}])
def test_a_start_is_gone_on_from(begin, make_checkpoint, kind):
    folder = make_checkpoint(**kind)
    (folder / "generation_config.json").write_text('{"temperature": 0.5}')
    job = begin(start=str(folder), steps=2)
    trainer = Trainer(job)
    for path in folder.glob("*.safetensors"):
        for name, tensor in load_file(path).items():
            assert torch.equal(dict(trainer.model.named_parameters())[name], tensor)
    run(trainer, lambda: False, lambda row: None)
    raw = json.loads((folder / "config.json").read_text())
    assert json.loads((job.out / "config.json").read_text()) == {
        **{key: value for key, value in raw.items() if key != "dtype"}, "torch_dtype": "bfloat16",
    }  # fmt: skip
    assert (job.out / "generation_config.json").read_text() == '{"temperature": 0.5}'
    assert (job.out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert Engine.from_pretrained(job.out, device="cpu").config.tie_word_embeddings == kind.get("tied", False)


def test_equal_seeds_give_equal_trainings_and_others_do_not(begin):
    one, same, other = (go(begin(f"{n}", seed=seed, steps=2)) for n, seed in enumerate((1, 1, 2)))
    same_training(one, same)
    assert not torch.equal(one.model.model.norm.weight, other.model.model.norm.weight)


def test_the_schedule_of_the_rates():
    recipe = Recipe(steps=1000, decay_from=0.5, rate=2.0)
    assert recipe.rate_at(0) == 0.02
    assert recipe.rate_at(99) == recipe.rate_at(500) == 2.0
    assert recipe.rate_at(750) == pytest.approx(1.0)
    assert recipe.rate_at(999) == pytest.approx(0.02)
    assert {recipe.prompt_share(step) for step in range(500, 1000)} == {1.0}
    early = [recipe.prompt_share(step) for step in range(500)]
    assert 0.3 < sum(share > 0 for share in early) / 500 < 0.5
    assert max(early) < 1.0


@given(st.integers(1, 400), st.integers(0, 20), st.floats(0, 1))
def test_the_mix_holds_at_any_time(steps, copies, mix):
    recipe = Recipe(steps=steps + copies, copy_steps=copies, mix=mix)
    kinds = [recipe.kind(step) for step in range(steps + copies)]
    assert kinds[:copies] == ["copies"] * copies
    for n in range(1, steps + 1):
        assert abs(kinds[copies : copies + n].count("rows") - n * mix) < 1 + 1e-9


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batches", 0), ("tokens", 0), ("mix", 1.5), ("whole_prompt_from", -0.1), ("decay_from", 1.0),
     ("rate", 0.0), ("rate", math.nan), ("copy_steps", -1), ("dtype", "float16"), ("leave_out", "three hops"),
     ("leave_out", ", ".join(SHARES))],
)  # fmt: skip
def test_a_recipe_checks_itself(field, value):
    with pytest.raises(LonghandError, match=f"^--{field.replace('_', '-')} "):
        replace(Recipe(), **{field: value})


def test_a_folder_with_something_in_it_is_refused(begin, tmp_path):
    go(begin("whole", steps=1))
    with pytest.raises(LonghandError, match="holds a checkpoint; name another folder"):
        begin("whole")
    go(begin("half"), until=1)
    with pytest.raises(LonghandError, match="holds an unfinished training; go on with --resume"):
        begin("half")
    (tmp_path / "file").write_text("")
    with pytest.raises(LonghandError, match=r"--out .*file: cannot be written"):
        begin("file")


def test_what_a_new_training_refuses(begin, tmp_path, make_checkpoint, data_file, tokenizer_file, monkeypatch):
    def refused(said, **options):
        with pytest.raises(LonghandError, match=said):
            begin("new", **options)
        assert not (tmp_path / "new").exists()

    refused("--mix is the share of batches that come from --data", mix=0.5)
    refused("--mix 0: nothing of --data would be read", mix=0.0, data=[data_file])
    refused("--data holds ids: say whose they are", data=[data_file], tokenizer=None)
    refused("--processes 2: a step has 1 batches", processes=2)
    refused("--processes must be 1 or more", processes=0)
    refused("--save-every must be 1 or more", save_every=0)
    refused("no such folder", start=str(tmp_path / "nowhere"))
    refused("no such file", tokenizer=tmp_path / "nowhere.json")
    with pytest.raises(LonghandError, match="--tokenizer: --start has one already"):
        new_job(tmp_path / "new", {}, str(make_checkpoint()), tokenizer_file, device="cpu")
    with pytest.raises(LonghandError, match="device 'tpu' is not one of"):
        new_job(tmp_path / "new", SMALL, tokenizer=tokenizer_file, device="tpu")
    monkeypatch.delattr(torch.optim, "Muon")
    refused(r"training needs torch.optim.Muon, which torch .* lacks: pip install 'torch>=2.9'")


def test_a_start_in_four_bits_is_refused(begin, make_checkpoint, tmp_path):
    from longhand.engine.checkpoint import Quantize
    from longhand.engine.quantize import quantize_checkpoint

    quantize_checkpoint(make_checkpoint(hidden=64, heads=2), tmp_path / "nf4", Quantize(False, False), "cpu")
    with pytest.raises(LonghandError, match="is stored in four bits; training needs an unquantized checkpoint"):
        begin(start=str(tmp_path / "nf4"))


def test_a_state_of_another_recipe_is_refused_by_name(begin, data_file, tmp_path, make_checkpoint, tokenizer_file):
    job = begin(data=[data_file], mix=0.5)
    go(job, until=1)
    own = {name: getattr(job.recipe, name) for name in SMALL}
    assert resumed_job(job.out, own, tokenizer=tokenizer_file, data=[data_file], device="cpu").recipe == job.recipe

    def refused(said, given=None, **options):
        with pytest.raises(LonghandError, match=said):
            resumed_job(job.out, given or {}, device="cpu", **options)

    for field in fields(Recipe):
        was = getattr(job.recipe, field.name)
        value = {"dtype": "float32", "leave_out": "limit"}.get(field.name) or was + 1
        name, was = field.name.replace("_", "-"), "none" if was == "" else was
        refused(f"--resume: .* was begun with --{name} {was}, not {value}", {field.name: value})
    refused("was begun with --start none", start=str(make_checkpoint()))
    refused("was begun with 1 --data, not 2", data=[data_file, data_file])
    other = tmp_path / "other.jsonl"
    other.write_text("".join(reversed(data_file.read_text().splitlines(keepends=True))))
    refused("other.jsonl is not the data that", data=[other])
    (tmp_path / "other.json").write_text(train_tokenizer(500, PROSE, seed=1))
    refused("other.json is not the tokenizer that", tokenizer=tmp_path / "other.json")
    (job.out / "tokenizer.json").write_text((tmp_path / "other.json").read_text())
    refused("out/tokenizer.json is not the tokenizer that")


def test_a_damaged_state_is_refused(begin, tmp_path):
    with pytest.raises(LonghandError, match=r"--resume: .* holds no state\.safetensors"):
        resumed_job(tmp_path, {}, device="cpu")
    job = begin()
    go(job, until=1)
    path = job.out / "state.safetensors"
    whole, tensors = path.read_bytes(), load(path.read_bytes())
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()

    def refused(said):
        with pytest.raises(LonghandError, match=said):
            Trainer(resumed_job(job.out, {}, device="cpu"))

    path.write_bytes(whole[:100])
    refused(r"state\.safetensors: damaged")
    save_file(tensors, path)
    refused(r"is not a state of a training \(format longhand-training-1\)")
    save_file({name: tensor for name, tensor in tensors.items() if "norm" not in name}, path, metadata)
    refused(r"state\.safetensors: damaged")
    about = json.loads(metadata["about"])
    del about["recipe"]["seed"]
    save_file(tensors, path, {**metadata, "about": json.dumps(about)})
    refused("another version of Longhand wrote it: its recipe lacks seed")
    about["recipe"] |= {"seed": 1, "colour": 2}
    save_file(tensors, path, {**metadata, "about": json.dumps(about)})
    refused("another version of Longhand wrote it: its recipe has colour")


def test_the_learning_curve(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    rows = [{"step": 50 * n, "loss": 6 / n, "hit": 1 - 1 / n, "seconds": n, "tokens": n} for n in range(1, 9)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    png, svg = curve.draw(tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert svg.read_text().rstrip().endswith("</svg>")
    monkeypatch.setattr(curve.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LonghandError, match="no learning curve is drawn without matplotlib: pip install matplotlib"):
        curve.draw(tmp_path)
