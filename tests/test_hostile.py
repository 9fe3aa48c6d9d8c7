"""Ten thousand broken checkpoints: each loads or is refused in one line. No crash, no hang, no memory beyond the file's
own size and 1 GiB: a process of its own with that limit tries them."""

import json
import multiprocessing
import random
import resource

import pytest
import torch
from longhand.engine.checkpoint import Checkpoint, Quantize, load_decoder
from longhand.engine.decoder import Decoder
from longhand.engine.errors import LonghandError
from longhand.engine.quantize import quantize_checkpoint
from longhand.kernels.dispatch import choose_ops

CPU = torch.device("cpu")
NUMBERS = (0, 1, -1, 2, 7, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 2**64 + 8, 10**30, 1.5, 1e308, True, None)
STRINGS = ("", "F32", "BF16", "U8", "F8_E4M3", "I64", "BOOL", "F4", "weights", "../model.safetensors", "\x00", "\ud800")
SIZES = {"hidden": 32, "heads": 2, "kv_heads": 1, "intermediate": 64, "layers": 1, "vocab": 512}


def change_value(rng, value):
    """Another JSON value in the place of this one."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        form = rng.random()
        if form < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if form < 0.2:
            return {rng.choice((key + "x", "", "__metadata__", "lm_head.weight")) if name == key else name: part
                    for name, part in value.items()}  # fmt: skip
        if form < 0.3:
            return {**value, key: value[rng.choice(sorted(value))]}
        return {**value, key: change_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        index = rng.randrange(len(value))
        form = rng.random()
        if form < 0.1:
            return value[:index] + value[index + 1 :]
        if form < 0.2:
            return value[::-1]
        if form < 0.3:
            return value + value[:1]
        return [*value[:index], change_value(rng, value[index]), *value[index + 1 :]]
    if isinstance(value, int) and rng.random() < 0.5:
        return value + rng.choice((-64, -8, -1, 1, 8, 64, 10**6))
    return rng.choice((*NUMBERS, *STRINGS, [], {}, [[]], [value], {"a": value}, 10**5 * [1]))


def mutate(rng, data):
    """A broken safetensors file."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    form = rng.random()
    if form < 0.55:
        raw = json.loads(header)
        for _ in range(rng.choice((1, 1, 2, 3))):
            raw = change_value(rng, raw)
        text = json.dumps(raw).encode("utf-8", "surrogatepass")
        return len(text).to_bytes(8, "little") + text + body
    if form < 0.75:
        changed = bytearray(data[: 8 + length])
        for _ in range(rng.choice((1, 2, 8))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed) + body
    if form < 0.85:
        return data[: rng.randrange(len(data))]
    if form < 0.9:
        return (
            rng.choice((0, 1, length - 1, length + 1, 2**20, 2**40, 2**63, 2**64 - 1)).to_bytes(8, "little") + data[8:]
        )
    if form < 0.95:
        return data + bytes(rng.randrange(1, 100))
    changed = bytearray(data)  # also in the tensors: names of formats, tables, quant_states
    for _ in range(20):
        changed[rng.randrange(8 + length, len(changed))] = rng.randrange(256)
    return bytes(changed)


def attempt(folder):
    """What a load does, less the tokenizer; returns the message of a refusal."""
    try:
        checkpoint = attempt.known = getattr(attempt, "known", None) or Checkpoint(folder)
        checkpoint.files = checkpoint._files()
        checkpoint.tensors = checkpoint._tensors()
        with torch.device("meta"):
            decoder = Decoder(checkpoint.config, choose_ops(CPU, False), CPU)
        load_decoder(checkpoint, decoder, CPU, torch.float32, None)
    except LonghandError as error:
        return str(error)
    return None


def try_all(folder, seed, count, results):
    torch.set_num_threads(1)
    assert attempt(folder) is None
    rng = random.Random(seed)
    index = folder / "model.safetensors.index.json"
    originals = {path: path.read_bytes() for path in sorted(folder.glob("model*")) if path != index}
    largest = max(map(len, originals.values()))
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + largest + 2**30,) * 2)
    loaded = 0
    for _ in range(count):
        if index.exists() and rng.random() < 0.3:
            original = index.read_bytes()
            index.write_text(json.dumps(change_value(rng, json.loads(original))), "utf-8", "surrogatepass")
            message = attempt(folder)
            index.write_bytes(original)
        else:
            path = rng.choice(list(originals))
            path.write_bytes(mutate(rng, originals[path]))
            message = attempt(folder)
            path.write_bytes(originals[path])
        if message is None:
            loaded += 1
        else:
            assert "\n" not in message, message
            assert len(message) < 2000, message
            assert str(folder) in message, message
    results["loaded"] = loaded


@pytest.mark.parametrize(
    ("form", "shards", "count"), [("float32", 1, 4000), ("float32", 3, 2000), ("nf4", 1, 4000)], ids=str
)
def test_broken_files_are_refused(make_checkpoint, tmp_path, form, shards, count):
    folder = make_checkpoint(shards=shards, **SIZES)
    if form == "nf4":
        quantize_checkpoint(folder, tmp_path / "copy", Quantize(nested=True))
        folder = tmp_path / "copy"
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager:
        results = manager.dict()
        process = spawn.Process(target=try_all, args=(folder, 1, count, results))
        process.start()
        process.join(300)
        if process.is_alive():
            process.kill()
            process.join()
        assert process.exitcode == 0, "crashed, hung, failed or used too much memory: see the traceback above"
        assert 0 < results["loaded"] < 0.6 * count  # some changes break nothing, most must
