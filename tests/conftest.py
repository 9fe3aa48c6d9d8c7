"""Tiny random Qwen2 checkpoints, made by hand from the published names and shapes, for every test that needs one."""

import copy
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import longhand
import pytest
import tokenizers
import torch
from hypothesis import settings
from longhand import DEMO
from longhand.agent.docs import DocsSearch
from longhand.engine.engine import Engine
from longhand.engine.tokenizer import CONTROL_TOKENS, Tokenizer
from safetensors.torch import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

# One profile for all properties: the same examples in every run, and no clock.
settings.register_profile("longhand", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("longhand")
torch.set_num_threads(1)  # the models here are tiny: a second thread costs more than it brings

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PROSE = (
    "You are an assistant with a web_search tool. Use the tool to find information that answers the question: "
    '{"action": "web_search", "action_input": {"query": "height of the old tower"}}',
    '[{"title": "The old tower", "url": "tower.md#1", "content": "The tower is 34 metres tall and by the sea."}]',
    "When you have the answer, write it in clear sentences and cite the source as a Markdown link: [title](url).",
    "naïve café déjà vu, größer als Straße, 東京の塔は古い。北京的塔也很老。 Ελληνικά и русский, 🙂👍🏽 emoji 🙂🙂",
)
QWQ_IDS = {
    "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<tool_call>": 151657,
    "</tool_call>": 151658, "<tool_response>": 151665, "</tool_response>": 151666, "<think>": 151667,
    "</think>": 151668,
}  # fmt: skip
QWQ_VOCAB = 152064


def _with_added(raw, ids, in_vocab=True):
    # Qwen2's files have added tokens both in added_tokens and in model.vocab; with in_vocab=False only in the first.
    for content, token_id in ids.items():
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        raw["added_tokens"].append({"id": token_id, "content": content, **flags, "special": content.startswith("<|")})
        if in_vocab:
            raw["model"]["vocab"][content] = token_id
    return raw


def _byte_level_bpe(merges_up_to):
    # tokenizer.json, as a dict, of a byte-level BPE with Qwen2's normalizer and splitting.
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=merges_up_to, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(PROSE * 4, trainer)
    return json.loads(tokenizer.to_str())


@pytest.fixture(scope="session")
def tokenizer_json():
    """Call with "dense" (about 500 ids without a gap) or "qwq" (256 bytes and QwQ's control ids): a fresh
    tokenizer.json as a dict. `in_vocab=False` leaves added tokens out of model.vocab."""
    plain = {"dense": _byte_level_bpe(480), "qwq": _byte_level_bpe(256)}

    def make(kind, in_vocab=True):
        raw = copy.deepcopy(plain[kind])
        start = len(raw["model"]["vocab"])
        dense = {name: start + n for n, name in enumerate([*CONTROL_TOKENS.values(), "<|fim_middle|>", "<file_sep>"])}
        return _with_added(raw, QWQ_IDS if kind == "qwq" else dense, in_vocab)

    return make


@dataclass(frozen=True)
class Shape:
    """The sizes of a random checkpoint; names as in longhand.engine.config."""

    hidden: int = 48
    heads: int = 4
    kv_heads: int = 2
    head_dim: int | None = None  # None: hidden / heads, and not written to config.json
    layers: int = 2
    intermediate: int = 88
    vocab: int = 512
    tied: bool = False
    theta: float = 10000.0
    eps: float = 1e-5
    max_positions: int = 2048

    @property
    def width(self):
        return self.head_dim or self.hidden // self.heads


def random_weights(shape, seed, dtype):
    """Name -> tensor. Large enough that every op moves the logits: unit-size activations, biases and norms far from
    what they are initialized to, attention scores that spread over several units."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size, scale):
        return (torch.randn(size, generator=generator) * scale).to(dtype)

    hidden, q, kv = shape.hidden, shape.heads * shape.width, shape.kv_heads * shape.width
    weights = {"model.embed_tokens.weight": normal(shape.vocab, hidden, scale=1.0)}
    for layer in range(shape.layers):
        name = f"model.layers.{layer}."
        for part, rows, columns in (("q", q, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, q)):
            scale = (1.5 if part in "qk" else 1.0) / columns**0.5
            weights[f"{name}self_attn.{part}_proj.weight"] = normal(rows, columns, scale=scale)
            if part != "o":
                weights[f"{name}self_attn.{part}_proj.bias"] = normal(rows, scale=0.5)
        for part, rows, columns in (
            ("gate", shape.intermediate, hidden),
            ("up", shape.intermediate, hidden),
            ("down", hidden, shape.intermediate),
        ):
            weights[f"{name}mlp.{part}_proj.weight"] = normal(rows, columns, scale=1.5 / columns**0.5)
        for part in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{name}{part}.weight"] = (1 + normal(hidden, scale=0.3)).to(dtype)
    weights["model.norm.weight"] = (1 + normal(hidden, scale=0.3)).to(dtype)
    if shape.tied:
        # The head is the embedding: keep its logits of unit size.
        weights["model.embed_tokens.weight"] = normal(shape.vocab, hidden, scale=1.0 / hidden**0.5)
    else:
        weights["lm_head.weight"] = normal(shape.vocab, hidden, scale=1.0 / hidden**0.5)
    return weights


def config_json(shape, layout, dtype, yarn):
    """config.json as transformers before 5 wrote it ("old") or since ("new")."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.max_positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "rms_norm_eps": shape.eps,
        "tie_word_embeddings": shape.tied,
        "use_sliding_window": False,
        "vocab_size": shape.vocab,
    }
    if shape.head_dim is not None:
        config["head_dim"] = shape.head_dim
    name = str(dtype).removeprefix("torch.")
    if layout == "old":
        config |= {"rope_theta": shape.theta, "torch_dtype": name, "sliding_window": 4096, "max_window_layers": 2}
        if yarn is not None:
            config["rope_scaling"] = {"type": "yarn", **yarn}
    else:
        rope = {"rope_type": "default"} if yarn is None else {"rope_type": "yarn", **yarn}
        config |= {
            "rope_parameters": {"rope_theta": shape.theta, **rope},
            "dtype": name,
            "layer_types": ["full_attention"] * shape.layers,
            "sliding_window": None,
        }
    return config


def write_weights(folder, weights, shards):
    """model.safetensors, or so many shards and their index."""
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(weights)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory, tokenizer_json):
    """make_checkpoint(hidden=..., kv_heads=..., layout="old", yarn={...}, shards=2, dtype=..., tokenizer="qwq", seed=0)
    -> the folder of a new checkpoint. Sizes are those of `Shape`; `tokenizer` may also be a tokenizer.json dict."""

    def make(layout="new", yarn=None, shards=1, dtype=torch.float32, tokenizer="dense", seed=0, **sizes):
        shape = Shape(**sizes)
        folder = tmp_path_factory.mktemp("checkpoint")
        raw = tokenizer_json(tokenizer) if isinstance(tokenizer, str) else tokenizer
        (folder / "config.json").write_text(json.dumps(config_json(shape, layout, dtype, yarn)))
        (folder / "tokenizer.json").write_text(json.dumps(raw, ensure_ascii=False), "utf-8")
        write_weights(folder, random_weights(shape, seed, dtype), shards)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_folder(make_checkpoint):
    """The checkpoint of `tiny_engine`: 512 rows for about 490 ids, two layers, two heads to a group."""
    return make_checkpoint()


@pytest.fixture(scope="session")
def tiny_engine(tiny_folder):
    """An Engine on the dense tokenizer; max_context 2048, float32. Read only: restore what a test replaces."""
    return Engine.from_pretrained(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def qwq_engine(make_checkpoint):
    """An Engine with QwQ's ids: 256 bytes, the control ids at 151,643 and up, and an embedding of 152,064 rows."""
    folder = make_checkpoint(tokenizer="qwq", vocab=QWQ_VOCAB, hidden=32, heads=2, kv_heads=1, layers=1)
    return Engine.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="session")
def dense_tokenizer(tokenizer_json):
    return Tokenizer(tokenizer_json("dense"))


@pytest.fixture(scope="session")
def qwq_tokenizer(tokenizer_json):
    return Tokenizer(tokenizer_json("qwq"))


@pytest.fixture(scope="session")
def interrupt_at():
    """interrupt_at(event_number, action, files): run `action` and raise KeyboardInterrupt at this event inside the
    files; returns whether it was raised. Python looks for signals when a function starts or resumes and after a call
    into C, so these are the places where Ctrl-C can strike."""

    def interrupt_at(event_number, action, files):
        seen = 0

        def profile(frame, event, _):
            nonlocal seen
            if event in ("call", "c_return") and frame.f_code.co_filename in files:
                seen += 1
                if seen == event_number:
                    raise KeyboardInterrupt

        sys.setprofile(profile)
        try:
            action()
        except KeyboardInterrupt:
            return True
        finally:
            sys.setprofile(None)
        return False

    return interrupt_at


@pytest.fixture
def run_cli(monkeypatch, capfd, tmp_path_factory):
    """run_cli("fit", ...) -> (exit code, stdout, stderr) of the command, run in this process."""
    from longhand.agent import cli

    monkeypatch.setenv("LONGHAND_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name in ("TAVILY_API_KEY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["longhand", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            return (stop.code or 0, *capfd.readouterr())
        return (0, *capfd.readouterr())

    return command


@pytest.fixture(scope="session")
def demo_engine():
    """The built-in model."""
    return Engine.from_pretrained(DEMO, device="cpu")


@pytest.fixture(scope="session")
def demo_search(tmp_path_factory):
    """The built-in documents."""
    docs = Path(longhand.__file__).parent / "agent" / "demo" / "docs"
    return DocsSearch(docs, cache_dir=tmp_path_factory.mktemp("cache"))
