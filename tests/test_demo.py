"""The built-in model's training data and its training, on models far smaller than the real one."""

from __future__ import annotations

import json
import random
from datetime import date

import pytest
import torch
from longhand.agent import prompt
from longhand.agent.calls import parse_calls
from longhand.agent.demo.batches import PAD, Batches, prose
from longhand.agent.demo.language import Writer
from longhand.agent.demo.samples import NOT_FOUND, Sampler, asks, query_of
from longhand.agent.demo.tokenizer import train_tokenizer
from longhand.agent.demo.train import Recipe, loss_of, new_model, save
from longhand.agent.search import SearchResult
from longhand.engine.engine import Engine
from longhand.engine.tokenizer import Tokenizer

PROSE = ["The tower of Velm stands 33 metres tall, and it was finished in 1889 by a guild of masons."]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(json.loads(train_tokenizer(600, PROSE, seed=1)))


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_is_what_the_agent_feeds(tokenizer: Tokenizer, seed: int) -> None:
    opening = prompt.opening_ids(tokenizer, date(2026, 1, 2), 5)
    sampler = Sampler(seed, PROSE)
    for _ in range(40):
        sample = sampler.sample()
        ids, labels = sample.encode(tokenizer, opening)
        head, tail = prompt.response_frame(tokenizer)
        fed = opening + prompt.question_ids(tokenizer, sample.question)
        wanted = [(fed, False)]
        if sample.call:
            wanted.append((tokenizer.encode(sample.call), True))
            wanted.append((head + tokenizer.encode_literal(sample.response) + tail, False))
        wanted.append((tokenizer.encode(sample.answer), True))
        assert ids == [i for part, _ in wanted for i in part]
        assert labels == [i if sampled else -100 for part, sampled in wanted for i in part]
        assert ids[-1] == tokenizer.control.im_end
        if sample.call:
            assert tokenizer.encode(sample.call)[-1] == tokenizer.control.tool_call_end


def test_answers_are_copies_of_a_result(tokenizer: Tokenizer) -> None:
    sampler = Sampler(5, PROSE)
    behaviours = set()
    for _ in range(300):
        sample = sampler.sample()
        behaviours.add(sample.behaviour)
        said = sample.answer.split("</think>\n\n")[1].removesuffix("<|im_end|>")
        if sample.behaviour == "fact":
            results = [SearchResult(**row) for row in json.loads(sample.response)]
            assert said in [f"{r.content} [{r.title}]({r.url})" for r in results]
            query = sample.call.split("<tool_call>\n")[1].removesuffix("\n</tool_call>")
            assert parse_calls(query)[0].query == query_of(sample.question)
        elif sample.behaviour == "missing":
            assert said == NOT_FOUND
        else:
            assert not sample.call
    assert behaviours == {"fact", "missing", "greeting"}


def test_equal_seeds_give_equal_samples_and_others_do_not() -> None:
    def draw(seed: int) -> list[str]:
        sampler = Sampler(seed, PROSE)
        return [sampler.sample().question for _ in range(20)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize(
    ("question", "query", "kind"),
    [
        ("How tall is the Velm Tower?", "How tall Velm Tower", "how tall"),
        ("In which year was R. F. Soutt born?", "year R. F. Soutt born", "which"),
        ("Tell me about the index.", "index", "about something"),
        ('Who wrote "The Kelm"?', "Who wrote Kelm", "who"),
    ],
)
def test_queries_keep_the_salient_words(question: str, query: str, kind: str) -> None:
    assert query_of(question) == query
    assert asks(question) == kind


def test_a_fact_states_its_value() -> None:
    writer = Writer(random.Random(3), PROSE)
    for _ in range(300):
        fact = writer.fact()
        assert fact.value.casefold() in fact.statement.casefold(), fact


def test_words_have_the_same_pieces_wherever_they_stand(tokenizer: Tokenizer) -> None:
    alone = tokenizer.encode_literal("Zorblat")
    for text in ("the Zorblat", '"Zorblat"', "(Zorblat)", "[Zorblat](u)", "\nZorblat."):
        ids = tokenizer.encode_literal(text)
        assert any(ids[i : i + len(alone)] == alone for i in range(len(ids))), text


def test_training_learns_and_writes_a_checkpoint_that_loads(tokenizer: Tokenizer, tmp_path) -> None:
    recipe = Recipe(
        vocab_size=600, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2, num_kv_heads=1,
        tokens_per_step=1024,
    )  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(train_tokenizer(600, PROSE, seed=1))
    model = new_model(recipe)
    batches = Batches(recipe.tokens_per_step, tokenizer, PROSE, seed=1)
    ids, labels = next(batches.samples)
    assert ids.shape == labels.shape
    assert ((labels == PAD) | (labels == ids)).all()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        loss, _ = loss_of(model, batches.opening(1.0), ids, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    save(model, recipe, tokenizer, tmp_path)
    engine = Engine.from_pretrained(tmp_path)
    session = engine.session()
    session.feed(ids[0, :20].tolist())
    assert torch.isfinite(session.logits()).all()


def test_masked_ids_do_not_change_the_loss(tokenizer: Tokenizer) -> None:
    recipe = Recipe(
        vocab_size=600, hidden_size=32, intermediate_size=48, num_layers=1, num_heads=2, num_kv_heads=1,
        tokens_per_step=512,
    )  # fmt: skip
    model = new_model(recipe)
    ids, labels = next(Batches(recipe.tokens_per_step, tokenizer, PROSE, seed=2).samples)
    last = ids.shape[1] - 1
    hidden_tail = labels.clone()
    hidden_tail[:, -1] = PAD
    before, _ = loss_of(model, None, ids, hidden_tail)
    changed = ids.clone()
    changed[:, last] = (changed[:, last] + 1) % 500  # an id that no counted label looks at
    after, _ = loss_of(model, None, changed, hidden_tail)
    assert before.item() == after.item()


def test_the_built_in_documents_read_as_sentences() -> None:
    sentences = prose()
    assert len(sentences) > 180
    assert all(not sentence.startswith("#") and "<!--" not in sentence for sentence in sentences)
