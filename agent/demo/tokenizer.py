"""The built-in model's tokenizer: a byte-level BPE trained on the project's own text."""

from __future__ import annotations

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from ...engine.tokenizer import CONTROL_TOKENS
from .. import prompt
from .pages import Prose
from .samples import Sampler
from .words import ADJECTIVES, ADVERBS, NOUNS, VERBS

# Merges never join a space or punctuation to letters: a word has the same pieces after a space, a quote or a bracket,
# so copying it is copying ids. Digits stand alone, as in Qwen2. The seams of the results' JSON are one piece each.
PIECES = r'": "|", "|"\}, \{"|\[\{"|"\}\]|\]\(|[\p{L}\p{M}]+|\p{N}|\s|.'


def train_tokenizer(vocab_size: int, prose: Prose, seed: int) -> str:
    """tokenizer.json (as text) with the control tokens as single added tokens behind the merges."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(prose, seed), trainer)
    raw = json.loads(tokenizer.to_str())
    for name in CONTROL_TOKENS.values():
        token_id = len(raw["model"]["vocab"])
        raw["model"]["vocab"][name] = token_id
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        raw["added_tokens"].append({"id": token_id, "content": name, **flags, "special": name.startswith("<|")})
    return json.dumps(raw, ensure_ascii=False)


def _corpus(prose: Prose, seed: int) -> Iterable[str]:
    """Real prose, the template, and samples, so that frequent words are one piece and made-up ones few."""
    yield from prose.sentences * 6
    for word in (*NOUNS, *ADJECTIVES, *VERBS, *ADVERBS):
        yield from (word, word, word.capitalize())
    sampler = Sampler(seed, prose)
    for _ in range(1500):
        for exchange in sampler.sample().exchanges:
            yield exchange.question
            for one in exchange.rounds:
                yield from (one.said.split("<tool_call>")[0], one.response)
    yield from [prompt.TEMPLATE.replace("<tool_call>", "").replace("</tool_call>", "")] * 20
