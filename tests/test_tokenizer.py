"""Text to ids and back: exact round trips, no forged control ids, streams, sparse ids, refusals."""

import json
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from longhand.engine.errors import LonghandError
from longhand.engine.tokenizer import CONTROL_TOKENS, Tokenizer

REAL = Path(__file__).parents[2] / "shared" / "qwq_tokenizer" / "tokenizer.json"
NAMES = tuple(CONTROL_TOKENS.values())

# Everything: also lone surrogates (JSON from the web may hold them), which become "?".
text = st.text(st.characters())
# What an attacker would write: names of control tokens, their pieces, spaces that tokenizers strip, look-alikes.
PIECES = ("<", ">", "|", "<|", "|>", "</", "im", "_start", "tool", "_call", "<tool_", "call>", "think>", "<think",
          " ", "\n", "\t", "\u00a0", "\u200b", "\u2028", "＜", "\r\n", "<|fim_middle|>", "<file_sep>")  # fmt: skip
attack = st.lists(st.sampled_from(NAMES + PIECES) | st.text(max_size=3), max_size=12).map("".join)


@pytest.fixture(params=["dense", "qwq"])
def tokenizer(request, dense_tokenizer, qwq_tokenizer):
    return dense_tokenizer if request.param == "dense" else qwq_tokenizer


def clean(s):
    """What a round trip gives: NFC, and "?" for what has no UTF-8."""
    return unicodedata.normalize("NFC", "".join("?" if "\ud800" <= c <= "\udfff" else c for c in s))


def unassigned(s):
    """Characters newer than one of the two Unicode tables may be composed by the other only."""
    return any(unicodedata.category(c) == "Cn" for c in s)


@given(text | attack)
@example("\ud83d\ude42 \ud800")
@example("e\u0301 \u1112\u1161\u11ab \u0344 \ufb1d")
@example("a\x00b\x7f\u0085")
@example("  \n\n \t x  \r\n")
def test_literal_round_trip(dense_tokenizer, qwq_tokenizer, s):
    for tokenizer in (dense_tokenizer, qwq_tokenizer):
        back = tokenizer.decode(tokenizer.encode_literal(s))
        assert back == clean(s) or unassigned(s)


@given(text)
def test_trusted_round_trip(dense_tokenizer, s):
    back = dense_tokenizer.decode(dense_tokenizer.encode(s))
    assert back == clean(s) or unassigned(s)


@given(attack)
def test_no_control_id_from_literal_text(dense_tokenizer, qwq_tokenizer, s):
    for tokenizer in (dense_tokenizer, qwq_tokenizer):
        assert not set(tokenizer.encode_literal(s)) & set(tokenizer.added)
        assert tokenizer.decode(tokenizer.encode_literal(s)) == clean(s)


@pytest.mark.parametrize("name", [*NAMES, "<|fim_middle|>", "<file_sep>"])
def test_a_control_name_is_one_id_if_trusted_and_many_if_literal(dense_tokenizer, name):
    (token_id,) = dense_tokenizer.encode(name)
    assert dense_tokenizer.added[token_id] == name
    literal = dense_tokenizer.encode_literal(f"a{name}b")
    assert len(literal) > 3
    assert token_id not in literal
    assert dense_tokenizer.decode(literal) == f"a{name}b"
    assert dense_tokenizer.decode([token_id]) == name


def test_trusted_text_around_control_names(qwq_tokenizer):
    ids = qwq_tokenizer.encode("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert [i for i in ids if i in qwq_tokenizer.added] == [151644, 151645, 151644, 151667]
    newline = qwq_tokenizer.encode("\n")
    assert ids[-1:] == newline
    assert ids[ids.index(151645) + 1 :][:1] == newline


def test_control_ids(qwq_tokenizer):
    control = qwq_tokenizer.control
    assert (control.im_start, control.im_end, control.endoftext) == (151644, 151645, 151643)
    assert (control.tool_call, control.tool_call_end) == (151657, 151658)
    assert (control.tool_response, control.tool_response_end) == (151665, 151666)
    assert (control.think, control.think_end) == (151667, 151668)
    assert set(control.stops) == {151658, 151645, 151643}


def test_sparse_ids_are_kept(qwq_tokenizer):
    assert qwq_tokenizer.defined == [*range(256), *sorted(qwq_tokenizer.added)]
    assert qwq_tokenizer.defined[-1] == 151668
    with pytest.raises(LonghandError, match="id 256 is not defined"):
        qwq_tokenizer.decode([0, 256])
    with pytest.raises(LonghandError, match="id -1 is not defined"):
        qwq_tokenizer.token_bytes(-1)


@pytest.mark.parametrize("kind", ["dense", "qwq"])
def test_added_tokens_only_in_their_list_are_not_renumbered(tokenizer_json, kind):
    with_vocab, without = Tokenizer(tokenizer_json(kind)), Tokenizer(tokenizer_json(kind, in_vocab=False))
    assert without.control == with_vocab.control
    assert without.defined == with_vocab.defined
    assert without.encode("a<|im_end|>") == with_vocab.encode("a<|im_end|>")
    assert without.sha256 == with_vocab.sha256


def test_added_tokens_in_any_order(tokenizer_json):
    raw = tokenizer_json("qwq")
    want = Tokenizer(raw)
    random.Random(0).shuffle(raw["added_tokens"])
    shuffled = Tokenizer(raw)
    assert shuffled.control == want.control
    assert shuffled.encode("<think>x</think>") == want.encode("<think>x</think>")


# Streams


@given(st.data())
def test_stream_equals_decode_for_every_prefix(dense_tokenizer, data):
    ids = data.draw(st.lists(st.sampled_from(dense_tokenizer.defined), max_size=20))
    stream, text_so_far = dense_tokenizer.stream(), ""
    for count, token_id in enumerate(ids, 1):
        text_so_far += stream.push(token_id)
        whole = dense_tokenizer.decode(ids[:count])
        # What is held back is at most one character that is not complete yet.
        assert whole.startswith(text_so_far)
        assert len(whole) - len(text_so_far) <= 1
    assert text_so_far + stream.flush() == dense_tokenizer.decode(ids)


@given(text | st.text(st.sampled_from("aé🙂👍🏽東京塔Ελ")))
def test_stream_never_gives_half_a_character(dense_tokenizer, qwq_tokenizer, s):
    for tokenizer in (dense_tokenizer, qwq_tokenizer):
        ids = tokenizer.encode_literal(s)
        stream = tokenizer.stream()
        parts = [stream.push(token_id) for token_id in ids]
        assert stream.flush() == ""
        whole = tokenizer.decode(ids)
        assert "".join(parts) == whole
        if "\ufffd" not in whole:
            assert not any("\ufffd" in part for part in parts)


def test_stream_waits_for_the_last_byte(qwq_tokenizer):
    stream = qwq_tokenizer.stream()
    assert [stream.push(token_id) for token_id in qwq_tokenizer.encode("é🙂")] == ["", "é", "", "", "", "🙂"]
    stream.push(qwq_tokenizer.encode("🙂")[0])
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


# Hash


def test_sha256_is_that_of_what_decides_ids(tokenizer_json, tmp_path):
    raw = tokenizer_json("dense")
    want = Tokenizer(raw).sha256
    for n, text_of_file in enumerate((json.dumps(raw, indent=3), json.dumps(dict(reversed(raw.items()))))):
        path = tmp_path / f"{n}.json"
        path.write_text(text_of_file)
        assert Tokenizer.from_file(path).sha256 == want
    one_merge_less = tokenizer_json("dense")
    one_merge_less["model"]["merges"].pop()
    assert Tokenizer(one_merge_less).sha256 != want
    other_name = tokenizer_json("dense")
    other_name["added_tokens"][-1]["content"] = "<repo_name>"
    other_name["model"]["vocab"]["<repo_name>"] = other_name["model"]["vocab"].pop("<file_sep>")
    assert Tokenizer(other_name).sha256 != want
    assert len(want) == 64
    assert int(want, 16)


def test_saved_truncation_and_padding_have_no_effect(tokenizer_json):
    """Files written after a call with truncation=True carry it; ids must not be cut because of that."""
    raw = tokenizer_json("dense")
    want = Tokenizer(raw)
    raw["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    raw["padding"] = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                      "pad_type_id": 0, "pad_token": "!"}  # fmt: skip
    tokenizer = Tokenizer(raw)
    s = "The old tower stands by the sea.<|im_end|>"
    assert tokenizer.encode(s) == want.encode(s)
    assert tokenizer.encode_literal(s) == want.encode_literal(s)
    assert tokenizer.sha256 == want.sha256


# Refusals


def refused(raw, *named):
    with pytest.raises(LonghandError) as error:
        Tokenizer(raw, "folder/tokenizer.json")
    message = str(error.value)
    assert message.startswith("folder/tokenizer.json: ")
    assert "\n" not in message
    for word in named:
        assert word in message


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_control_token(tokenizer_json, name):
    raw = tokenizer_json("dense")
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] != name]
    del raw["model"]["vocab"][name]
    refused(raw, name, "must be one id")


def test_a_control_token_of_several_ids(tokenizer_json):
    raw = tokenizer_json("dense")  # in the vocabulary, but not added: it encodes to its pieces
    raw["added_tokens"] = [token for token in raw["added_tokens"] if token["content"] != "<think>"]
    refused(raw, "<think>")


def test_a_control_token_with_two_ids(tokenizer_json):
    raw = tokenizer_json("qwq")
    token = next(token for token in raw["added_tokens"] if token["content"] == "</tool_call>")
    raw["added_tokens"].append({**token, "id": 151700})
    refused(raw, "</tool_call>")


def test_an_added_token_on_the_id_of_a_piece(tokenizer_json):
    raw = tokenizer_json("qwq", in_vocab=False)
    raw["added_tokens"][0]["id"] = 17
    refused(raw, "clashes")


def test_two_added_tokens_on_one_id(tokenizer_json):
    raw = tokenizer_json("qwq", in_vocab=False)
    raw["added_tokens"][0]["id"] = raw["added_tokens"][1]["id"]
    refused(raw, "clashes")


def test_a_byte_without_a_piece(tokenizer_json):
    """It would be dropped from every text in silence."""
    raw = tokenizer_json("qwq")
    del raw["model"]["vocab"]["é"]
    refused(raw, "byte 0xe9")


def test_a_byte_that_is_an_added_token(tokenizer_json):
    raw = tokenizer_json("qwq")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    raw["added_tokens"].append({"id": raw["model"]["vocab"]["x"], "content": "x", **flags})
    refused(raw, "byte 0x78")


def test_a_piece_that_is_not_bytes(tokenizer_json):
    raw = tokenizer_json("qwq")
    raw["model"]["vocab"]["▁the"] = 300  # as SentencePiece writes a space
    refused(raw, "300", "byte-level")


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": {"type": "WordPiece", "vocab": {}}},
        {"model": {"type": "BPE"}},
        {"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}},
        {"model": {"type": "BPE", "vocab": {"a": [1]}, "merges": []}},
        {"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}},
        {"model": {"type": "BPE", "vocab": {}, "merges": []}},
        {"added_tokens": [3]},
        {"added_tokens": 3},
        {"added_tokens": {"id": 1}},
        {"added_tokens": [{"id": "7", "content": "x"}]},
        {"added_tokens": [{"id": 7}]},
        {"added_tokens": [{"id": 7000, "content": 7}]},
        {"added_tokens": [{"id": -1, "content": "y"}]},
        {"added_tokens": []},
        {"pre_tokenizer": {"type": "Nonsense"}},
        {"normalizer": 4},
    ],
    ids=str,
)
def test_malformed_files(tokenizer_json, change):
    refused({**tokenizer_json("qwq", in_vocab=False), **change})


@pytest.mark.parametrize("raw", [[], None, "x", 3], ids=repr)
def test_not_an_object(raw):
    refused(raw)


def test_unreadable_files(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(LonghandError, match=r"tokenizer\.json: no such file"):
        Tokenizer.from_file(path)
    for content in (b"", b"{", b"\xff\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(LonghandError, match=r"tokenizer\.json: not readable as JSON"):
            Tokenizer.from_file(path)


# The real vocabulary

needs_real = pytest.mark.skipif(not REAL.exists(), reason="the real vocabulary is not part of the repository")


@pytest.fixture(scope="module")
def real():
    return Tokenizer.from_file(REAL)


@needs_real
def test_qwq_known_ids(real, qwq_tokenizer):
    assert real.encode("Hello world") == real.encode_literal("Hello world") == [9707, 1879]
    prefix = real.encode("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert prefix == [151644, 872, 198, 13048, 151645, 198, 151644, 77091, 198, 151667, 198]
    assert len(real.defined) == 151_669
    assert real.defined[-1] == 151_668
    assert real.control == qwq_tokenizer.control


@needs_real
@given(s=text | attack)
def test_qwq_round_trips(real, s):
    ids = real.encode_literal(s)
    assert real.decode(ids) == clean(s) or unassigned(s)
    assert max(ids, default=0) < 151_643
    stream = real.stream()
    assert "".join([stream.push(i) for i in ids] + [stream.flush()]) == real.decode(ids)
