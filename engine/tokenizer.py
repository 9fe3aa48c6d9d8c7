"""Tokenizer: text to ids and back, with one door for trusted text and another for text that must stay text."""

from __future__ import annotations

import codecs
import copy
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from .errors import LonghandError


@dataclass(frozen=True)
class ControlIds:
    """The ids that steer a turn, resolved once from the tokenizer; each is exactly one id."""

    im_start: int
    im_end: int
    endoftext: int
    tool_call: int
    tool_call_end: int
    tool_response: int
    tool_response_end: int
    think: int
    think_end: int

    @property
    def stops(self) -> tuple[int, ...]:
        """The ids that a turn ends on."""
        return (self.tool_call_end, self.im_end, self.endoftext)


CONTROL_TOKENS = {
    "im_start": "<|im_start|>",
    "im_end": "<|im_end|>",
    "endoftext": "<|endoftext|>",
    "tool_call": "<tool_call>",
    "tool_call_end": "</tool_call>",
    "tool_response": "<tool_response>",
    "tool_response_end": "</tool_response>",
    "think": "<think>",
    "think_end": "</think>",
}


class Tokenizer:
    """A byte-level BPE with added tokens, as Qwen2 checkpoints carry it in tokenizer.json.

    Ids of added tokens may be sparse. `encode` lets control tokens through and is for text the program wrote itself;
    `encode_literal` is for everything else.
    """

    def __init__(self, raw: dict[str, Any], name: str = "tokenizer.json"):
        self.name = name
        raw = _with_added_in_vocab(raw, name)
        self.added = {token["id"]: token["content"] for token in raw["added_tokens"]}
        self._full = _load(raw, name)
        for token_id, content in self.added.items():
            if self._full.token_to_id(content) != token_id:
                found = self._full.token_to_id(content)
                raise LonghandError(f"{name}: added token {content!r} has id {token_id} but loads as {found}")
        self._literal = _load(_without_added(raw, set(self.added.values())), name)
        vocab = self._full.get_vocab(with_added_tokens=True)
        alphabet = {char: byte for byte, char in _byte_alphabet().items()}
        self._bytes: dict[int, bytes] = {}
        for piece, token_id in vocab.items():
            if token_id in self.added:
                self._bytes[token_id] = self.added[token_id].encode()
            elif all(char in alphabet for char in piece):
                self._bytes[token_id] = bytes(alphabet[char] for char in piece)
            else:
                raise LonghandError(f"{name}: token {token_id} is not made of bytes; only byte-level BPE is supported")
        for char, byte in alphabet.items():  # text with such a byte would lose it in silence
            if self._literal.token_to_id(char) is None:
                raise LonghandError(f"{name}: byte {byte:#04x} has no piece; only byte-level BPE is supported")
        self.control = self._control_ids()

    @staticmethod
    def from_file(path: Path) -> Tokenizer:
        """Load tokenizer.json; LonghandError names the file and what is wrong with it."""
        try:
            raw = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise LonghandError(f"{path}: no such file; a checkpoint folder holds tokenizer.json") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise LonghandError(f"{path}: not readable as JSON ({error})") from None
        return Tokenizer(raw, str(path))

    def encode(self, text: str) -> list[int]:
        """Ids of trusted text: the name of a control token becomes its id."""
        return self._full.encode(_scalar(text), add_special_tokens=False).ids

    def encode_literal(self, text: str) -> list[int]:
        """Ids of untrusted text: never an added token, whatever the text says.

        `decode` gives the text back, up to the tokenizer's own normalization (NFC for Qwen2).
        """
        ids = self._literal.encode(_scalar(text), add_special_tokens=False).ids
        forged = self.added.keys() & set(ids)
        if forged:  # cannot happen; not an `assert`, which `python -O` would remove
            raise AssertionError(f"literal text came out as added tokens {sorted(forged)}")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, control tokens by name; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes(token_id) for token_id in ids).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id; LonghandError if the tokenizer does not define it."""
        try:
            return self._bytes[token_id]
        except KeyError:
            raise LonghandError(f"id {token_id} is not defined by {self.name}") from None

    def stream(self) -> StreamDecoder:
        """A decoder that takes ids one by one."""
        return StreamDecoder(self)

    @property
    def defined(self) -> list[int]:
        """Every id that the tokenizer defines, ascending. Its count is not its largest id + 1."""
        return sorted(self._bytes)

    @cached_property
    def sha256(self) -> str:
        """Hash of what decides ids: pieces, merges and added tokens. Independent of the file's layout."""
        return hashlib.sha256(self._full.to_str(pretty=False).encode()).hexdigest()

    def _control_ids(self) -> ControlIds:
        by_name = {content: token_id for token_id, content in self.added.items()}
        found: dict[str, int] = {}
        for field in fields(ControlIds):
            token = CONTROL_TOKENS[field.name]
            if token not in by_name or self.encode(token) != [by_name[token]]:
                raise LonghandError(
                    f"{self.name}: control token {token} must be one id, but encodes to {self.encode(token)}"
                )
            found[field.name] = by_name[token]
        return ControlIds(**found)


class StreamDecoder:
    """Incremental decoding: `push` gives the text that is complete so far, never half a UTF-8 character.

    All pushes and the final `flush` joined equal `decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that this id completes; often empty inside a character of several ids."""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))

    def flush(self) -> str:
        """What is left: U+FFFD if the ids ended inside a character, else nothing."""
        return self._utf8.decode(b"", final=True)


def _byte_alphabet() -> dict[int, str]:
    # Byte-level BPE writes each byte as a printable character: itself where it is one, else 256 + a running number
    # (GPT-2's encoder.py).
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(256 + len(alphabet) - len(printable))
    return alphabet


def _scalar(text: str) -> str:
    # Lone surrogates (JSON from the web may hold them) have no UTF-8.
    return text.encode("utf-8", "replace").decode() if any("\ud800" <= c <= "\udfff" for c in text) else text


def _load(raw: dict[str, Any], name: str) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(raw))
    except Exception as error:  # tokenizers raises bare Exception for every malformed file
        raise LonghandError(f"{name}: not a usable tokenizer ({error})") from None
    tokenizer.no_truncation()  # a file written after a call with truncation=True carries it, and would cut every text
    tokenizer.no_padding()
    return tokenizer


def _with_added_in_vocab(raw: dict[str, Any], name: str) -> dict[str, Any]:
    # A tokenizer.json whose added tokens are not also in model.vocab is silently renumbered when it is loaded.
    if not isinstance(raw, dict) or not isinstance(raw.get("model"), dict):
        raise LonghandError(f"{name}: no model section")
    model = raw["model"]
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise LonghandError(f"{name}: only byte-level BPE is supported, not {model.get('type')!r}")
    if not all(isinstance(token_id, int) for token_id in model["vocab"].values()):
        raise LonghandError(f"{name}: an id in the vocabulary is not a number")
    if not isinstance(raw.get("added_tokens") or [], list):
        raise LonghandError(f"{name}: added_tokens is not a list")
    raw = {**raw, "model": {**model, "vocab": dict(model["vocab"])}, "added_tokens": raw.get("added_tokens") or []}
    vocab = raw["model"]["vocab"]
    ids = {token_id: piece for piece, token_id in vocab.items()}
    for token in raw["added_tokens"]:
        content, token_id = (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        if not isinstance(content, str) or not isinstance(token_id, int):
            raise LonghandError(f"{name}: malformed added token {token!r}")
        if vocab.get(content, token_id) != token_id or ids.get(token_id, content) != content:
            raise LonghandError(f"{name}: added token {content!r} clashes with the vocabulary at id {token_id}")
        vocab[content] = token_id
        ids[token_id] = content
    return raw


def _without_added(raw: dict[str, Any], names: set[str]) -> dict[str, Any]:
    raw = copy.copy(raw)
    raw["added_tokens"] = []
    raw["post_processor"] = None  # may insert special tokens
    model = dict(raw["model"])
    model["vocab"] = {piece: token_id for piece, token_id in model["vocab"].items() if piece not in names}
    raw["model"] = model
    return raw
