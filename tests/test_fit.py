"""Fit: design.md's numbers, the bytes that tensors really take, what is refused, and what `longhand fit` prints."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from longhand import DEMO
from longhand.agent import cli
from longhand.agent.sizes import parse_size, show_fit
from longhand.engine import footprint_triton
from longhand.engine.cache import KVCache
from longhand.engine.checkpoint import Checkpoint
from longhand.engine.config import ModelConfig
from longhand.engine.decoder import Decoder
from longhand.engine.engine import Engine
from longhand.engine.errors import LonghandError
from longhand.engine.fit import context_that_fits, fit_model
from longhand.engine.footprint import CUBLAS, Footprint, four_bit_bytes
from longhand.engine.graph import WIDTHS
from longhand.engine.hub import resolve_config
from longhand.engine.memory import gib
from longhand.engine.options import KERNELS, KV_TYPES, Setup, choose_setup
from longhand.engine.session import Session, TurnStats
from longhand.engine.stored import read_headers
from longhand.kernels import reference
from longhand.kernels.triton_weights import to_panels
from longhand.kernels.weights import Int4
from rich.console import Console
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

GIB = 2**30
QWQ = {
    "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 5120, "intermediate_size": 27648,
    "max_position_embeddings": 131072, "num_attention_heads": 40, "num_hidden_layers": 64, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 152064,
}  # fmt: skip
KEYS = ["weights_bytes", "kv_bytes_per_token", "workspace_bytes", "memory_bytes", "max_context", "fits"]
CPU = torch.device("cpu")


@pytest.fixture
def qwq(tmp_path):
    """A folder with QwQ-32B's config.json and nothing else."""
    folder = tmp_path / "qwq"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWQ))
    return folder


def fit(folder, **options):
    options.setdefault("memory", 24 * GIB)
    return fit_model(folder / "config.json", options.pop("device", "cuda"), **options)


def fit_json(*arguments):
    result = CliRunner().invoke(cli.app, ["fit", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    assert result.output.count("\n") == 1
    return json.loads(result.output)


# --- design.md, section 7 -----------------------------------------------------------------------------------------


def test_the_sizes_of_qwq(qwq):
    found = fit_json(qwq, "--memory", "24GiB", "--device", "cuda")
    assert list(found)[:6] == KEYS
    assert found["parts"]["linears"] / 1e9 == pytest.approx(17.55, abs=0.005)
    assert found["parts"]["embedding"] / 1e9 == pytest.approx(1.56, abs=0.005)
    assert found["parts"]["lm_head"] / 1e9 == pytest.approx(1.56, abs=0.005)
    assert found["weights_bytes"] == sum(found["parts"].values())
    assert found["kv_bytes_per_token"] == 256 * 1024
    assert found["kv_bytes_per_token_by_type"]["int8"] == 2 * 64 * 8 * (128 + 4 * 2)
    assert found["memory_bytes"] == 24 * GIB
    assert list(found["max_context"]) == list(KV_TYPES)
    assert found["fits"] is True
    double = fit_json(qwq, "--memory", "24GiB", "--device", "cuda", "--double-quant", "--head", "nf4")
    assert double["parts"]["linears"] / 1e9 == pytest.approx(16.10, abs=0.005)
    assert double["parts"]["lm_head"] / 1e9 == pytest.approx(0.40, abs=0.005)


def test_bits_per_weight():
    shape = (5120, 27648)
    assert 8 * four_bit_bytes(shape, False) / (5120 * 27648) == 4.5
    assert 8 * four_bit_bytes(shape, True) / (5120 * 27648) == pytest.approx(4.127, abs=0.0005)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("kind", KV_TYPES)
def test_the_largest_context_is_the_last_that_fits(qwq, device, kind):
    base = fit(qwq, device=device, kv_dtype=kind)
    largest = base.max_context()
    assert 1000 < largest < 131072
    assert largest == base.max_context(kind) == base.as_dict()["max_context"][kind]
    for context, fits in ((largest, True), (largest + 1, False)):
        assert fit(qwq, device=device, kv_dtype=kind, context=context).fits is fits
    assert fit(qwq, device=device, memory=2**40).max_context() == 131072
    assert fit(qwq, device=device, memory=20 * GIB).max_context() == 0


def test_a_gpu_is_given_less_than_its_size_and_refused_only_without_that_margin(qwq):
    needed = fit(qwq).needed()
    close = fit(qwq, memory=needed - 1)
    assert (close.fits, close.impossible) == (False, False)
    assert fit(qwq, memory=needed - 449 * 2**20).impossible


def test_what_the_switches_buy(qwq):
    now = fit(qwq)
    rows = {row["name"]: row for row in now.switches()}
    assert list(rows) == ["double quantization", "4-bit head", "embedding on the host", "8-bit KV", "all of these"]
    assert all(row["max_context"] > now.max_context() for row in rows.values())
    double = fit(qwq, double_quant=True)
    assert rows["double quantization"]["saved_bytes"] == now.needed() - double.needed()
    assert rows["double quantization"]["max_context"] == double.max_context()
    assert rows["8-bit KV"]["max_context"] == now.max_context("int8")
    host = fit(qwq, embedding="host")
    assert rows["embedding on the host"]["saved_bytes"] == now.needed() - host.needed() == 152064 * 5120 * 2
    on = fit(qwq, double_quant=True, head="nf4", kv_dtype="int8", device="cpu")
    assert on.switches() == []


def test_the_rows_add_up(qwq):
    for options in ({}, {"device": "cpu"}, {"device": "cpu", "quantization": None, "memory": 2**40}, {"context": 9000}):
        found = fit(qwq, **options).as_dict()
        rows = ("weights_bytes", "workspace_bytes", "beside_bytes", "reserve_bytes")
        cache = found["kv_bytes_per_token"] * found["context"]
        assert sum(found[row] for row in rows) + cache == found["running_bytes"]
        assert found["reserve_bytes"] > 0
        assert found["needed_bytes"] == max(found["running_bytes"], found["loading_bytes"])


def test_quantizing_on_a_cpu_works_on_a_part_of_a_weight_at_a_time(qwq):
    found = fit(qwq, device="cpu", memory=21 * GIB)
    assert found.fits
    assert found.max_context() > 5000
    resting = sum(found.footprint.weights(found.setup).values()) + found.footprint.beside(found.setup)
    largest = 27648 * 5120
    assert 2 * largest < found.footprint.loading(found.setup) - resting < 4 * largest  # it itself, and what is small


# --- what is asked for on a GPU -------------------------------------------------------------------------------------


def test_graphs_are_counted(qwq):
    auto, graphs, unfused = (fit(qwq, kernels=kernels, double_quant=True) for kernels in KERNELS)
    assert graphs.setup.kernels == "triton"
    config = graphs.footprint.config
    beside = graphs.as_dict()["beside_bytes"] - auto.as_dict()["beside_bytes"]
    assert beside == footprint_triton.graph_bytes(config, graphs.setup, CUBLAS)
    launches = len(WIDTHS) * config.num_layers * 5  # five to a block
    assert launches * 4096 + CUBLAS < beside < 512 * 2**20
    assert unfused.as_dict()["beside_bytes"] == auto.as_dict()["beside_bytes"] == CUBLAS
    for options in ({"kv_dtype": "int8"}, {"embedding": "host"}):  # such sessions have none
        assert fit(qwq, kernels="triton", **options).as_dict()["beside_bytes"] == CUBLAS
    assert 0 < graphs.max_context() < unfused.max_context()
    assert unfused.max_context() > auto.max_context()  # no head or linear is dequantized whole
    rows = graphs.as_dict()
    cache = rows["kv_bytes_per_token"] * rows["context"]
    parts = ("weights_bytes", "workspace_bytes", "beside_bytes", "reserve_bytes")
    assert sum(rows[part] for part in parts) + cache == rows["running_bytes"]


@pytest.mark.parametrize("shape", [(64, 128), (100, 192), (5, 64)])
def test_panels_take_what_is_counted(shape):
    weight = torch.randn(shape)
    for nested in (False, True):
        panels = to_panels(reference.quantize_nf4(weight, nested), 4)
        assert panels.num_bytes == footprint_triton.four_bit_panel_bytes(shape, nested)
    groups = (shape[0], shape[1] // 64)
    zeros = torch.zeros(groups, dtype=torch.uint8)
    int4 = Int4(torch.zeros(shape[0], shape[1] // 2, dtype=torch.uint8), zeros.half(), zeros, shape, 64)
    assert to_panels(int4, 4).num_bytes == footprint_triton.panel_bytes(shape, 64, False, True)


def test_kernels_that_are_not_there_are_refused(qwq):
    with pytest.raises(LonghandError, match="kernels 'cuda' is not one of 'auto', 'triton', 'triton-unfused'"):
        fit(qwq, kernels="cuda")
    with pytest.raises(LonghandError, match="kernels 'triton' run on a CUDA GPU, not on device 'cpu'"):
        fit(qwq, device="cpu", kernels="triton")


# --- the bytes that tensors take ----------------------------------------------------------------------------------


def tensor_bytes(engine):
    parameters = sum(parameter.nbytes for parameter in engine.decoder.parameters())
    quantized = [module.quantized for module in engine.decoder.modules() if getattr(module, "quantized", None)]
    return parameters + sum(weight.num_bytes for weight in quantized)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"quantization": None},
        {"quantization": "nf4"},
        {"quantization": "nf4", "double_quant": True},
        {"quantization": "nf4", "double_quant": True, "head": "nf4"},
    ],
)
def test_weights_are_those_of_the_loaded_model(make_checkpoint, tied, options):
    if tied:
        options = {name: value for name, value in options.items() if name != "head"}  # which is refused
    folder = make_checkpoint(tied=tied, dtype=torch.bfloat16, hidden=64, intermediate=192)
    engine = Engine.from_pretrained(folder, device="cpu", **options)
    found = fit(folder, device="cpu", **options)
    assert found.setup.dtype == str(engine.dtype).removeprefix("torch.")
    assert found.as_dict()["weights_bytes"] == tensor_bytes(engine)


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize("head_dim", [None, 48, 64])
def test_kv_bytes_are_those_of_the_cache(make_checkpoint, kind, head_dim):
    folder = make_checkpoint(head_dim=head_dim)
    engine = Engine.from_pretrained(folder, device="cpu", kv_dtype=kind)
    assert fit(folder).footprint.kv_bytes_per_token(kind) == engine.new_cache().bytes_per_token


def bitsandbytes_checkpoint(folder, make_checkpoint):
    """A checkpoint whose linears are stored nested by bitsandbytes, except one; as transformers names them."""
    weights = load_file(make_checkpoint() / "model.safetensors")
    config = json.loads((make_checkpoint() / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    stored, kept = {}, 0
    for name, weight in weights.items():
        if not name.endswith("proj.weight") or name == "model.layers.1.mlp.down_proj.weight":
            stored[name] = weight
            kept += weight.numel() * 4
            continue
        packed = reference.quantize_nf4(weight, nested=True)
        stored[name], stored[f"{name}.absmax"] = packed.packed.view(-1, 1), packed.absmax
        stored[f"{name}.nested_absmax"] = packed.nested.scales
        stored[f"{name}.nested_quant_map"] = packed.nested.table.clone()
        stored[f"{name}.quant_map"] = torch.tensor(reference.TABLES["nf4"])
        stored[f"{name}.quant_state.bitsandbytes__nf4"] = torch.zeros(90, dtype=torch.uint8)
        kept += packed.num_bytes
    folder.mkdir()
    save_file(stored, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return kept


def test_a_checkpoint_in_four_bits_counts_as_it_is_stored(make_checkpoint, tmp_path):
    kept = bitsandbytes_checkpoint(tmp_path / "four", make_checkpoint)
    assert sum(fit(tmp_path / "four", device="cpu").footprint.weights(SMALL).values()) == kept
    shape = (512, 48)
    (tmp_path / "four" / "model.safetensors").unlink()  # config.json alone: all linears, not nested
    alone = fit(tmp_path / "four", device="cpu").footprint.weights(SMALL)
    assert alone["lm_head"] == shape[0] * shape[1] * 4
    assert alone["linears"] == 2 * sum(four_bit_bytes(linear, False) for linear in Footprint(TINY).linears.values())


def test_what_is_stored_in_four_bits_stays_so(qwq):
    raw = {**QWQ, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}}
    (qwq / "config.json").write_text(json.dumps(raw))
    for options in ({"quantization": "nf4"}, {"quantization": None}, {"double_quant": True}, {"head": "nf4"}):
        with pytest.raises(LonghandError, match=r"stored in 4 bits \(awq\)"):
            fit(qwq, **options)
    assert [row["name"] for row in fit(qwq).switches()] == ["embedding on the host", "8-bit KV", "all of these"]


def test_double_quantization_from_the_config(qwq):
    linears = {}
    for nested in (False, True):
        bnb = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": nested}
        (qwq / "config.json").write_text(json.dumps({**QWQ, "quantization_config": bnb}))
        linears[nested] = fit(qwq).as_dict()["parts"]["linears"]
    assert linears[False] / 1e9 == pytest.approx(17.55, abs=0.005)
    assert linears[True] / 1e9 == pytest.approx(16.10, abs=0.005)


def test_awq_from_its_config_and_from_its_headers(qwq):
    raw = {**QWQ, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"}}
    (qwq / "config.json").write_text(json.dumps(raw))
    alone = fit(qwq).as_dict()["parts"]
    assert alone["linears"] == pytest.approx(31.2e9 * (0.5 + 3 / 128), rel=0.001)
    headers = {}
    for layer in range(64):
        for name, (rows, columns) in fit(qwq).footprint.linears.items():
            prefix = f"model.layers.{layer}.{name}"
            headers[f"{prefix}.qweight"] = ("I32", (columns, rows // 8))
            headers[f"{prefix}.qzeros"] = ("I32", (columns // 128, rows // 8))
            headers[f"{prefix}.scales"] = ("F16", (columns // 128, rows))
    entries = {name: {"dtype": kind, "shape": shape, "data_offsets": [0, 0]} for name, (kind, shape) in headers.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    (qwq / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert read_headers(qwq) == headers
    assert fit(qwq).footprint.sizes is not None
    assert fit(qwq).as_dict()["parts"] == alone


@pytest.mark.parametrize(
    "content",
    [b"", b"\x05", b"\xff" * 40, (2**62).to_bytes(8, "little"), b"\2\0\0\0\0\0\0\0[]", b"\2\0\0\0\0\0\0\0\xff{"],
)
def test_headers_that_are_damaged_are_left_to_loading(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    assert not read_headers(tmp_path)


TINY = ModelConfig(
    vocab_size=512, hidden_size=48, intermediate_size=88, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=12,
    rms_norm_eps=1e-6, rope_theta=1e4, max_position_embeddings=2048, tie_word_embeddings=False, dtype="float32",
)  # fmt: skip
SMALL = Setup("cpu", "float32", "float32", quantize=False)
WIDE = ModelConfig(
    vocab_size=1024, hidden_size=128, intermediate_size=512, num_layers=2, num_heads=8, num_kv_heads=2, head_dim=16,
    rms_norm_eps=1e-6, rope_theta=1e6, max_position_embeddings=4096, tie_word_embeddings=False, dtype="bfloat16",
)  # fmt: skip


def allocated(run, path):
    """The most bytes of tensors that were alive at once while `run` ran, above those before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    profile.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        alive += event["args"]["Bytes"]
        most = max(most, alive)
    return most


@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "quantization", "new", "positions"),
    [
        ("float32", "float32", None, 256, 256),
        ("float32", "bfloat16", None, 128, 1024),
        ("bfloat16", "bfloat16", None, 64, 512),
        ("bfloat16", "bfloat16", None, 1, 2048),
        ("float32", "float32", "nf4", 8, 64),
        ("bfloat16", "bfloat16", "nf4", 1, 64),
    ],
)
def test_workspace_is_what_a_forward_allocates(tmp_path, dtype, kv_dtype, quantization, new, positions):
    setup = Setup("cpu", dtype, kv_dtype, quantize=quantization is not None, bitsandbytes=False)
    decoder = Decoder(WIDE, reference, CPU).to(getattr(torch, dtype))
    for module in decoder.model.modules():
        if quantization and hasattr(module, "set_quantized"):
            module.set_quantized(reference.quantize_nf4(module.weight.float().nan_to_num_(0, 0, 0)))
    cache = KVCache(WIDE, CPU, getattr(torch, kv_dtype), 4096)
    cache.reserve(positions)
    cache.advance(positions - new)
    ids = torch.zeros(new, dtype=torch.int64)

    @torch.inference_mode()
    def forward():
        decoder.logits(decoder.hidden(ids, cache)[-1])

    forward()
    phases = Footprint(WIDE).workspace(setup, new, positions)
    del phases["sampling"]
    assert max(phases.values()) == pytest.approx(allocated(forward, tmp_path / "trace.json"), rel=0.02)


AGREE = """
import sys
from longhand.agent import cli
sys.argv = ["longhand", *sys.argv[1:]]
cli.main()
"""


def test_the_prediction_agrees_with_the_peak():
    """RSS of a process of its own: what was there before, and what the built-in model added."""
    arguments = ("ask", "When was QwQ-32B released?", "--model", DEMO, "--device", "cpu", "--json", "--answer", "20")
    done = subprocess.run([sys.executable, "-c", AGREE, *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, stdin=subprocess.DEVNULL, env=os.environ)  # fmt: skip
    assert done.returncode == 0, done.stderr
    memory = json.loads(done.stdout)["memory"]
    assert list(memory) == ["predicted", "peak", "baseline"]
    assert memory["baseline"] < memory["peak"]
    assert memory["predicted"] == pytest.approx(memory["peak"], rel=0.05)


def test_a_prediction_counts_chunks_and_ids_that_were_run(tiny_engine, tiny_folder, monkeypatch):
    found = fit(tiny_folder, device="cpu")
    session = tiny_engine.session()
    monkeypatch.setattr(Session, "turns", [TurnStats(fed=700, computed=703, reused=10, sampled=4)])
    chunks = [(512, 522), (188, 710), (1, 713)]  # ids forwarded, and positions behind them
    assert found.predicted(session) == max(found.footprint.running(found.setup, *chunk, 0) for chunk in chunks)
    monkeypatch.setattr(Session, "turns", [])
    assert found.predicted(session) == 0


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 * GIB), ("24GB", 24 * 10**9), ("23.5G", 23.5 * GIB), (" 24 gib ", 24 * GIB), ("512m", 512 * 2**20),
        ("1.5TB", 1.5e12), ("2048k", 2**21), ("25769803776", 24 * GIB), ("25769803776B", 24 * GIB),
    ],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "24", "GiB", "24 gallons", "-1GiB", "1e9", "nan", "24GiBB", "٢٤GiB", "0GiB",
                                  "24iB", "9" * 30 + "G", "99999999999TiB", "24GiB\n24"])  # fmt: skip
def test_sizes_that_are_none(text):
    with pytest.raises(LonghandError, match="--memory"):
        parse_size(text)


def test_the_setup_is_the_engines(make_checkpoint):
    folder = make_checkpoint(dtype=torch.bfloat16)
    for options in ({}, {"quantization": "nf4"}, {"kv_dtype": "int8"}, {"kv_dtype": "float16"}):
        engine = Engine.from_pretrained(folder, device="cpu", **options)
        setup = choose_setup(engine.config, CPU, **options)
        names = [str(dtype).removeprefix("torch.") for dtype in (engine.dtype, engine.kv_dtype)]
        assert [setup.dtype, setup.kv_dtype] == names
        assert setup.quantize == (engine.quantization == "nf4")
    for head in (None, "bf16"):
        assert choose_setup(engine.config, CPU, head=head).head == "bf16"
        assert Engine.from_pretrained(folder, device="cpu", head=head).decoder.lm_head.quantized is None
    for stored, quantization in (("fp4", "nf4"), ("nf4", None), ("gptq", "nf4"), ("bitsandbytes", None)):
        with pytest.raises(LonghandError, match=rf"stored in 4 bits \({stored}\), so quantization cannot be"):
            choose_setup(engine.config, CPU, quantization, stored=stored)


# --- long context -------------------------------------------------------------------------------------------------

AS_PUBLISHED = {**QWQ, "max_position_embeddings": 40960}
CARD = ("--memory", "24GiB", "--device", "cuda")


def test_yarn_as_asked(qwq):
    (qwq / "config.json").write_text(json.dumps(AS_PUBLISHED))
    plain, long = fit_json(qwq, *CARD), fit_json(qwq, *CARD, "--yarn", "4")
    assert list(long) == list(plain)
    assert list(long)[:6] == KEYS
    assert (plain["model_context"], plain["yarn"]) == (40960, None)
    assert (long["model_context"], long["yarn"]) == (131072, 4.0)
    # Only the limit is another: what an id takes, and so what fits on the card, is the same.
    assert plain["max_context"] == long["max_context"]
    changed = {name for name in plain if plain[name] != long[name]}
    assert changed == {"model_context", "yarn", "switches"}
    assert (plain["switches"][-1]["max_context"], plain["switches"][-1]["name"]) == (40960, "all of these")
    assert long["switches"][-1]["max_context"] > 40960
    roomy = ("--memory", "2TiB", "--device", "cuda")
    assert set(fit_json(qwq, *roomy)["max_context"].values()) == {40960}
    assert set(fit_json(qwq, *roomy, "--yarn", "4")["max_context"].values()) == {131072}
    assert fit_json(qwq, *roomy, "--yarn", "4", "--context", "131072")["fits"] is True


@pytest.mark.parametrize("layout", ["rope_scaling", "rope_parameters"])
def test_yarn_in_the_config(qwq, layout):
    (qwq / "config.json").write_text(json.dumps(AS_PUBLISHED))
    asked = fit_json(qwq, *CARD, "--yarn", "4")
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32768}
    yarn |= {"type": "yarn"} if layout == "rope_scaling" else {"rope_type": "yarn", "rope_theta": 1e6}
    (qwq / "config.json").write_text(json.dumps({**AS_PUBLISHED, layout: yarn}))
    assert fit_json(qwq, *CARD) == asked
    with pytest.raises(LonghandError, match="has YaRN already, by 4"):
        fit(qwq, yarn=4)


# --- the context where none is asked for --------------------------------------------------------------------------


def offer(monkeypatch, size):
    monkeypatch.setattr("longhand.engine.fit.free_bytes", lambda _: size)


@pytest.mark.parametrize(
    "options",
    [{}, {"kv_dtype": "int8"}, {"quantization": "nf4"}, {"quantization": "nf4", "double_quant": True}, {"yarn": 4}],
    ids=str,
)
def test_the_default_context_is_what_fits(tiny_folder, monkeypatch, options):
    found = fit_model(tiny_folder / "config.json", "cpu", memory=2**40, **options)
    limit = 8192 if "yarn" in options else 2048
    for size, context in ((found.needed(1000), 1000), (found.needed(1000) - 1, 999), (2**40, limit), (None, limit)):
        offer(monkeypatch, size)
        assert Engine.from_pretrained(tiny_folder, device="cpu", **options).max_context == context


def test_the_default_context_of_a_checkpoint_in_four_bits(make_checkpoint, tmp_path, monkeypatch):
    bitsandbytes_checkpoint(tmp_path / "four", make_checkpoint)
    found = fit(tmp_path / "four", device="cpu")
    assert found.footprint.sizes.nested
    offer(monkeypatch, found.needed(700))
    assert context_that_fits(tmp_path / "four", found.setup, CPU) == 700


def test_an_engine_that_does_not_fit_is_refused_before_a_weight_is_read(tiny_folder, monkeypatch):
    needed = fit(tiny_folder, device="cpu").needed()
    offer(monkeypatch, needed - 1)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "read", lambda *_: pytest.fail("read a weight"))
        with pytest.raises(LonghandError) as error:
            Engine.from_pretrained(tiny_folder, device="cpu")
    says = f"{tiny_folder} does not fit on cpu: 512 ids of context need {gib(needed)}, and {gib(needed - 1)} is free"
    assert str(error.value) == says
    for context in (100, 2048):  # what is asked for is not argued with
        assert Engine.from_pretrained(tiny_folder, device="cpu", max_context=context).max_context == context
    with pytest.raises(LonghandError, match="max_context must be a whole number from 1 to 2048"):
        Engine.from_pretrained(tiny_folder, device="cpu", max_context=2049)


def test_a_gpu_without_the_margin_gets_what_fits_without_it(qwq):
    close = fit(qwq, memory=fit(qwq).needed() - 1)
    context = close.default_context()
    assert context > close.context > close.max_context()
    margin = 448 * 2**20
    assert close.needed(context) - margin <= close.memory < close.needed(context + 1) - margin
    assert fit(qwq).default_context() == fit(qwq).max_context()


MEMORY = ["--memory", "24GiB"]
REFUSED = {
    "no such folder": (["{tmp}/nowhere"], "{tmp}/nowhere: no such folder"),
    "an empty folder": (["{tmp}"], "{tmp}/config.json: no such file"),
    "not a config": (["{tmp}/prose.json"], "{tmp}/prose.json: not readable as JSON"),
    "size": (["{qwq}", "--memory", "lots"], "--memory 'lots' is not a size; write it like 24GiB"),
    "context": (["{qwq}", *MEMORY, "--context", "131073"], "max_context must be a whole number from 1 to 131072"),
    "context 0": (["{qwq}", *MEMORY, "--context", "0"], "max_context must be a whole number from 1 to 131072"),
    "device": (["{qwq}", *MEMORY, "--device", "abacus"], "device 'abacus' is not one of 'cpu', 'cuda'"),
    "quantization": (["{qwq}", *MEMORY, "--quantization", "int3"], "quantization 'int3' is not one of"),
    "head": (["{qwq}", *MEMORY, "--head", "int3"], "head 'int3' is not one of 'nf4', 'bf16'"),
    "kv-dtype": (["{qwq}", *MEMORY, "--kv-dtype", "int3"], "kv_dtype 'int3' is not one of float32, bfloat16, float16"),
    "yarn": (["{qwq}", *MEMORY, "--yarn", "0.5"], "yarn must be a factor from 1 to 64, not 0.5"),
    "yarn that is none": (["{qwq}", *MEMORY, "--yarn", "nan"], "yarn must be a factor from 1 to 64, not nan"),
    "context beyond yarn": (["{qwq}", *MEMORY, "--yarn", "2", "--context", "131073"], "from 1 to 131072"),
    "embedding": (["{qwq}", *MEMORY, "--embedding", "sea"], "embedding 'sea' is not one of 'device', 'host'"),
    "double without nf4": (["{tiny}", *MEMORY, "--double-quant"], "double_quant needs NF4, but this model is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_fit_refuses_takes_one_line(run_cli, qwq, tiny_folder, tmp_path, name):
    (tmp_path / "prose.json").write_text("once upon a time")
    arguments, says = REFUSED[name]
    places = {"tmp": tmp_path, "qwq": qwq, "tiny": tiny_folder}
    code, out, err = run_cli("fit", *(argument.format(**places) for argument in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says.format(**places) in err
    assert err.startswith("longhand: ")


@pytest.mark.parametrize("command", [["ask", "How tall is it?"], ["ask", "How tall is it?", "--json"], ["chat"]])
def test_what_does_not_fit_is_refused_with_the_table(run_cli, qwq, monkeypatch, command):
    """There is no tokenizer and no weight here: the answer comes before they are looked for."""
    monkeypatch.setattr("longhand.engine.fit.free_bytes", lambda _: 12 * GIB)
    code, out, err = run_cli(*command, "--model", qwq, "--device", "cpu")
    assert (code, out) == (2, "")
    assert "linears" in err
    assert "double quantization" in err
    last = err.splitlines()[-1]
    assert last.startswith(f"longhand: {qwq} does not fit on cpu: 512 ids of context need 20.")
    assert "12.00 GiB is free; no single switch is enough" in last


def test_what_a_card_lacks_is_said(run_cli, qwq):
    run = CliRunner().invoke(cli.app, ["fit", str(qwq), "--memory", "20GiB", "--device", "cuda"])
    assert run.exit_code == 0
    assert run.output.splitlines()[-1] == "does not fit: try --double-quant"
    run = CliRunner().invoke(cli.app, ["fit", str(qwq), "--memory", "24GiB", "--device", "cuda", "--context", "40000"])
    last = run.output.splitlines()[-1]
    assert last.startswith("does not fit: try --max-context 13853, or --double-quant --head nf4 --embedding host")
    run = CliRunner().invoke(cli.app, ["fit", str(qwq), "--memory", "12GiB", "--device", "cuda"])
    assert "no single switch is enough" in run.output.splitlines()[-1]
    run = CliRunner().invoke(cli.app, ["fit", str(qwq), "--memory", "24GiB", "--device", "cuda"])
    assert "does not fit" not in run.output


def test_a_refusal_names_what_would_fit(run_cli, qwq, monkeypatch):
    monkeypatch.setattr("longhand.engine.fit.free_bytes", lambda _: 24 * GIB)
    largest = fit_model(qwq / "config.json", "cpu").max_context()
    code, _, err = run_cli("ask", "x", "--model", qwq, "--device", "cpu", "--max-context", 40 * 1024)
    assert code == 2
    assert f"try --max-context {largest}" in err.splitlines()[-1]
    code, _, err = run_cli("ask", "x", "--model", qwq, "--device", "cpu", "--max-context", largest + 2000)
    assert "try --double-quant" in err.splitlines()[-1]


def test_what_fits_is_loaded_with_the_context_that_fits(run_cli, tiny_folder, monkeypatch, tmp_path):
    (tmp_path / "tower.md").write_text("# Tower\n\nThe old tower is 34 metres tall.\n")
    found = fit_model(tiny_folder / "config.json", "cpu")
    monkeypatch.setattr("longhand.engine.fit.free_bytes", lambda _: found.needed(1000))
    seen = {}
    load = Engine.from_pretrained
    monkeypatch.setattr(Engine, "from_pretrained", staticmethod(lambda *a, **k: seen.update(k) or load(*a, **k)))
    monkeypatch.setenv("LONGHAND_CACHE", str(tmp_path / "cache"))
    run = ["ask", "How tall?", "--model", tiny_folder, "--docs", tmp_path, "--device", "cpu", "--answer", "3"]
    code, out, err = run_cli(*run, "--thinking", "3", "--verbose")
    assert code == 0, err
    assert seen["max_context"] == 1000
    assert "context: 1,000 ids fit in memory; the model allows 2,048" in err
    assert out.splitlines()[-1].startswith("memory: predicted ")
    monkeypatch.setattr("longhand.engine.fit.free_bytes", lambda _: None)  # cannot be told: nothing is refused
    code, out, _ = run_cli(*run, "--thinking", "3", "--json")
    assert (code, seen["max_context"], json.loads(out)["memory"]["predicted"]) == (0, None, None)
    code, _, err = run_cli("fit", tiny_folder)
    assert (code, err) == (2, "longhand: the free memory cannot be told here: name a size with --memory\n")


# --- what is printed ----------------------------------------------------------------------------------------------


def test_a_folder_a_file_and_the_table(qwq):
    plain = CliRunner().invoke(cli.app, ["fit", str(qwq), "--memory", "24GiB", "--context", "4096"])
    assert plain.exit_code == 0
    assert "\x1b" not in plain.output
    rows = {line.split("  ")[0]: line.split() for line in plain.output.splitlines()}
    assert rows["linears"][-2:] == ["16.35", "GiB"]
    assert "4,096 ids of 256.0 KiB, bfloat16" in plain.output
    assert rows["fits"][1] == "yes"
    alone = fit_json(qwq / "config.json", "--memory", "24GiB")
    assert {**alone, "model": ""} == {**fit_json(qwq, "--memory", "24GiB"), "model": ""}
    assert fit_json(qwq, "--memory", "24GiB", "--context", "100000")["fits"] is False
    assert resolve_config(qwq) == qwq / "config.json"


def test_a_terminal_gets_tables(qwq):
    file = io.StringIO()
    show_fit(Console(file=file, force_terminal=True, width=100), fit(qwq), "evil\x1b[2J [red]name")
    assert "┃" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
    assert "[red]name" in file.getvalue()


def test_the_free_memory_of_this_machine_is_the_default():
    found = fit_json(DEMO, "--device", "cpu")
    assert found["memory_bytes"] > 0
    assert found["fits"] is True
    assert set(found["max_context"].values()) == {4096}
    assert Path(DEMO, "config.json").exists()
