"""Checkpoints that are stored in four bits: read as transformers, AWQ and GPTQ write them, and refused when broken."""

import json

import pytest
import torch
from longhand import Engine
from longhand.engine.errors import LonghandError
from longhand.engine.fit import fit_model
from longhand.kernels import reference
from longhand.kernels.weights import Tiles
from safetensors.torch import load_file, save_file

SIZES = {"hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 128}
Q_PROJ = "model.layers.0.self_attn.q_proj"
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9]


def logits(engine, ids=IDS):
    session = engine.session()
    session.feed(ids)
    return session.logits()


def edit(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    path.unlink()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata={"format": "pt"})


def configure(folder, **quantization):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": quantization}))


def refused(folder, *named, **options):
    with pytest.raises(LonghandError) as error:
        Engine.from_pretrained(folder, device="cpu", **options)
    assert "\n" not in str(error.value)
    for word in named:
        assert word in str(error.value), error.value


# bitsandbytes, as transformers writes it


@pytest.fixture(scope="module")
def save_4bit(make_checkpoint, tmp_path_factory):
    """save_4bit(**BitsAndBytesConfig options) -> (folder that transformers wrote, its dequantized weights)."""
    transformers = pytest.importorskip("transformers")

    def save(dtype=torch.float32, shards=False, **options):
        source = make_checkpoint(dtype=dtype, **SIZES)
        config = transformers.BitsAndBytesConfig(load_in_4bit=True, **options)
        model = transformers.Qwen2ForCausalLM.from_pretrained(
            source, quantization_config=config, dtype=dtype, device_map="cpu"
        )
        folder = tmp_path_factory.mktemp("stored")
        model.save_pretrained(folder, **({"max_shard_size": "40KB"} if shards else {}))
        (folder / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
        from bitsandbytes.functional import dequantize_4bit

        plain = {name: dequantize_4bit(module.weight.data, module.weight.quant_state)
                 for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}  # fmt: skip
        return folder, plain

    return save


@pytest.mark.parametrize(
    "options",
    [
        {"bnb_4bit_quant_type": "nf4"},
        {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
        {"bnb_4bit_quant_type": "fp4"},
        {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True, "dtype": torch.bfloat16},
        {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "shards": True},
        {"bnb_4bit_quant_type": "nf4", "llm_int8_skip_modules": ["lm_head", "down_proj"]},
    ],
    ids=str,
)
def test_what_transformers_saved_in_4_bits(save_4bit, options):
    folder, plain = save_4bit(**options)
    engine = Engine.from_pretrained(folder, device="cpu")
    assert engine.quantization == options["bnb_4bit_quant_type"]
    quantized = {name: module for name, module in engine.decoder.named_modules() if getattr(module, "quantized", None)}
    assert quantized.keys() == plain.keys()
    assert len(plain) in (12, 14)
    for name, module in quantized.items():
        weight = reference.dequantize(module.quantized, plain[name].dtype)
        assert torch.equal(weight, plain[name]), name
        assert (module.quantized.nested is not None) == options.get("bnb_4bit_use_double_quant", False)


def test_4_bit_logits_are_those_of_the_dequantized_weights(save_4bit):
    folder, plain = save_4bit(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    stored = logits(Engine.from_pretrained(folder, device="cpu"))
    engine = Engine.from_pretrained(folder, device="cpu")
    for name, weight in plain.items():
        module = engine.decoder.get_submodule(name)
        module.quantized, module.weight = None, torch.nn.Parameter(weight, requires_grad=False)
    assert torch.equal(stored, logits(engine))


@pytest.mark.parametrize("quantization", [None, "fp4", "nf4"])
def test_another_quantization_of_a_stored_one(save_4bit, quantization):
    folder, _ = save_4bit(bnb_4bit_quant_type="nf4")
    if quantization == "nf4":
        assert Engine.from_pretrained(folder, device="cpu", quantization="nf4").quantization == "nf4"
    elif quantization is None:
        refused(folder, str(folder), "stored in 4 bits (nf4)", "'auto'", quantization=None)


WEIGHT = f"{Q_PROJ}.weight"
STATE = f"{WEIGHT}.quant_state.bitsandbytes__nf4"


def blob(**changes):
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [64, 64], "nested_blocksize": 256,
             "nested_dtype": "float32", "nested_offset": 0.01, **changes}  # fmt: skip
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


BROKEN = {
    "a packed weight that is short": (lambda w: w.update({WEIGHT: w[WEIGHT][:-1]}), (WEIGHT, "[2047, 1]")),
    "a packed weight of floats": (lambda w: w.update({WEIGHT: w[WEIGHT].float()}), (WEIGHT, "F32")),
    "no absmax": (lambda w: w.pop(f"{WEIGHT}.absmax"), (f"{WEIGHT}.absmax",)),
    "absmax of another size": (lambda w: w.update({f"{WEIGHT}.absmax": w[f"{WEIGHT}.absmax"][1:]}), ("absmax",)),
    "float absmax though nested": (lambda w: w.update({f"{WEIGHT}.absmax": torch.ones(64)}), ("absmax", "F32")),
    "no state": (lambda w: w.pop(STATE), (WEIGHT, "0 quant_states")),
    "two states": (lambda w: w.update({STATE.replace("nf4", "fp4"): w[STATE].clone()}), (WEIGHT, "2 quant_states")),
    "no nested table": (lambda w: w.pop(f"{WEIGHT}.nested_quant_map"), ("nested_quant_map is missing",)),
    "no nested scales": (lambda w: w.pop(f"{WEIGHT}.nested_absmax"), ("absmax",)),
    "another table": (lambda w: w[f"{WEIGHT}.quant_map"].add_(0.1), ("quant_map", "other values")),
    "another nested table": (lambda w: w[f"{WEIGHT}.nested_quant_map"].mul_(2), ("nested_quant_map", "other values")),
    "a state that is no JSON": (lambda w: w.update({STATE: torch.zeros(9, dtype=torch.uint8)}), (STATE,)),
    "an empty state": (lambda w: w.update({STATE: torch.zeros(0, dtype=torch.uint8)}), (STATE,)),
    "a deep state": (lambda w: w.update({STATE: torch.full((60000,), ord("["), dtype=torch.uint8)}), (STATE,)),
    "a large state": (lambda w: w.update({STATE: torch.full((70000,), ord(" "), dtype=torch.uint8)}), (STATE,)),
    "a state that is a list": (lambda w: w.update({STATE: torch.tensor([91, 93], dtype=torch.uint8)}), (STATE,)),
    "another shape": (lambda w: w.update({STATE: blob(shape=[32, 128])}), (STATE, "does not fit")),
    "another type": (lambda w: w.update({STATE: blob(quant_type="fp4")}), (STATE, "does not fit")),
    "another block": (lambda w: w.update({STATE: blob(blocksize=128)}), (STATE, "does not fit")),
    "no number as block": (lambda w: w.update({STATE: blob(blocksize="64")}), (STATE, "does not fit")),
    "another nested block": (lambda w: w.update({STATE: blob(nested_blocksize=128)}), (STATE, "does not fit")),
    "an endless offset": (lambda w: w.update({STATE: blob(nested_offset=float("inf"))}), (STATE, "does not fit")),
    "an extra tensor": (lambda w: w.update({f"{WEIGHT}.more": torch.zeros(2)}), (f"{WEIGHT}.more", "not part")),
    "a plain weight beside": (lambda w: w.update({f"{Q_PROJ}.qweight": torch.zeros(2)}), (Q_PROJ,)),
}  # fmt: skip


@pytest.fixture(scope="module")
def nested_4bit(save_4bit):
    return save_4bit(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)[0]


@pytest.mark.parametrize("name", BROKEN)
def test_broken_4_bit_tensors(nested_4bit, tmp_path, name):
    change, named = BROKEN[name]
    for file in nested_4bit.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    edit(tmp_path, change)
    refused(tmp_path, "model.safetensors", *named)


# AWQ and GPTQ, packed here the way their kernels read them


def pack(codes, order):
    """uint8 [R, 8*C] -> int32 [R, C]: bits 4*i.. of an integer hold column order[i] of its eight."""
    columns = codes.view(codes.shape[0], -1, 8).to(torch.int64)
    packed = sum(columns[..., order[i]] << (4 * i) for i in range(8))
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def store(weights, method, group, zero_offset=1):
    """Replace the blocks' linears of `weights` in place by a random 4-bit form; returns the plain twins."""
    generator = torch.Generator().manual_seed(0)
    plain = {}
    for name in [name for name in weights if name.endswith("proj.weight")]:
        rows, columns = weights.pop(name).shape
        width = columns if group == -1 else group
        codes = torch.randint(0, 16, (columns, rows), generator=generator, dtype=torch.uint8)
        zeros = torch.randint(0, 16, (columns // width, rows), generator=generator, dtype=torch.uint8)
        scales = (torch.rand(columns // width, rows, generator=generator) * 0.02 + 0.01).half()
        centered = codes.float() - zeros.float().repeat_interleave(width, 0)
        plain[name] = (centered * scales.float().repeat_interleave(width, 0)).T.contiguous()
        prefix = name.removesuffix(".weight")
        if method == "awq":
            order = (0, 2, 4, 6, 1, 3, 5, 7)
            weights[f"{prefix}.qweight"], weights[f"{prefix}.qzeros"] = pack(codes, order), pack(zeros, order)
        else:
            weights[f"{prefix}.qweight"] = pack(codes.T.contiguous(), range(8)).T
            weights[f"{prefix}.qzeros"] = pack((zeros - zero_offset) & 15, range(8))
            weights[f"{prefix}.g_idx"] = torch.arange(columns, dtype=torch.int32) // width
        weights[f"{prefix}.scales"] = scales
    return plain


@pytest.mark.parametrize(
    ("method", "group", "options"),
    [
        ("awq", 32, {"version": "gemm", "zero_point": True}),
        ("awq", 64, {"version": "GEMM"}),
        ("gptq", 32, {"desc_act": False}),
        ("gptq", -1, {"desc_act": False, "sym": True}),
        ("gptq", 64, {"checkpoint_format": "gptq_v2"}),
    ],
)
def test_int4_checkpoints_equal_their_plain_twins(make_checkpoint, method, group, options):
    folder, twin = make_checkpoint(**SIZES), make_checkpoint(**SIZES)
    plain = {}
    offset = 0 if options.get("checkpoint_format") == "gptq_v2" else 1
    edit(folder, lambda weights: plain.update(store(weights, method, group, offset)))
    configure(folder, quant_method=method, bits=4, group_size=group, **options)
    edit(twin, lambda weights: weights.update(plain))
    engine = Engine.from_pretrained(folder, device="cpu")
    assert engine.quantization == method
    for name, weight in plain.items():
        module = engine.decoder.get_submodule(name.removesuffix(".weight"))
        assert torch.equal(reference.dequantize(module.quantized, torch.float32), weight)
        rows = -(-weight.shape[0] // 64) * 64 if isinstance(module.quantized, Tiles) else weight.shape[0]
        assert module.quantized.num_bytes < 0.7 * rows * weight.shape[1]  # four bits stay four bits
    # Sums in another order than those of the unquantized twin, on a CPU with the native kernels.
    want = logits(Engine.from_pretrained(twin, device="cpu"))
    assert torch.allclose(logits(engine), want, rtol=1e-5, atol=1e-4)


def test_biases_of_zeros_that_gptq_stores_with_every_linear(make_checkpoint):
    folder = make_checkpoint(**SIZES)
    edit(folder, lambda weights: store(weights, "gptq", 32))
    configure(folder, quant_method="gptq", bits=4, group_size=32, desc_act=False)
    want = logits(Engine.from_pretrained(folder, device="cpu"))
    name = "model.layers.0.mlp.down_proj.bias"
    edit(folder, lambda weights: weights.update({name: torch.zeros(64).half()}))
    assert torch.equal(logits(Engine.from_pretrained(folder, device="cpu")), want)
    edit(folder, lambda weights: weights[name].index_fill_(0, torch.tensor([5]), 0.1))
    refused(folder, name, "not part of a Qwen2 model")
    edit(folder, lambda weights: weights.update({name: torch.zeros(63).half()}))
    refused(folder, name, "not part of a Qwen2 model")


def test_scales_of_one_dimension_are_left_to_loading(make_checkpoint):
    folder = make_checkpoint(**SIZES)
    edit(folder, lambda weights: store(weights, "gptq", 32))
    configure(folder, quant_method="gptq", bits=4, group_size=32)
    edit(folder, lambda weights: weights.update({f"{Q_PROJ}.scales": weights[f"{Q_PROJ}.scales"].flatten()}))
    assert fit_model(folder / "config.json", "cpu") is not None
    refused(folder, f"{Q_PROJ}.scales")


def test_act_order_is_refused(make_checkpoint):
    folder = make_checkpoint(**SIZES)
    edit(folder, lambda weights: store(weights, "gptq", 32))
    configure(folder, quant_method="gptq", bits=4, group_size=32, desc_act=False)
    edit(folder, lambda weights: weights[f"{Q_PROJ}.g_idx"].copy_(weights[f"{Q_PROJ}.g_idx"].flip(0)))
    refused(folder, f"{Q_PROJ}.g_idx", "act-order")


@pytest.mark.parametrize("part", ["qweight", "qzeros", "scales"])
@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_int4_tensors_of_other_shapes(make_checkpoint, method, part):
    folder = make_checkpoint(**SIZES)
    edit(folder, lambda weights: store(weights, method, 32))
    configure(folder, quant_method=method, bits=4, group_size=32)
    edit(folder, lambda weights: weights.update({f"{Q_PROJ}.{part}": weights[f"{Q_PROJ}.{part}"][1:]}))
    refused(folder, "model.safetensors", f"{Q_PROJ}.{part}")


def test_a_config_that_names_another_method(make_checkpoint):
    folder = make_checkpoint(**SIZES)
    edit(folder, lambda weights: store(weights, "awq", 32))
    configure(folder, quant_method="bitsandbytes", load_in_4bit=True)
    refused(folder, "bitsandbytes", Q_PROJ)
    configure(folder, quant_method="gptq", bits=4, group_size=32)
    refused(folder, Q_PROJ)
