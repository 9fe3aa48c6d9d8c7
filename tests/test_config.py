"""config.json to ModelConfig: both layouts, YaRN, and every refusal by file and field."""

import dataclasses
import json
import math

import pytest
import torch
from longhand.engine.config import ModelConfig, Yarn
from longhand.engine.errors import LonghandError
from longhand.engine.rope import RotaryTable, inverse_frequencies
from longhand.engine.stored import Stored

# QwQ-32B's own file, without the fields that only transformers' generation reads.
QWQ = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 5120,
    "intermediate_size": 27648, "max_position_embeddings": 40960, "max_window_layers": 64, "model_type": "qwen2",
    "num_attention_heads": 40, "num_hidden_layers": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "use_sliding_window": False, "vocab_size": 152064,
}  # fmt: skip
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}


def new_layout(old):
    raw = dict(old)
    rope = {"rope_theta": raw.pop("rope_theta"), "rope_type": "default"}
    scaling = raw.pop("rope_scaling", None)
    if scaling:
        rope |= {key: value for key, value in scaling.items() if key != "type"} | {"rope_type": scaling["type"]}
    layers = ["full_attention"] * raw["num_hidden_layers"]
    return raw | {"rope_parameters": rope, "dtype": raw.pop("torch_dtype"), "layer_types": layers}


def read(tmp_path, raw):
    path = tmp_path / "config.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return ModelConfig.from_file(path)


def refused(tmp_path, raw):
    """The message of the refusal: one line that begins with the file."""
    with pytest.raises(LonghandError) as error:
        read(tmp_path, raw)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'config.json'}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("layout", [dict, new_layout], ids=["old", "new"])
def test_qwq(tmp_path, layout):
    config = read(tmp_path, layout(QWQ))
    assert config == ModelConfig(
        vocab_size=152064, hidden_size=5120, intermediate_size=27648, num_layers=64, num_heads=40, num_kv_heads=8,
        head_dim=128, rms_norm_eps=1e-5, rope_theta=1e6, max_position_embeddings=40960, tie_word_embeddings=False,
        dtype="bfloat16", yarn=None, quantization=None,
    )  # fmt: skip
    assert config.num_parameters == 32_763_876_352
    assert config.kv_bytes_per_token(2) == 256 * 1024


@pytest.mark.parametrize("layout", [dict, new_layout], ids=["old", "new"])
def test_yarn(tmp_path, layout):
    config = read(tmp_path, layout({**QWQ, "rope_scaling": YARN}))
    assert config.yarn == Yarn(factor=4.0, original_max_position_embeddings=32768)
    assert config.rope_theta == 1e6
    options = {"beta_fast": 16, "beta_slow": 2, "attention_factor": 1.5, "truncate": False}
    config = read(tmp_path, layout({**QWQ, "rope_scaling": {**YARN, **options}}))
    assert config.yarn == Yarn(4.0, 32768, 16.0, 2.0, 1.5, False)


def test_yarn_without_an_original_context_takes_the_configs(tmp_path):
    config = read(tmp_path, {**QWQ, "rope_scaling": {"rope_type": "yarn", "factor": 2}})
    assert config.yarn == Yarn(2.0, 40960)


def test_config_is_frozen(tmp_path):
    config = read(tmp_path, QWQ)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_layers = 3


def test_head_dim_of_its_own(tmp_path):
    assert read(tmp_path, {**QWQ, "head_dim": 64}).head_dim == 64


def test_defaults(tmp_path):
    sizes = ("model_type", "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
    config = read(tmp_path, {name: QWQ[name] for name in sizes})
    assert (config.num_kv_heads, config.rope_theta, config.rms_norm_eps) == (40, 10000.0, 1e-6)
    assert (config.max_position_embeddings, config.dtype, config.tie_word_embeddings) == (32768, "float32", False)
    assert read(tmp_path, {**QWQ, "num_key_value_heads": None}).num_kv_heads == 40  # as transformers reads a null


def test_tied_parameters_count_once(tmp_path):
    tied = read(tmp_path, {**QWQ, "tie_word_embeddings": True})
    assert read(tmp_path, QWQ).num_parameters - tied.num_parameters == 152064 * 5120


def test_stored_quantized(tmp_path):
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm", "zero_point": True}
    assert read(tmp_path, {**QWQ, "quantization_config": awq}).quantization == Stored("awq", 128)
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": False, "sym": True}
    assert read(tmp_path, {**QWQ, "quantization_config": gptq}).quantization == Stored("gptq", -1, 1)
    second = {**gptq, "checkpoint_format": "gptq_v2"}
    assert read(tmp_path, {**QWQ, "quantization_config": second}).quantization == Stored("gptq", -1, 0)
    bnb = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    assert read(tmp_path, {**QWQ, "quantization_config": bnb}).quantization == Stored("bitsandbytes")
    assert read(tmp_path, {**QWQ, "quantization_config": None}).quantization is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "null", '{"a": 1}}', "\x00"])
def test_not_a_json_object(tmp_path, text):
    assert "JSON" in refused(tmp_path, text)


def test_no_file_or_not_text(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(LonghandError, match=r"config\.json: no such file"):
        ModelConfig.from_file(path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(LonghandError, match=r"config\.json: not readable"):
        ModelConfig.from_file(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(LonghandError, match=r"config\.json: not readable"):
        ModelConfig.from_file(path)
    path.rmdir()
    for text in ("[" * 100_000, '{"vocab_size": ' + "1" * 5000 + "}"):
        path.write_text(text)
        with pytest.raises(LonghandError, match=r"config\.json: not readable"):
            ModelConfig.from_file(path)


@pytest.mark.parametrize("value", [10**400, 1e300, -(10**400)])
def test_numbers_that_no_model_has(tmp_path, value):
    assert "rope_theta must be a positive number" in refused(tmp_path, json.dumps({**QWQ, "rope_theta": value}))
    for name in ("factor", "original_max_position_embeddings", "attention_factor"):
        raw = {**QWQ, "rope_scaling": {**YARN, name: value}}
        assert f"yarn {name} must be a positive number" in refused(tmp_path, json.dumps(raw))


MISSING = ("model_type", "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "vocab_size")
SIZES = (*MISSING[1:], "num_key_value_heads", "head_dim", "max_position_embeddings")


@pytest.mark.parametrize("field", MISSING)
def test_a_missing_field_is_named(tmp_path, field):
    assert field in refused(tmp_path, {name: value for name, value in QWQ.items() if name != field})


@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True, [8]], ids=repr)
@pytest.mark.parametrize("field", SIZES)
def test_a_size_that_is_no_size_is_named(tmp_path, field, value):
    assert field in refused(tmp_path, {**QWQ, field: value})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "llama"}, "'llama'"),
        ({"model_type": "qwen2_moe"}, "'qwen2_moe'"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"] * 32}, "layer_types"),
        ({"layer_types": ["linear_attention"] * 64}, "layer_types"),
        ({"layer_types": 5}, "layer_types"),
        ({"num_attention_heads": 39}, "num_attention_heads"),
        ({"num_attention_heads": 39, "head_dim": 128}, "num_key_value_heads"),
        ({"num_key_value_heads": 7}, "num_key_value_heads"),
        ({"hidden_size": 5119}, "hidden_size"),
        ({"head_dim": 33}, "head_dim"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps"),
        ({"rms_norm_eps": None}, "rms_norm_eps"),
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"rope_theta": math.nan}, "rope_theta"),
        ({"rope_theta": math.inf}, "rope_theta"),
        ({"torch_dtype": "float64"}, "dtype 'float64'"),
        ({"torch_dtype": 16}, "dtype"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings"),
        ({"quantization_config": [4]}, "quantization_config"),
        ({"quantization_config": {"bits": 4}}, "bits 4 is not supported"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quant_method 'fp8' is not supported; supported are"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "load_in_8bit True"),
        ({"quantization_config": {"quant_method": "awq", "bits": 8}}, "bits 8"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}}, "version 'gemv'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "desc_act": True}}, "desc_act True"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 0}}, "group_size 0"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": "128"}}, "group_size '128'"),
        ({"rope_scaling": "yarn"}, "rope"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "'linear'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "'longrope'"),
        ({"rope_scaling": {"type": ["yarn"]}}, "rope type"),
        ({"rope_scaling": {"type": "yarn"}}, "factor"),
        ({"rope_scaling": {**YARN, "factor": 0.5}}, "factor"),
        ({"rope_scaling": {**YARN, "factor": "4"}}, "factor"),
        ({"rope_scaling": {**YARN, "factor": math.inf}}, "factor"),
        ({"rope_scaling": {**YARN, "original_max_position_embeddings": 0}}, "original_max_position_embeddings"),
        ({"rope_scaling": {**YARN, "original_max_position_embeddings": 0.5}}, "original_max_position_embeddings"),
        ({"rope_scaling": {**YARN, "beta_fast": -1}}, "beta_fast"),
        ({"rope_scaling": {**YARN, "beta_slow": True}}, "beta_slow"),
        ({"rope_scaling": {**YARN, "attention_factor": 0}}, "attention_factor"),
        ({"rope_scaling": {**YARN, "mscale": 1.0}}, "'mscale'"),
        ({"rope_scaling": YARN, "rope_theta": 1}, "rope_theta"),
        ({"rope_scaling": YARN, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, "rope_scaling"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_refusals(tmp_path, change, named):
    assert named in refused(tmp_path, {**QWQ, **change})


ODD = (None, True, False, 0, 1, -3, 2.5, 10**6, math.nan, math.inf, "", "yarn", [], [1], [None], {}, {"a": 1})


@pytest.mark.parametrize("base", [QWQ, {**QWQ, "rope_scaling": YARN}, new_layout({**QWQ, "rope_scaling": YARN})],
                         ids=["old", "old with yarn", "new with yarn"])  # fmt: skip
def test_any_odd_value_is_refused_or_usable(tmp_path, base):
    """No field takes a value that fails later, or with anything but a LonghandError."""
    rope = "rope_parameters" if "rope_parameters" in base else "rope_scaling"
    fields = {*base, "head_dim", "quantization_config", "layer_types", "dtype", "rope_parameters", "rope_scaling"}
    raws = [{**base, field: odd} for field in sorted(fields) for odd in ODD]
    raws += [{**base, rope: {**base[rope], field: odd}} for field in base.get(rope) or () for odd in ODD]
    usable = 0
    for raw in raws:
        try:
            config = read(tmp_path, raw)
        except LonghandError:
            continue
        usable += 1
        assert config.num_parameters > 0
        cos, _ = RotaryTable(config, torch.device("cpu")).at(5, 7)
        assert cos.shape == (2, config.head_dim // 2)
        assert cos.isfinite().all()
    assert usable > 30


def test_yarn_frequencies_by_hand():
    """The paper's formula on QwQ with factor 4, pair by pair (arXiv 2309.00071, section 3.2)."""
    config = ModelConfig.from_dict({**QWQ, "rope_scaling": YARN})
    got, scale = inverse_frequencies(config)
    assert scale == pytest.approx(0.1 * math.log(4) + 1, rel=1e-12)
    low = math.floor(128 * math.log(32768 / (32 * 2 * math.pi)) / (2 * math.log(1e6)))
    high = math.ceil(128 * math.log(32768 / (1 * 2 * math.pi)) / (2 * math.log(1e6)))
    assert (low, high) == (23, 40)
    for pair in range(64):
        plain = 1e6 ** (-2 * pair / 128)
        slowed = min(max((pair - low) / (high - low), 0), 1)
        assert float(got[pair]) == pytest.approx(plain * (1 - slowed) + plain / 4 * slowed, rel=1e-5)


def test_yarn_that_is_asked_for(tmp_path):
    config = read(tmp_path, QWQ)
    long = config.with_yarn(4)
    assert long.yarn == Yarn(4.0, 32768)
    assert dataclasses.replace(long, yarn=None) == config
    stored = read(tmp_path, {**QWQ, "rope_scaling": {"type": "yarn", "factor": 4.0,
                                                     "original_max_position_embeddings": 32768}})  # fmt: skip
    assert stored == long
    assert read(tmp_path, {**QWQ, "max_position_embeddings": 2048}).with_yarn(2.5).yarn == Yarn(2.5, 2048)
    with pytest.raises(LonghandError, match="already"):
        long.with_yarn(4)
    for factor in (0.5, 65, math.nan, "4", True):
        with pytest.raises(LonghandError, match="from 1 to 64"):
            config.with_yarn(factor)
