"""Loading: what is read is what was stored, and every bad input is one line that names the file or tensor."""

import json
import shutil
import socket
import sys

import httpx
import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors
from longhand.engine import memory
from longhand.engine.checkpoint import Checkpoint
from longhand.engine.engine import Engine
from longhand.engine.errors import LonghandError
from longhand.engine.hub import resolve
from longhand.kernels import reference
from safetensors.torch import load_file, save_file

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args):
        pytest.fail("a test tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def edit_json(path, change):
    raw = json.loads(path.read_text("utf-8"))
    change(raw)
    path.write_text(json.dumps(raw))


def edit_weights(folder, change, file="model.safetensors"):
    weights = load_file(folder / file)
    change(weights)
    (folder / file).unlink()
    save_file(weights, folder / file, metadata={"format": "pt"})


def cut(path, size):
    data = path.read_bytes()
    path.write_bytes(data[:size] if size >= 0 else data[: len(data) + size])


def refused(folder, *named, **options):
    """The load fails with one line that names each of these; nothing else is raised."""
    with pytest.raises(LonghandError) as error:
        Engine.from_pretrained(folder, device="cpu", **options)
    message = str(error.value)
    assert "\n" not in message
    for word in named:
        assert word in message, message
    return message


# What is stored is what is loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shards", [1, 4])
def test_tensors_are_loaded_as_stored(make_checkpoint, dtype, shards):
    folder = make_checkpoint(dtype=dtype, shards=shards)
    stored = {}
    for path in folder.glob("*.safetensors"):
        stored |= load_file(path)
    engine = Engine.from_pretrained(folder, device="cpu", dtype=dtype)
    loaded = dict(engine.decoder.named_parameters())
    assert loaded.keys() == stored.keys()
    for name, tensor in stored.items():
        assert torch.equal(loaded[name], tensor), name
        assert loaded[name].dtype == dtype
    assert (engine.dtype, engine.kv_dtype, engine.quantization) == (dtype, dtype, None)
    widened = Engine.from_pretrained(folder, device="cpu")  # small and on a CPU: float32 whatever is stored
    assert widened.dtype == torch.float32
    for name, parameter in widened.decoder.named_parameters():
        assert torch.equal(parameter, stored[name].float()), name


def test_options_are_kept(tiny_folder):
    engine = Engine.from_pretrained(tiny_folder, "cpu", dtype="bfloat16", kv_dtype=torch.float32, max_context=77)
    assert (engine.dtype, engine.kv_dtype, engine.max_context) == (torch.bfloat16, torch.float32, 77)
    assert engine.name == str(tiny_folder)
    assert engine.device == torch.device("cpu")
    assert not any(parameter.requires_grad for parameter in engine.decoder.parameters())
    assert not engine.decoder.training


def test_weights_do_not_live_in_the_file(make_checkpoint):
    folder = make_checkpoint()
    engine = Engine.from_pretrained(folder, device="cpu")
    before = {name: parameter.clone() for name, parameter in engine.decoder.named_parameters()}
    path = folder / "model.safetensors"
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    for name, parameter in engine.decoder.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_tied_with_a_duplicate_head(make_checkpoint):
    folder = make_checkpoint(tied=True)
    plain = Engine.from_pretrained(folder, device="cpu")
    edit_weights(folder, lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()}))
    twin = Engine.from_pretrained(folder, device="cpu")
    assert dict(twin.decoder.named_parameters()).keys() == dict(plain.decoder.named_parameters()).keys()
    edit_weights(folder, lambda w: w["lm_head.weight"][3].add_(1))
    refused(folder, "model.safetensors", "lm_head.weight", "tie_word_embeddings")
    edit_weights(folder, lambda w: w.update({"lm_head.weight": torch.zeros(2, 2)}))
    refused(folder, "model.safetensors", "lm_head.weight")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_nf4_load(make_checkpoint, dtype):
    folder = make_checkpoint(dtype=dtype, hidden=44, heads=2, intermediate=50)  # blocks run over the rows' ends
    stored = load_file(folder / "model.safetensors")
    engine = Engine.from_pretrained(folder, device="cpu", quantization="nf4", dtype=dtype)
    assert engine.quantization == "nf4"
    parameters = dict(engine.decoder.named_parameters())
    linears = [name for name in stored if name.endswith("proj.weight")]
    assert len(linears) == 14
    for name in linears:
        assert name not in parameters
        module = engine.decoder.get_submodule(name.removesuffix(".weight"))
        assert module.weight is None
        twin = reference.dequantize(reference.quantize_nf4(stored[name]), dtype)
        assert torch.equal(reference.dequantize(module.quantized, dtype), twin), name
        assert module.quantized.packed.numel() == stored[name].numel() // 2
    for name in stored.keys() - set(linears):
        assert torch.equal(parameters[name], stored[name]), name


def test_an_embedding_that_stays_on_the_host(make_checkpoint):
    folder = make_checkpoint(tied=False)
    engine = Engine.from_pretrained(folder, device="cpu", embedding="host")
    assert engine.decoder.model.embed_tokens.weight.device.type == "cpu"
    refused(make_checkpoint(tied=True), "lm_head", "host", embedding="host")


def test_yarn_extends_the_context(make_checkpoint):
    folder = make_checkpoint()
    plain, long = (Engine.from_pretrained(folder, device="cpu", yarn=yarn) for yarn in (None, 4))
    assert (plain.max_context, long.max_context) == (2048, 8192)
    assert plain.identity["rope"] != long.identity["rope"]
    refused(make_checkpoint(yarn={"factor": 2.0}), "already", yarn=4)


def test_auto_quantizes_above_a_billion_parameters_only(make_checkpoint, monkeypatch):
    folder = make_checkpoint(hidden=64)
    assert Engine.from_pretrained(folder, device="cpu").quantization is None
    monkeypatch.setattr("longhand.engine.options.QUANTIZE_ABOVE", 1000)
    engine = Engine.from_pretrained(folder, device="cpu")
    assert (engine.quantization, engine.dtype) == ("nf4", torch.float32)
    assert Engine.from_pretrained(folder, device="cpu", quantization=None).quantization is None


def test_progress_counts_up(make_checkpoint):
    calls = []
    folder = make_checkpoint(shards=2)
    Engine.from_pretrained(folder, device="cpu", progress=lambda done, total: calls.append((done, total)))
    done, totals = zip(*calls, strict=True)
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert 0.9 * totals[0] < done[-1] <= totals[0]


def test_fingerprints_tell_checkpoints_apart(make_checkpoint, tmp_path):
    folder, other = make_checkpoint(seed=0), make_checkpoint(seed=1)
    copy = shutil.copytree(folder, tmp_path / "copy")
    first = Checkpoint(folder).fingerprint()
    assert Checkpoint(copy).fingerprint() == first
    assert Checkpoint(other).fingerprint() != first
    edit_json(copy / "config.json", lambda raw: raw.update(rms_norm_eps=1e-3))
    assert Checkpoint(copy).fingerprint() != first


def test_the_default_context_is_the_models(make_checkpoint):
    assert Engine.from_pretrained(make_checkpoint(max_positions=300), device="cpu").max_context == 300
    yarn = {"factor": 4.0, "original_max_position_embeddings": 100}
    assert Engine.from_pretrained(make_checkpoint(max_positions=100, yarn=yarn), device="cpu").max_context == 400
    assert Engine.from_pretrained(make_checkpoint(max_positions=400, yarn=yarn), device="cpu").max_context == 400


# Bad weights


def rename(weights, old, new):
    weights[new] = weights.pop(old)


SINGLE = {
    "missing tensor": (lambda w: w.pop(Q_PROJ), (f"{Q_PROJ} is missing",)),
    "missing bias": (lambda w: w.pop("model.layers.1.self_attn.k_proj.bias"), ("layers.1.self_attn.k_proj.bias",)),
    "missing head": (lambda w: w.pop("lm_head.weight"), ("lm_head.weight is missing",)),
    "extra tensor": (lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.ones(2)}),
                     ("model.safetensors", "model.layers.2.mlp.up_proj.weight")),
    "bias that Qwen2 has not": (lambda w: w.update({"model.layers.0.self_attn.o_proj.bias": torch.zeros(48)}),
                                ("model.safetensors", "o_proj.bias")),
    "adapter": (lambda w: rename(w, Q_PROJ, "base_model." + Q_PROJ), (Q_PROJ,)),
    "transposed": (lambda w: w.update({"lm_head.weight": w["lm_head.weight"].T.contiguous()}),
                   ("model.safetensors", "lm_head.weight", "[48, 512]", "[512, 48]")),
    "too few rows": (lambda w: w.update({"model.embed_tokens.weight": torch.zeros(511, 48)}),
                     ("model.safetensors", "model.embed_tokens.weight", "[511, 48]", "[512, 48]")),
    "one dimension more": (lambda w: w.update({"model.norm.weight": torch.ones(1, 48)}), ("model.norm.weight",)),
    "integers": (lambda w: w.update({Q_PROJ: torch.ones(48, 48, dtype=torch.int8)}),
                 ("model.safetensors", Q_PROJ, "I8", "F32")),
    "float64": (lambda w: w.update({Q_PROJ: torch.ones(48, 48, dtype=torch.float64)}),
                ("model.safetensors", Q_PROJ, "F64")),
    "float8": (lambda w: w.update({Q_PROJ: torch.ones(48, 48).to(torch.float8_e4m3fn)}),
               ("model.safetensors", Q_PROJ, "F8_E4M3")),
    "no tensors": (lambda w: w.clear(), ("is missing",)),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_bad_tensors(make_checkpoint, name):
    change, named = SINGLE[name]
    folder = make_checkpoint()
    edit_weights(folder, change)
    refused(folder, str(folder), *named)
    refused(folder, str(folder), *named, quantization="nf4")


@pytest.mark.parametrize("size", [0, 4, 8, 200, -1, -5000])
@pytest.mark.parametrize("shards", [1, 3])
def test_truncated_weights(make_checkpoint, shards, size):
    folder = make_checkpoint(shards=shards)
    path = sorted(folder.glob("*.safetensors"))[-1]
    cut(path, size)
    refused(folder, str(path), "truncated or not a safetensors file")


@pytest.mark.parametrize(
    "data", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\xff" * 64, b"PK\x03\x04"]
)
def test_weights_that_are_something_else(make_checkpoint, data):
    folder = make_checkpoint()
    (folder / "model.safetensors").write_bytes(data)
    refused(folder, str(folder / "model.safetensors"), "not a safetensors file")


def test_no_weights(make_checkpoint):
    folder = make_checkpoint()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, str(folder), "model.safetensors")


def index_of(folder):
    return folder / "model.safetensors.index.json"


def test_a_missing_shard(make_checkpoint):
    folder = make_checkpoint(shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    refused(folder, "model-00002-of-00003.safetensors: missing")


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ".", "", "a\x00b", 7, None]
)
def test_an_index_that_names_no_file_of_the_folder(make_checkpoint, file):
    folder = make_checkpoint(shards=2)
    # A file that would do is in each of the places: it must not be looked at.
    (folder / "sub").mkdir()
    for place in (folder.parent, folder / "sub"):
        shutil.copy(folder / "model-00001-of-00002.safetensors", place / "model.safetensors")
    edit_json(index_of(folder), lambda raw: raw["weight_map"].update({Q_PROJ: file}))
    refused(folder, "model.safetensors.index.json")


def test_an_index_that_names_an_absent_file(make_checkpoint):
    folder = make_checkpoint(shards=2)
    edit_json(index_of(folder), lambda raw: raw["weight_map"].update({Q_PROJ: "model-00009.safetensors"}))
    refused(folder, "model-00009.safetensors: missing", "model.safetensors.index.json")


def test_an_index_and_shards_that_disagree(make_checkpoint):
    folder = make_checkpoint(shards=2)
    home = json.loads(index_of(folder).read_text())["weight_map"][Q_PROJ]
    other = next(path.name for path in folder.glob("*.safetensors") if path.name != home)
    edit_json(index_of(folder), lambda raw: raw["weight_map"].pop(Q_PROJ))
    refused(folder, f"{home}: tensor {Q_PROJ} is not in the index")
    edit_json(index_of(folder), lambda raw: raw["weight_map"].update({Q_PROJ: other}))
    refused(folder, f"tensor {Q_PROJ} is")
    edit_json(index_of(folder), lambda raw: raw["weight_map"].update({Q_PROJ: home, "model.more": other}))
    refused(folder, f"{other}: tensor model.more is in the index but not in the file")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": 3}', '{"weight_map": {}}']
)
def test_a_damaged_index(make_checkpoint, content):
    folder = make_checkpoint(shards=2)
    index_of(folder).write_text(content)
    refused(folder, str(folder))


# Bad config or tokenizer


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_missing_file(make_checkpoint, file):
    folder = make_checkpoint()
    (folder / file).unlink()
    refused(folder, str(folder / file), "no such file")


def test_another_architecture(make_checkpoint):
    folder = make_checkpoint()
    edit_json(folder / "config.json", lambda raw: raw.update(model_type="llama"))
    refused(folder, str(folder / "config.json"), "'llama'")


def test_a_config_of_other_sizes(make_checkpoint):
    folder = make_checkpoint()
    edit_json(folder / "config.json", lambda raw: raw.update(intermediate_size=96))
    refused(folder, "model.safetensors", "mlp", "[88, 48]", "[96, 48]")


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows(make_checkpoint, tokenizer_json):
    folder = make_checkpoint(vocab=400)
    refused(folder, str(folder / "tokenizer.json"), "id 490", "vocab_size is 400")
    folder = make_checkpoint(tokenizer=tokenizer_json("qwq"), vocab=512)
    refused(folder, str(folder / "tokenizer.json"), "id 151668", "vocab_size is 512")


def test_a_tokenizer_without_a_control_token(make_checkpoint, tokenizer_json):
    raw = tokenizer_json("dense")
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] != "</think>"]
    folder = make_checkpoint(tokenizer=raw)
    refused(folder, str(folder / "tokenizer.json"), "</think>")


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_a_config_that_names_a_quantization_of_plain_weights(make_checkpoint, method):
    folder = make_checkpoint()
    edit_json(folder / "config.json", lambda raw: raw.update(quantization_config={"quant_method": method}))
    refused(folder, str(folder / "config.json"), method, "no tensor is stored so")


# Bad options


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"quantization": "int8"}, "'int8'"),
        ({"head": "fp4"}, "head 'fp4'"),
        ({"head": "nf4"}, "head 'nf4' needs"),
        ({"double_quant": True, "quantization": None}, "double_quant needs"),
        ({"embedding": "disk"}, "embedding 'disk'"),
        ({"yarn": 0}, "yarn must be a factor"),
        ({"dtype": "float64"}, "dtype 'float64'"),
        ({"dtype": torch.int8}, "dtype 'int8'"),
        ({"kv_dtype": "fp8"}, "kv_dtype 'fp8'"),
        ({"max_context": 0}, "max_context"),
        ({"max_context": 2049}, "2048"),
        ({"max_context": 1.5}, "max_context"),
        ({"max_context": True}, "max_context"),
    ],
    ids=str,
)
def test_bad_options(tiny_folder, options, named):
    refused(tiny_folder, named, **options)


@pytest.mark.parametrize("device", ["gpu", "", "mps", "meta", "cuda:99", "cuda"])
def test_bad_devices(tiny_folder, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LonghandError, match=f"device '{device}'"):
        Engine.from_pretrained(tiny_folder, device=device)


# Paths and hub ids


def test_a_file_instead_of_a_folder(make_checkpoint):
    path = make_checkpoint() / "model.safetensors"
    refused(path, str(path), "this is a file")


@pytest.mark.parametrize(
    "path", ["/nowhere/at/all", "nowhere", "a/b/c", "https://hub/x", "", "x" * 5000, "~no-such-user/x"]
)
def test_no_such_folder(path):
    if path:
        refused(path, path)
    else:  # the current folder, as pathlib reads it
        refused(path, "config.json")


def fake_hub(monkeypatch, local, remote):
    def snapshot_download(repo_id, allow_patterns, local_files_only=False):
        outcome = local if local_files_only else remote
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


NOT_HERE = hub_errors.LocalEntryNotFoundError("not in the cache")


def answer(status):
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/api/models/Qwen/QwQ-32B"))


@pytest.mark.parametrize(
    ("remote", "named"),
    [
        (NOT_HERE, "the hub cannot be reached"),
        (hub_errors.RepositoryNotFoundError("404\nsecond line", response=answer(404)), "no such model"),
        (hub_errors.GatedRepoError("403", response=answer(403)), "hf auth login"),
        (hub_errors.HfHubHTTPError("500\nsecond line", response=answer(500)), "HTTP status 500"),
        (hub_errors.OfflineModeIsEnabled("HF_HUB_OFFLINE=1"), "download failed"),
        (ConnectionResetError("reset"), "download failed"),
        (OSError(28, "No space left on device"), "download failed"),
        (httpx.ReadTimeout("slow"), "download failed"),
        (hub_errors.HFValidationError("not an id"), "download failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_hub_id_that_cannot_be_had(monkeypatch, remote, named):
    fake_hub(monkeypatch, NOT_HERE, remote)
    refused("Qwen/QwQ-32B", "Qwen/QwQ-32B", named)


def test_a_hub_id_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("Qwen/QwQ-32B", "Qwen/QwQ-32B", "pip install huggingface_hub")


def test_a_hub_id_that_is_on_this_machine(monkeypatch, tiny_folder, tmp_path):
    fake_hub(monkeypatch, tiny_folder, AssertionError("asked the hub for what is here"))
    assert resolve("owner/tiny") == tiny_folder
    assert Engine.from_pretrained("owner/tiny", device="cpu").name == "owner/tiny"
    fake_hub(monkeypatch, tmp_path, tiny_folder)  # an earlier download that was cut off
    assert resolve("owner/tiny") == tiny_folder


# Memory


def test_too_little_memory_for_the_weights(tiny_folder, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 50_000)
    refused(tiny_folder, "out of memory on cpu", "tensor ", "asked for 0.1 MiB", "0.0 MiB is free")


def test_too_little_memory_for_the_cache(make_checkpoint, monkeypatch):
    folder = make_checkpoint()
    engine = Engine.from_pretrained(folder, device="cpu")
    session = engine.session()
    session.feed([5, 6, 7])
    want = session.fork().logits()
    smaller = Engine.from_pretrained(folder, device="cpu", max_context=100).session()
    smaller.feed([5, 6, 7])
    per_token = engine.config.kv_bytes_per_token(4)
    assert per_token == session._cache.bytes_per_token == 2 * 2 * 2 * 12 * 4
    with monkeypatch.context() as patch:
        patch.setattr(memory, "free_bytes", lambda device: 100 * per_token)
        with pytest.raises(LonghandError) as error:
            session.logits()
        text = str(error.value)
        assert "out of memory on cpu: KV cache asked for" in text
        assert "about 100 ids of context would fit (set max_context)" in text
        assert torch.equal(smaller.logits(), want)  # with max_context 100, as it says
    assert (session.cached, session.pending, session.recomputed) == (0, (5, 6, 7), 0)
    assert torch.equal(session.logits(), want)


def test_a_session_grows_into_all_that_is_free(make_checkpoint, monkeypatch):
    engine = Engine.from_pretrained(make_checkpoint(), device="cpu", max_context=2000)
    cache = engine.session()._cache
    total = 1900 * cache.bytes_per_token
    monkeypatch.setattr(memory, "free_bytes", lambda device: total - cache.capacity * cache.bytes_per_token)
    for positions in range(100, 1793, 100):
        cache.reserve(positions)
    assert cache.capacity == 1792  # whole steps, and no room beside the ids where there is none
    with pytest.raises(LonghandError, match=r"KV cache asked for .* more .* about 1900 ids of context would fit"):
        cache.reserve(1900)
    assert cache.capacity == 1792


def test_a_tied_head_is_not_quantized_by_itself(make_checkpoint):
    refused(make_checkpoint(tied=True), "head 'nf4'", "leave head out", quantization="nf4", head="nf4")


def test_weights_of_an_odd_size_are_not_quantized(make_checkpoint):
    folder = make_checkpoint(hidden=45, heads=2, kv_heads=1, head_dim=16, intermediate=33)
    Engine.from_pretrained(folder, device="cpu")
    refused(folder, "proj.weight has an odd number of values", quantization="nf4")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"weight_map": ' + "1" * 5000 + "}"])
def test_an_index_that_is_no_json_one_can_read(make_checkpoint, text):
    folder = make_checkpoint(shards=2)
    (folder / "model.safetensors.index.json").write_text(text)
    refused(folder, "model.safetensors.index.json: not a safetensors index")


def test_an_allocation_that_fails_is_told(tiny_engine, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    session = tiny_engine.session()
    session.feed([1, 2])
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "new_empty", fail)
        with pytest.raises(LonghandError, match="out of memory on cpu: KV cache asked for"):
            session.logits()
    assert (session.cached, session.pending) == (0, (1, 2))
    assert session.logits().isfinite().all()


def test_the_memory_of_a_container(tmp_path, monkeypatch):
    """Its limits are the kernel's files: of its own group, and of those around it."""
    own, root = tmp_path / "own", tmp_path / "groups"
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    own.write_text("4:memory:/elsewhere\n0::/outer/inner\n")
    assert list(memory._of_the_container(root, own)) == []
    for group, limit, held, files in ((inner, "max", 10, 0), (root / "outer", "1000", 700, 200)):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{held}\n")
        (group / "memory.stat").write_text(f"anon 5\ninactive_file {files}\n")
    assert list(memory._of_the_container(root, own)) == [500]
    (inner / "memory.max").write_text("4\n")
    assert list(memory._of_the_container(root, own)) == [0, 500]
    (inner / "memory.stat").write_text("?")
    (inner / "memory.current").write_text("?")
    assert list(memory._of_the_container(root, own)) == []
    assert list(memory._of_the_container(root, tmp_path / "none")) == []
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_of_the_container", lambda: iter([7]))
        assert memory.free_bytes(torch.device("cpu")) == 7


def test_other_errors_are_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="shape"), memory.allocation("x", 1, torch.device("cpu")):
        raise RuntimeError("shape mismatch")


def test_sizes_for_people():
    assert memory.gib(3 * 2**29) == "1.50 GiB"
    assert memory.gib(3 * 2**19) == "1.5 MiB"
    assert memory.free_bytes(torch.device("cpu")) > 0
