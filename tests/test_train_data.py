"""Data files of a training: written, checked, read, mixed; and the batches that are cut from them."""

import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand.agent.demo.batches import KINDS, POOL, Batches, Stream
from longhand.agent.demo.data import Data, read_data, write_data
from longhand.agent.demo.pages import Prose, read_prose
from longhand.agent.demo.recipe import Recipe
from longhand.agent.demo.samples import Sampler
from longhand.agent.prompt import TEMPLATE
from longhand.agent.trace_export import sample
from longhand.engine.errors import LonghandError

PROSE = Prose(["The tower of Velm stands 33 metres tall, and it was finished in 1889 by a guild of masons."])


def lines(path, rows):
    path.write_text("".join(json.dumps({"input_ids": ids, "labels": labels}) + "\n" for ids, labels in rows))
    return path


def test_what_is_written_is_what_is_read(dense_tokenizer, tmp_path):
    path, told = tmp_path / "samples.jsonl", []
    write_data(path, 12, dense_tokenizer, PROSE, 5, told.append)
    assert told == list(range(1, 13))
    data = read_data([path], dense_tokenizer, 4096)
    assert len(data) == 12
    sampler = Sampler(5, PROSE)
    for ids, labels in data.rows(range(12)):
        want, wanted = sampler.sample().encode(dense_tokenizer)
        assert ids[-len(want) :] == want
        assert labels == [-100] * (len(ids) - len(want)) + wanted
        opening = dense_tokenizer.decode(ids[: len(ids) - len(want)])
        assert opening.startswith("<|im_start|>user\nYou are Qwen QwQ")
        assert opening.endswith(TEMPLATE[-20:])
    again = tmp_path / "again.jsonl"
    write_data(again, 12, dense_tokenizer, PROSE, 5, told.append)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(tmp_path.iterdir()) == [again, path]


def test_a_file_is_written_whole_or_not_at_all(dense_tokenizer, tmp_path):
    def stop(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / "samples.jsonl", 2, dense_tokenizer, PROSE, 5, stop)
    assert not list(tmp_path.iterdir())
    with pytest.raises(LonghandError, match="cannot be written"):
        write_data(tmp_path / "no" / "samples.jsonl", 2, dense_tokenizer, PROSE, 5, stop)


@settings(max_examples=60)
@given(st.data())
def test_every_exported_line_with_something_sampled_is_taken(tmp_path_factory, dense_tokenizer, data):
    ids = st.sampled_from(dense_tokenizer.defined)
    sources = st.sampled_from(["prompt", "sampled", "tool", "forced"])
    rows = st.lists(st.tuples(ids, sources), min_size=2, max_size=30).filter(
        lambda pairs: any(source == "sampled" for _, source in pairs[1:])
    )
    written = [sample(*zip(*pairs, strict=True)) for pairs in data.draw(st.lists(rows, min_size=1, max_size=5))]
    path = tmp_path_factory.mktemp("data") / "sft.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in written))
    found = read_data([path, path], dense_tokenizer, 30)
    assert found.rows(range(len(found))) == [(row["input_ids"], row["labels"]) for row in written] * 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not an object of two lists"),
        ('{"input_ids": [1, 2]}', "is not an object of two lists"),
        ('{"input_ids": [1, 2], "labels": "12"}', "is not an object of two lists"),
        ('{"input_ids": [1, 2], "labels": [1, 2], "weight": [1, 1]}', "is not an object of two lists"),
        ('{"input_ids": [1, 2], "labels": [1]}', "has 2 input_ids and 1 labels"),
        ('{"input_ids": [1, 2.0], "labels": [1, 2]}', "holds something that is not a whole number"),
        ('{"input_ids": [1, true], "labels": [1, 1]}', "holds something that is not a whole number"),
        ('{"input_ids": [1, "2"], "labels": [1, 2]}', "holds something that is not a whole number"),
        ('{"input_ids": [1, 4000], "labels": [1, 4000]}', "has id 4000, which the tokenizer does not define"),
        ('{"input_ids": [1, -1], "labels": [1, -100]}', "has id -1, which the tokenizer does not define"),
        ('{"input_ids": [1, 2], "labels": [2, -100]}', "has a label that is neither its own id nor -100"),
        ('{"input_ids": [], "labels": []}', "has no label to learn from"),
        ('{"input_ids": [1, 2], "labels": [1, -100]}', "has no label to learn from"),
        (json.dumps({"input_ids": [1] * 9, "labels": [1] * 9}), "has 9 ids; the model's context is 8"),
    ],
)
def test_a_bad_line_is_named(dense_tokenizer, tmp_path, line, said):
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"input_ids": [1, 2], "labels": [-100, 2]}}\n{line}\n')
    with pytest.raises(LonghandError, match=rf"^{path}: line 2 {said}") as error:
        read_data([path], dense_tokenizer, 8)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read(dense_tokenizer, tmp_path):
    path = tmp_path / "none.jsonl"
    with pytest.raises(LonghandError, match=r"none.jsonl: cannot be read"):
        read_data([path], dense_tokenizer, 8)
    path.write_text("")
    with pytest.raises(LonghandError, match=r"none.jsonl: holds no sample"):
        read_data([path], dense_tokenizer, 8)


def test_a_file_that_changes_on_the_way(dense_tokenizer, tmp_path):
    path = lines(tmp_path / "rows.jsonl", [([1, 2], [1, 2]), ([3, 4], [3, 4])])
    data = read_data([path], dense_tokenizer, 8)
    path.write_text(path.read_text()[:50])
    assert data.rows([0]) == [([1, 2], [1, 2])]
    with pytest.raises(LonghandError, match="line 2 is not what it was when training began"):
        data.rows([1])


def numbered(number):
    """A pool of rows that tell where they come from."""
    return [([100 * number + n] * (1 + n % 7 * 30), [-100] * (1 + n % 7 * 30)) for n in range(20)]


@given(st.integers(1, 500), st.integers(0, 40), st.integers(1, 20))
def test_batches_go_on_from_their_position(tokens, before, after):
    one = Batches(numbered, tokens, "seed")
    for _ in range(before):
        one.next()
    other = Batches(numbered, tokens, "seed")
    other.go_to(*one.position)
    for _ in range(after):
        assert all(map(torch.equal, one.next(), other.next()))
    assert one.position == other.position


@given(st.integers(1, 800))
def test_a_pool_is_cut_without_loss(tokens):
    batches, seen = Batches(numbered, tokens, "seed"), Counter()
    while sum(seen.values()) < 20:
        ids, labels = batches.next()
        assert (labels == -100).all()  # as the rows have it, and padding always
        assert ids.shape == labels.shape
        assert ids.shape[1] % 64 == 0
        assert ids.shape[0] == 1 or ids.numel() <= tokens
        seen.update(ids[:, 0].tolist())
    assert seen == Counter(range(20))
    assert batches.position[0] == 0


@pytest.mark.parametrize("count", [1, 5, POOL, 2 * POOL + 1])
def test_the_streams_see_every_row_before_one_comes_again(dense_tokenizer, tmp_path, count):
    known = dense_tokenizer.defined
    rows = [([known[n % 400], known[n // 400]], [-100, known[n // 400]]) for n in range(count)]
    data = read_data([lines(tmp_path / "rows.jsonl", rows)], dense_tokenizer, 8)
    recipe = Recipe(batches=2, mix=1.0, copy_steps=0)
    streams = [Stream(recipe, number, dense_tokenizer, PROSE, data) for number in range(2)]
    parts = -(-count // POOL)
    pools = [streams[place % 2]._rows(place // 2) for place in range(2 * parts)]  # two epochs
    for epoch in (pools[:parts], pools[parts:]):
        assert sorted(row for pool in epoch for row in pool) == sorted(rows)
    if count > 1:
        assert pools[:parts] != pools[parts:]


def test_a_mixed_stream_takes_from_both(dense_tokenizer, tmp_path):
    rows = [([1, 2, n], [-100, 2, n]) for n in range(3, 9)]
    data = read_data([lines(tmp_path / "rows.jsonl", rows)], dense_tokenizer, 8)
    stream = Stream(Recipe(tokens=2048, mix=0.5, copy_steps=2), 0, dense_tokenizer, read_prose(), data)
    for step in range(8):
        opening, ids, labels = stream.next(step)
        kind = Recipe(mix=0.5, copy_steps=2).kind(step)
        assert (opening is not None) == (kind == "runs")
        assert (kind == "rows") == (ids[0, :2].tolist() == [1, 2])
        assert ((labels == -100) | (labels == ids)).all()
        assert (labels != -100).any()
    position = dict(zip(KINDS, zip(stream.position[::2], stream.position[1::2], strict=True), strict=True))
    assert position["copies"] == (0, 2)
    assert position["runs"] == (0, 3)
    assert position["rows"] == (2, 1)  # six rows are one batch, so each time the next epoch


def test_streams_differ_and_each_repeats_itself(dense_tokenizer):
    recipe = Recipe(copy_steps=0, tokens=1024)
    first, again, second = (Stream(recipe, number, dense_tokenizer, PROSE, None) for number in (0, 0, 1))
    mine = [first.next(step) for step in range(3)]
    assert all(torch.equal(a, b) for x, y in zip(mine, (again.next(s) for s in range(3)), strict=True)
               for a, b in zip(x, y, strict=True))  # fmt: skip
    assert not torch.equal(mine[0][1], second.next(0)[1])


def test_no_data_is_empty():
    assert len(Data(())) == 0
    with pytest.raises(IndexError):
        Data(()).rows([0])
