"""Quantize once: a copy that this engine and transformers load, resumed where it stopped, never half a folder."""

import json
import random
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from longhand import Engine
from longhand.engine import quantize as module
from longhand.engine.checkpoint import Quantize
from longhand.engine.errors import LonghandError
from longhand.engine.quantize import cached_copy, quantize_checkpoint
from longhand.engine.writer import SafetensorsWriter
from longhand.kernels import reference
from rich.console import Console
from safetensors.torch import load_file

SIZES = {"hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 128, "tied": False}
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9]


def logits(engine):
    session = engine.session()
    session.feed(IDS)
    return session.logits()


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("nested", "head"), [(False, False), (True, False), (True, True)])
def test_the_copy_is_what_quantizing_on_the_way_gives(make_checkpoint, tmp_path, dtype, shards, nested, head):
    source, target = make_checkpoint(shards=shards, dtype=dtype, **SIZES), tmp_path / "copy"
    calls = []
    quantize_checkpoint(source, target, Quantize(nested, head), progress=lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert len({total for _, total in calls}) == 1
    copy = Engine.from_pretrained(target, device="cpu", dtype=dtype)
    on_the_way = Engine.from_pretrained(
        source, device="cpu", quantization="nf4", double_quant=nested, head="nf4" if head else None, dtype=dtype
    )
    assert copy.quantization == "nf4"
    assert (copy.decoder.lm_head.quantized is not None) == head
    assert torch.equal(logits(copy), logits(on_the_way))
    assert files(tmp_path) == ["copy"]
    size = {path: sum(file.stat().st_size for file in path.glob("*.safetensors")) for path in (source, target)}
    assert size[target] < size[source]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("nested", "head"), [(False, False), (True, False), (True, True)])
def test_transformers_loads_the_copy(make_checkpoint, tmp_path, shards, nested, head):
    transformers = pytest.importorskip("transformers")
    source, target = make_checkpoint(shards=shards, **SIZES), tmp_path / "copy"
    quantize_checkpoint(source, target, Quantize(nested, head))
    model = transformers.Qwen2ForCausalLM.from_pretrained(target, dtype=torch.float32, device_map="cpu")
    engine = Engine.from_pretrained(target, device="cpu")
    theirs = {name: part for name, part in model.named_modules() if type(part).__name__ == "Linear4bit"}
    ours = {name: part for name, part in engine.decoder.named_modules() if getattr(part, "quantized", None)}
    assert theirs.keys() == ours.keys()
    assert ("lm_head" in theirs) == head
    from bitsandbytes.functional import dequantize_4bit

    for name, part in theirs.items():
        weight = dequantize_4bit(part.weight.data, part.weight.quant_state)
        assert torch.equal(weight, reference.dequantize(ours[name].quantized, torch.float32)), name
        part.train()  # dequantize and multiply: the fused path of eval mode rounds to bfloat16
    with torch.no_grad():
        want = model(torch.tensor([IDS])).logits[0, -1]
    assert (logits(engine) - want).abs().max() <= 1e-4


def test_what_is_beside_the_weights_comes_along(make_checkpoint, tmp_path):
    source = make_checkpoint(**SIZES)
    (source / "generation_config.json").write_text('{"temperature": 0.6}')
    (source / "README.md").write_text("not this")
    quantize_checkpoint(source, tmp_path / "copy", Quantize(True))
    assert files(tmp_path / "copy") == [
        "config.json", "generation_config.json", "longhand.json", "model.safetensors", "tokenizer.json"
    ]  # fmt: skip
    record = json.loads((tmp_path / "copy" / "longhand.json").read_text())
    (known,) = record["files"].values()
    assert known["bytes"] == (source / "model.safetensors").stat().st_size
    assert len(known["sha256"]) == 64


class StopError(Exception):
    pass


def stop_after(count):
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == count:
            raise StopError

    return progress


@pytest.mark.parametrize("count", [1, 10, 25])
def test_an_interrupted_run_goes_on_at_the_unfinished_file(make_checkpoint, tmp_path, monkeypatch, count):
    source, target = make_checkpoint(shards=3, **SIZES), tmp_path / "copy"
    with pytest.raises(StopError):
        quantize_checkpoint(source, target, Quantize(True), progress=stop_after(count))
    assert files(tmp_path) == ["copy.partial"]
    finished = [path for path in (tmp_path / "copy.partial").glob("*.safetensors")]
    assert not list((tmp_path / "copy.partial").glob("*.tmp"))
    for path in finished:
        load_file(path)
    written = []
    convert = module._convert
    monkeypatch.setattr(module, "_convert", lambda *given: (written.append(given[0].tensors[given[1]][0].name),
                                                           convert(*given)))  # fmt: skip
    quantize_checkpoint(source, target, Quantize(True))
    assert not {path.name for path in finished} & set(written)
    assert files(tmp_path) == ["copy"]
    quantize_checkpoint(source, tmp_path / "again", Quantize(True))
    for path in target.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_source_that_changed_is_noticed(make_checkpoint, tmp_path):
    source, target = make_checkpoint(shards=3, **SIZES), tmp_path / "copy"
    with pytest.raises(StopError):
        quantize_checkpoint(source, target, Quantize(True), progress=stop_after(25))
    (finished,) = [name for name in files(tmp_path / "copy.partial") if name.startswith("model")][:1]
    path = source / finished
    path.touch()  # a new time alone is no change
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(LonghandError, match=f"{finished}: has changed since"):
        quantize_checkpoint(source, target, Quantize(True))
    data[-1] ^= 1
    path.write_bytes(data)
    quantize_checkpoint(source, target, Quantize(True))


def test_the_copy_in_the_cache(make_checkpoint, tmp_path):
    source, cache = make_checkpoint(**SIZES), tmp_path / "cache"
    calls = []
    first = cached_copy(source, cache, Quantize(True), progress=lambda *call: calls.append(call))
    assert calls
    calls.clear()
    assert cached_copy(source, cache, Quantize(True), progress=lambda *call: calls.append(call)) == first
    assert not calls
    assert cached_copy(source, cache, Quantize(False)) != first
    path = source / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    cached_copy(source, cache, Quantize(True), progress=lambda *call: calls.append(call))
    assert calls  # made anew
    assert len(files(cache)) in (2, 3)


def test_two_at_once(make_checkpoint, tmp_path):
    source, target = make_checkpoint(**SIZES), tmp_path / "copy"

    def second(done, total):
        refused(source, target, "another process is writing")

    quantize_checkpoint(source, target, Quantize(True), progress=second)
    assert files(target) == ["config.json", "longhand.json", "model.safetensors", "tokenizer.json"]


def refused(source, target, *named, **options):
    with pytest.raises(LonghandError) as error:
        quantize_checkpoint(source, target, Quantize(**{"nested": True, **options}))
    assert "\n" not in str(error.value)
    for word in named:
        assert word in str(error.value), error.value


def test_what_cannot_be_quantized(make_checkpoint, tmp_path, monkeypatch):
    source = make_checkpoint(**SIZES)
    target = tmp_path / "copy"
    target.mkdir()
    refused(source, target, str(target), "exists already")
    target.rmdir()
    with pytest.raises(StopError):
        quantize_checkpoint(source, target, Quantize(True), progress=stop_after(1))
    refused(source, target, "other options", nested=False)
    (tmp_path / "copy.partial" / "longhand.json").write_text("{")
    refused(source, target, "copy.partial")
    shutil.rmtree(tmp_path / "copy.partial")
    (tmp_path / "file").write_text("")
    refused(source, tmp_path / "file" / "copy", "cannot be used")
    quantize_checkpoint(source, target, Quantize(True))
    refused(target, tmp_path / "twice", "stored in 4 bits already")
    tied = make_checkpoint(**{**SIZES, "tied": True})
    refused(tied, tmp_path / "tied", "lm_head is the embedding", head=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    refused(source, tmp_path / "full", "may be needed")


def test_the_writer_writes_what_safetensors_reads(tmp_path):
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    tensors = {
        "odd": torch.randint(0, 256, (7,), dtype=torch.uint8, generator=generator),
        "float": torch.randn(3, 5, generator=generator),
        "brain": torch.randn(2, 3, generator=generator).bfloat16(),
        "half": torch.randn(1, 1, generator=generator).half(),
        "none": torch.empty(0, 4),
        "turned": torch.randn(4, 6, generator=generator).T,
        "whole": torch.arange(5, dtype=torch.int32),
    }
    names = {torch.uint8: "U8", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int32: "I32"}
    path = tmp_path / "out.safetensors"
    with SafetensorsWriter(path, {n: (names[t.dtype], tuple(t.shape)) for n, t in tensors.items()}) as writer:
        for name in rng.sample(sorted(tensors), len(tensors)):
            writer.write(name, tensors[name])
        assert files(tmp_path) == ["out.safetensors.tmp"]
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
    with pytest.raises(ValueError, match="not"), SafetensorsWriter(path, {"a": ("F32", (2,))}) as writer:
        writer.write("a", torch.zeros(3))
    with pytest.raises(ValueError, match="never written: a"), SafetensorsWriter(path, {"a": ("F32", (2,))}):
        pass
    assert load_file(path).keys() == tensors.keys()
    assert files(tmp_path) == ["out.safetensors"]


def test_the_command(make_checkpoint, tmp_path):
    source, target = make_checkpoint(**SIZES), tmp_path / "copy"
    command = [sys.executable, "-m", "longhand.agent.cli", "quantize", str(source)]

    def run(*given):
        return subprocess.run([*command, *given], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)

    done = run(str(target), "--head", "nf4")
    assert (done.returncode, done.stdout) == (0, "")
    assert "in 4 bits" in " ".join(done.stderr.split())
    assert "kernels" not in done.stderr  # bitsandbytes looks for a package of that name
    assert Engine.from_pretrained(target, device="cpu").decoder.lm_head.quantized.nested is not None
    again = run(str(target))
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr
    assert run(str(tmp_path / "other"), "--head", "fp4").returncode == 2
    assert files(tmp_path) == ["copy"]


def test_the_first_ask_keeps_a_copy(make_checkpoint, tmp_path, monkeypatch):
    from longhand.agent.prepare import use_copy

    monkeypatch.setenv("LONGHAND_CACHE", str(tmp_path / "cache"))
    source, notes = make_checkpoint(**SIZES), Console(stderr=True)
    options = SimpleNamespace(quantization="auto", double_quant=True, head="bf16", device="cpu")
    assert use_copy(source, options, notes) == (source, "")  # a small model stays as it is
    monkeypatch.setattr("longhand.engine.options.QUANTIZE_ABOVE", 1000)
    copy, note = use_copy(source, options, notes)
    assert copy.parent == tmp_path / "cache" / "quantized"
    assert str(copy) in note
    assert use_copy(source, options, notes)[0] == copy
    assert use_copy(copy, options, notes) == (copy, "")  # stored in 4 bits already
    options.quantization = "none"
    assert use_copy(source, options, notes) == (source, "")
    options.quantization = "nf4"
    monkeypatch.setenv("LONGHAND_CACHE", str(source / "config.json"))  # no folder
    model, note = use_copy(source, options, notes)
    assert model == source
    assert "quantized while loading" in note
