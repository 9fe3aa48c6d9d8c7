"""The session's invariants (design.md, section 4), against a fresh forward of all ids at once."""

import contextlib
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from longhand.engine import cache as cache_module
from longhand.engine import session as session_module
from longhand.engine.engine import Engine
from longhand.engine.errors import LonghandError
from longhand.engine.loops import LoopDetector
from longhand.engine.sampler import Sampler, SamplingParams
from longhand.engine.session import PREFILL_CHUNK, SOURCES
from safetensors import safe_open
from safetensors.torch import load_file, save_file

FLOAT32 = 1e-5  # of logits, keys and values of unit size
GREEDY = SamplingParams(temperature=0)
HOT = SamplingParams(temperature=1.5, top_p=1.0, top_k=0)
PARAMS = (GREEDY, SamplingParams(), HOT, SamplingParams(presence_penalty=0.5, repetition_penalty=1.2))


@torch.inference_mode()
def whole(engine, ids):
    """Logits behind the last id, and the cache, of one forward of all ids that knows nothing of sessions."""
    cache = engine.new_cache()
    cache.reserve(len(ids))
    logits = engine.decoder.forward(engine.tensor(ids), cache)[0]
    cache.advance(len(ids))
    return logits, cache


def distance(a, b):
    assert a.shape == b.shape
    return float((a - b).abs().max()) if a.numel() else 0.0


def check(session):
    """Invariants 1 and 2 as far as one look at a session shows them."""
    ids, cached = session.ids, session.cached
    assert 0 <= cached <= len(ids) == len(session) == len(session.sources)
    assert session.pending == ids[cached:]
    assert set(session.sources) <= set(SOURCES)
    assert session.recomputed == 0
    if cached:
        _, fresh = whole(session.engine, ids[:cached])
        for kind in ("keys", "values"):
            for mine, theirs in zip(getattr(session._cache, kind), getattr(fresh, kind), strict=True):
                assert distance(mine[:cached], theirs[:cached]) <= FLOAT32


def check_logits(session, tolerance=FLOAT32):
    assert distance(session.logits(), whole(session.engine, session.ids)[0]) <= tolerance
    assert session.pending == ()


@contextlib.contextmanager
def watched(engine):
    """Independent of the session's own counting: the positions of each cache that went through all layers."""
    log = []

    def spy(ids, cache):
        start = cache.position
        hidden = type(engine.decoder).hidden(engine.decoder, ids, cache)
        log.extend((cache, position) for position in range(start, start + len(ids)))
        return hidden

    engine.decoder.hidden = spy
    try:
        yield log
    finally:
        del engine.decoder.hidden


@contextlib.contextmanager
def failing(engine, layer, call, error):
    """The decoder raises inside this layer at this (zero-based) call."""
    calls = []

    def hook(*_):
        calls.append(None)
        if len(calls) == call + 1:
            raise error

    handle = engine.decoder.model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class Scripted:
    """A sampler that chooses what a test wrote down."""

    seed = 0

    def __init__(self, ids):
        self.ids = iter(ids)

    def sample(self, logits, position, params, ids, sampled):
        return next(self.ids), -1.0


def started(engine, *pieces, seed=0):
    session = engine.session(seed)
    for piece in pieces:
        session.feed(piece)
    return session


def some_ids(count, seed=0):
    return torch.randint(400, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


class SessionMachine(RuleBasedStateMachine):
    """Anything that a caller can do to a session, in any order."""

    engine: Engine
    folder = None
    ids = st.lists(st.integers(0, 480), max_size=8)

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.log = self.stack.enter_context(watched(self.engine))
        self.session = self.engine.session(seed=5)
        self.known, self.sources = [], []  # what the session must hold
        self.given, self.given_back = 0, 0  # positions that a fork or restore brought along; that rewinds dropped
        self.parents = []

    def teardown(self):
        for parent, state in self.parents:
            assert self.state(parent) == state
            check(parent)
            if parent.ids:
                check_logits(parent)
        self.stack.close()

    @staticmethod
    def state(session):
        return session.ids, session.sources, session.cached, session.finish_reason, list(map(repr, session.turns))

    @rule(ids=ids, source=st.sampled_from(SOURCES))
    def feed(self, ids, source):
        self.session.feed(iter(ids), source)
        self.known += ids
        self.sources += [source] * len(ids)

    @precondition(lambda self: self.known)
    @rule()
    def logits(self):
        check_logits(self.session)

    @precondition(lambda self: self.known)
    @rule(
        count=st.integers(0, 4),
        abandon=st.none() | st.integers(1, 3),
        params=st.sampled_from(PARAMS),
        stop=st.sampled_from([None, (), range(0, 500, 3)]),
    )
    def generate(self, count, abandon, params, stop):
        generator = self.session.generate(count, stop, params)
        tokens = []
        for token in generator:
            # The id is the one that the sampler draws from the logits of a fresh forward, and is pending.
            expected = Sampler(5, self.engine.undefined).sample(
                whole(self.engine, self.known)[0], len(self.known), params, self.known,
                [i for i, source in zip(self.known, self.sources, strict=True) if source == "sampled"],
            )  # fmt: skip
            assert token.id == expected[0]
            assert abs(token.logprob - expected[1]) <= FLOAT32
            assert self.engine.defines(token.id)
            self.known.append(token.id)
            self.sources.append("sampled")
            assert self.session.pending == (token.id,)
            tokens.append(token)
            if len(tokens) == abandon:
                generator.close()
                break
        stops = self.engine.control.stops if stop is None else stop
        ended = bool(tokens) and tokens[-1].id in stops
        assert not any(token.id in stops for token in tokens[:-1])
        if ended or len(tokens) == count:
            assert self.session.finish_reason == ("stop" if ended else "length")
        else:
            assert self.session.finish_reason is None
        assert self.session.turns[-1].sampled == len(tokens)

    @precondition(lambda self: self.known)
    @rule(layer=st.integers(0, 1), call=st.integers(0, 3), error=st.sampled_from([KeyboardInterrupt, RuntimeError]))
    def fail(self, layer, call, error):
        with failing(self.engine, layer, call, error("inside the decoder")):
            try:
                for token in self.session.generate(3, (), HOT):
                    self.known.append(token.id)
                    self.sources.append("sampled")
            except error:
                assert self.session.finish_reason is None

    @rule(data=st.data())
    def rewind(self, data):
        n = data.draw(st.integers(0, len(self.known)))
        before = self.session.cached
        self.session.rewind(n)
        want = before if n == len(self.known) else min(before, max(n - 1, 0))
        assert self.session.cached == want
        self.given_back += before - want
        del self.known[n:], self.sources[n:]
        self.log[:] = [(cache, at) for cache, at in self.log if cache is not self.session._cache or at < want]

    @precondition(lambda self: len(self.parents) < 3)
    @rule(seed=st.sampled_from([None, 5]))
    def fork(self, seed):
        self.parents.append((self.session, self.state(self.session)))
        twin = self.session.fork(seed)
        assert self.state(twin)[:4] == self.state(self.session)[:4]
        self.moved_to(twin)

    @rule()
    def save_and_restore(self):
        path = self.folder / "session.safetensors"
        self.session.save(path)
        twin = self.engine.restore(path)
        assert self.state(twin)[:3] == self.state(self.session)[:3]
        assert twin.seed == self.session.seed
        self.moved_to(twin)

    def moved_to(self, twin):
        assert twin.turns == []
        self.session, self.given, self.given_back = twin, twin.cached, 0

    @invariant()
    def holds(self):
        session = self.session
        assert session.ids == tuple(self.known)
        assert session.sources == tuple(self.sources)
        check(session)
        assert self.given + sum(turn.computed for turn in session.turns) == session.cached + self.given_back
        positions = [at for cache, at in self.log if cache is session._cache]
        assert len(positions) == len(set(positions))  # none twice
        assert set(positions) <= set(range(session.cached))


def test_any_history(tiny_engine, tmp_path):
    class Machine(SessionMachine):
        engine, folder = tiny_engine, tmp_path

    run_state_machine_as_test(Machine, settings=settings(max_examples=120, stateful_step_count=16, deadline=None))


@pytest.mark.parametrize("keep", [0, 1, 9, 15])
def test_a_fork_and_its_parent_share_nothing(tiny_engine, keep):
    parent = started(tiny_engine, some_ids(16))
    want = parent.logits()
    twin = parent.fork()
    twin.rewind(keep)
    twin.feed(some_ids(5, seed=9))  # few: written into rows that the copy has, without growing
    check_logits(twin)
    assert (parent.cached, torch.equal(parent.logits(), want)) == (16, True)
    check(parent)
    parent.rewind(keep)  # and the other way round
    parent.feed([5])
    check_logits(parent)
    check(twin)


# Feeding in pieces (invariant 3)


@settings(max_examples=30)
@given(data=st.data(), length=st.integers(2, 60))
def test_pieces_equal_the_whole(tiny_engine, data, length):
    ids = some_ids(length)
    cuts = sorted(data.draw(st.sets(st.integers(1, length - 1), max_size=6)))
    at_once, pieces = started(tiny_engine, ids), tiny_engine.session()
    for start, end in zip([0, *cuts], [*cuts, length], strict=True):
        pieces.feed(ids[start:end])
        if data.draw(st.booleans()):
            pieces.logits()
    want, got = at_once.logits(), pieces.logits()
    assert distance(got, want) <= FLOAT32
    assert list(at_once.generate(5, (), GREEDY))[-1].id == list(pieces.generate(5, (), GREEDY))[-1].id
    assert at_once.ids == pieces.ids
    check(pieces)


@pytest.mark.parametrize("cut", range(1, 12))
def test_every_split_point(tiny_engine, cut):
    ids = some_ids(12, seed=1)
    session = started(tiny_engine, ids[:cut])
    session.logits()
    session.feed(ids[cut:], "tool")
    check_logits(session)
    assert [turn.computed for turn in session.turns] == [12]  # one turn: no generate ended it


# The same in lower precision: a rounding is 2**-9 of the value, and thirty of them add up (see test_parity).
def test_pieces_in_bfloat16(make_checkpoint):
    engine = Engine.from_pretrained(make_checkpoint(), device="cpu", dtype="bfloat16")
    ids = some_ids(50)
    for cut in (1, 17, 49):
        session = started(engine, ids[:cut])
        session.logits()
        session.feed(ids[cut:])
        want = whole(engine, ids)[0]
        assert distance(session.logits(), want) <= 80 * 2**-9 * float(want.std())


@pytest.mark.parametrize("length", [PREFILL_CHUNK - 1, PREFILL_CHUNK, PREFILL_CHUNK + 1, 2 * PREFILL_CHUNK + 77])
def test_long_prefill(tiny_engine, length):
    ids = some_ids(length)
    with watched(tiny_engine) as log:
        session = started(tiny_engine, ids)
        check_logits(session)
        assert [position for cache, position in log if cache is session._cache] == list(range(length))
    check(session)
    session.rewind(length - 3)
    session.feed(ids[-3:])
    check_logits(session)


def test_a_long_prefill_that_fails_keeps_the_chunks_that_passed(tiny_engine):
    ids = some_ids(2 * PREFILL_CHUNK + 5)
    session = started(tiny_engine, ids)
    with failing(tiny_engine, 1, 1, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        session.logits()
    assert session.cached == PREFILL_CHUNK
    check(session)
    check_logits(session)
    assert sum(turn.computed for turn in session.turns) == len(ids)


# Tool turns (design.md, section 5): the first past_length ids of a response must not be lost


@pytest.mark.parametrize("lengths", [(1, 1, 1), (7, 5, 3), (0, 0, 0), (1, 0, 300), (200, 2, 700)], ids=str)
def test_three_tool_turns(tiny_engine, lengths):
    """Responses of 1 id, shorter than, equal to (0 stands for that) and longer than the cache."""
    control = tiny_engine.control
    session = started(tiny_engine, [control.im_start, *some_ids(20), control.im_end])
    for turn, length in enumerate(lengths):
        session._sampler = Scripted([*some_ids(9, seed=turn), control.tool_call_end])
        list(session.generate())
        assert session.finish_reason == "stop"
        assert session.pending == (control.tool_call_end,)  # sampled, and without keys and values yet
        cached = session.cached
        response = some_ids(length or cached, seed=50 + turn)
        session.feed(response, "tool")
        check_logits(session)
        check(session)
        assert session.cached == cached + 1 + len(response)
        assert session.turns[-1].reused == cached
        assert session.turns[-1].computed == 1 + len(response)
    assert session.sources.count("tool") == sum(session.turns[turn].fed for turn in (1, 2, 3))
    assert sum(turn.computed for turn in session.turns) == session.cached
    greedy = started(tiny_engine, session.ids)
    session._sampler = Sampler(0, tiny_engine.undefined)
    assert [t.id for t in session.generate(8, (), GREEDY)] == [t.id for t in greedy.generate(8, (), GREEDY)]


# Ends of a generate


def test_statistics_of_turns(tiny_engine):
    session = started(tiny_engine, some_ids(10), some_ids(2))
    assert session.turns == []
    list(session.generate(4, (), GREEDY))
    session.feed(some_ids(5), "tool")
    list(session.generate(1, (), GREEDY))
    counts = [(turn.fed, turn.computed, turn.reused, turn.sampled) for turn in session.turns]
    assert counts == [(12, 15, 0, 4), (5, 6, 15, 1)]
    assert all(turn.prefill_seconds > 0 for turn in session.turns)
    assert session.turns[0].decode_seconds > 0


def test_stop_ids(tiny_engine):
    path = [token.id for token in started(tiny_engine, some_ids(6)).generate(10, (), GREEDY)]
    for stop in sorted(set(path)):
        session = started(tiny_engine, some_ids(6))
        tokens = [token.id for token in session.generate(10, [stop, 3], GREEDY)]
        assert tokens == path[: path.index(stop) + 1]
        assert (session.finish_reason, session.pending) == ("stop", (stop,))


@pytest.mark.parametrize("name", ["tool_call_end", "im_end", "endoftext"])
def test_default_stops(tiny_engine, name):
    session = started(tiny_engine, some_ids(6))
    stop = getattr(tiny_engine.control, name)
    session._sampler = Scripted([1, tiny_engine.control.think_end, tiny_engine.control.tool_call, stop, 2])
    assert [token.id for token in session.generate()][-1] == stop
    assert session.finish_reason == "stop"
    assert len(session) == 10


def test_max_tokens_zero_forwards_and_samples_nothing(tiny_engine):
    session = started(tiny_engine, some_ids(6))
    assert list(session.generate(0)) == []
    assert (session.finish_reason, session.cached, len(session)) == ("length", 6, 6)
    assert session.turns[0].computed == 6
    check_logits(session)


@pytest.mark.parametrize("fed", [1, 29, 30, 31, 32])
def test_the_context_is_full(tiny_folder, fed):
    engine = Engine.from_pretrained(tiny_folder, device="cpu", max_context=32)
    session = started(engine, some_ids(fed))
    tokens = list(session.generate(100, (), GREEDY))
    assert len(tokens) == 32 - fed
    assert (session.finish_reason, len(session)) == ("context", 32)
    check(session)
    with pytest.raises(LonghandError, match="context full: 32 ids and 1 more do not fit in max_context 32"):
        session.feed([1])
    assert list(session.generate(5)) == []
    assert (session.finish_reason, session.cached) == ("context", 32)
    check_logits(session)
    session.rewind(10)
    assert len(list(session.generate(4, (), GREEDY))) == 4


@pytest.mark.parametrize("period", [1, 3, 40])
def test_loops_are_noticed(tiny_engine, period):
    session = started(tiny_engine, some_ids(6))
    cycle = list(range(100, 100 + period))
    session._sampler = Scripted(some_ids(50) + cycle * 500)
    tokens = list(session.generate(2000, ()))
    assert session.finish_reason == "loop"
    assert 50 + 4 * period < len(tokens) <= 50 + period + max(96, 4 * period)
    assert session.pending == (tokens[-1].id,)
    check(session)


def table(rows):
    return "| name | height |\n|---|---|\n" + "".join(f"| tower {n} | {n * 7 % 50} metres |\n" for n in range(rows))


@pytest.mark.parametrize(
    "text",
    [
        "the tower is old. " * 3,
        "-" * 80 + "\n" + "=" * 80,
        table(60),
        json.dumps([{"title": f"The tower {n}", "url": f"t.md#{n}", "content": "metres " * 9} for n in range(30)]),
        "".join(f"{n}, " for n in range(300)),
        "na " * 16 + "\nHey " * 10,
    ],
)
def test_ordinary_text_is_no_loop(tiny_engine, text):
    session = started(tiny_engine, [1])
    ids = tiny_engine.tokenizer.encode_literal(text)
    session._sampler = Scripted(ids)
    assert [token.id for token in session.generate(min(len(ids), 1200), ())] == ids[:1200]
    assert session.finish_reason == "length"


@given(st.integers(1, 60), st.integers(0, 40), st.integers(0, 2**32))
def test_the_detector_equals_its_definition(period, noise, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, (noise,), generator=generator).tolist()
    ids += torch.randint(3, (period,), generator=generator).tolist() * 12
    detector = LoopDetector(max_period=64, repeats=3, min_ids=20)
    for end in range(1, len(ids) + 1):
        seen = ids[:end]
        want = any(
            end >= p + max(3 * p, 20) and all(seen[-i] == seen[-i - p] for i in range(1, max(3 * p, 20) + 1))
            for p in range(1, 65)
        )
        assert detector.push(ids[end - 1]) == want
        if want:
            break


# Generators that are left, and verbs while one runs


def test_an_abandoned_generator(tiny_engine):
    session = started(tiny_engine, some_ids(6))
    for token in session.generate(10, (), GREEDY):
        assert session.pending == (token.id,)
        break
    assert (len(session), session.cached, session.finish_reason) == (7, 6, None)
    check(session)
    assert len(list(session.generate(2, (), GREEDY))) == 2
    assert session.ids[-3:] == tuple(t.id for t in started(tiny_engine, some_ids(6)).generate(3, (), GREEDY))


def test_ctrl_c_between_two_tokens(tiny_engine):
    session = started(tiny_engine, some_ids(6))
    try:
        for _ in session.generate(10, (), GREEDY):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        check(session)
    session.feed([4])
    check_logits(session)


def test_nothing_else_while_generating(tiny_engine, tmp_path):
    session = started(tiny_engine, some_ids(6))
    generator = session.generate(5, (), GREEDY)
    second = session.generate(5, (), GREEDY)
    next(generator)
    verbs = {
        "feed": lambda: session.feed([1]),
        "logits": session.logits,
        "rewind": lambda: session.rewind(1),
        "fork": session.fork,
        "save": lambda: session.save(tmp_path / "x"),
        "generate": session.generate,
    }
    for verb, call in verbs.items():
        with pytest.raises(LonghandError, match=f"cannot {verb} while a generate is running"):
            call()
    with pytest.raises(LonghandError, match="cannot generate while"):
        next(second)
    assert len(list(generator)) == 4
    check(session)


FILES = (session_module.__file__, cache_module.__file__)


def turn_of_three(session):
    session.feed([7, 8], "tool")
    for _ in session.generate(3, (), PARAMS[3]):
        pass


def rewind_and_go_on(session):
    session.rewind(len(session) - 2)
    session.logits()


@pytest.mark.parametrize("action", [turn_of_three, rewind_and_go_on])
def test_ctrl_c_anywhere(tiny_engine, action, interrupt_at):
    for event_number in range(1, 2000):
        session = started(tiny_engine, some_ids(255))  # the cache grows on the way
        list(session.generate(1, (), GREEDY))
        struck = interrupt_at(event_number, lambda session=session: action(session), FILES)
        check(session)
        if action is turn_of_three:
            assert sum(turn.computed for turn in session.turns) == session.cached
        list(session.generate(1, (), PARAMS[3]))
        check_logits(session)
        check(session)
        if not struck:
            break
    assert not struck
    assert event_number > 20


# Refusals


def test_what_cannot_be_fed(tiny_engine, qwq_engine):
    for engine, bad in (
        (tiny_engine, 500),
        (tiny_engine, -1),
        (tiny_engine, 10**9),
        (qwq_engine, 151_669),
        (qwq_engine, 256),
    ):
        session = started(engine, [1, 2])
        with pytest.raises(LonghandError, match=f"id {bad} is not defined"):
            session.feed([3, bad, 4])
        assert (session.ids, session.sources) == ((1, 2), ("prompt", "prompt"))
    session = started(tiny_engine, [1, 2])
    with pytest.raises(LonghandError, match="source 'user' is not one of prompt, sampled, tool, forced"):
        session.feed([3], source="user")
    with pytest.raises(LonghandError, match="2 ids and 2047 more do not fit in max_context 2048"):
        session.feed([3] * 2047)
    assert session.ids == (1, 2)
    check(session)


@pytest.mark.parametrize("max_tokens", [-1, 1.5, "3", None, True])
def test_bad_max_tokens(tiny_engine, max_tokens):
    with pytest.raises(LonghandError, match="max_tokens must be"):
        started(tiny_engine, [1]).generate(max_tokens)


@pytest.mark.parametrize("n", [-1, 4, 1.0, None, True])
def test_bad_rewinds(tiny_engine, n):
    session = started(tiny_engine, [1, 2, 3])
    with pytest.raises(LonghandError, match="cannot rewind to"):
        session.rewind(n)
    assert session.ids == (1, 2, 3)


def test_what_was_fed_and_taken_back_was_not_fed(tiny_engine):
    session = started(tiny_engine, some_ids(10))
    session.rewind(5)
    assert len(list(session.generate(2, (), HOT))) == 2
    turn = session.turns[-1]
    assert (turn.fed, turn.computed, turn.sampled) == (5, 6, 2)
    session.feed(some_ids(8))
    session.logits()
    session.rewind(12)
    session.feed(some_ids(2))
    list(session.generate(1, (), HOT))
    assert (session.turns[-1].fed, session.recomputed) == (7, 0)  # 8 - 3 + 2


@pytest.mark.parametrize("path", ["", "file/below", "x" * 250, "null\0"])
def test_a_path_that_cannot_be_written(tiny_engine, tmp_path, path):
    (tmp_path / "file").touch()
    session = started(tiny_engine, [1, 2, 3])
    with pytest.raises(LonghandError) as error:
        session.save(tmp_path / path if path else path)
    assert "\n" not in str(error.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_an_empty_session(tiny_engine):
    session = tiny_engine.session()
    with pytest.raises(LonghandError, match="feed ids first"):
        session.generate()
    with pytest.raises(LonghandError, match="feed some first"):
        session.logits()
    session.rewind(0)
    session.feed([1, 2])
    session.logits()
    session.rewind(0)
    with pytest.raises(LonghandError, match="feed some first"):
        session.logits()
    session = tiny_engine.session()
    session.feed([])
    assert (session.ids, session.turns, session.recomputed) == ((), [], 0)


def test_ids_and_sources_are_read_only(tiny_engine):
    session = started(tiny_engine, [1, 2])
    assert isinstance(session.ids, tuple)
    assert isinstance(session.sources, tuple)
    before = session.logits()
    session.logits().fill_(0)
    assert torch.equal(session.logits(), before)


# Ids that the tokenizer does not define, and seeds (invariants 7 and 8)


def test_undefined_ids_are_never_sampled(qwq_engine):
    flat = SamplingParams(temperature=50.0, top_p=1.0, top_k=0)
    session = started(qwq_engine, qwq_engine.tokenizer.encode("<|im_start|>user\n"))
    sampled = [token.id for token in session.generate(150, (), flat)]
    assert len(sampled) == 150
    assert set(sampled) <= set(qwq_engine.tokenizer.defined)
    assert len(set(sampled)) > 80
    # The model itself likes the rows in between at least as much: 151,799 of 152,064 are undefined.
    assert not qwq_engine.defines(int(session.logits().argmax()))


def test_equal_seeds_give_equal_samples(tiny_engine):
    def run(seed):
        return [token.id for token in started(tiny_engine, some_ids(6), seed=seed).generate(12, (), HOT)]

    assert run(3) == run(3)
    assert len({tuple(run(seed)) for seed in range(5)}) == 5


def test_rewinding_draws_the_same_again(tiny_engine):
    session = started(tiny_engine, some_ids(6), seed=3)
    first = [token.id for token in session.generate(8, (), HOT)]
    session.rewind(9)
    assert [token.id for token in session.generate(5, (), HOT)] == first[3:]
    other = session.fork(seed=4)
    assert other.seed == 4
    assert [t.id for t in session.generate(8, (), HOT)] != [t.id for t in other.generate(8, (), HOT)]


# Saved sessions (invariant 4)


@pytest.fixture
def saved(tiny_engine, tmp_path):
    session = started(tiny_engine, some_ids(9), seed=77)
    list(session.generate(3, (), HOT))
    path = tmp_path / "saved.safetensors"
    session.save(path)
    return session, path


def test_restore_goes_on_with_the_same_ids(tiny_engine, saved):
    session, path = saved
    twin = tiny_engine.restore(str(path))
    assert (twin.seed, twin.pending) == (77, session.pending)
    assert list(twin.generate(6, (), HOT)) == list(session.generate(6, (), HOT))
    assert twin.ids == session.ids


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "model"),
        ({"eps": 1e-3}, "model"),
        ({"theta": 1e5}, "rope"),
        ({"yarn": {"factor": 2.0}}, "rope"),
        ({"quantization": "nf4"}, "quantization"),
        ({"tokenizer": "other"}, "tokenizer"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"kv_dtype": "bfloat16"}, "dtype"),
    ],
    ids=str,
)  # fmt: skip
def test_restore_refuses_another_engine(make_checkpoint, tokenizer_json, saved, changes, named):
    options = {name: changes[name] for name in ("quantization", "dtype", "kv_dtype") if name in changes}
    sizes = {name: value for name, value in changes.items() if name not in options}
    if "tokenizer" in changes:
        sizes["tokenizer"] = tokenizer_json("dense")
        sizes["tokenizer"]["added_tokens"].pop()
    other = Engine.from_pretrained(make_checkpoint(**sizes), device="cpu", **options)
    with pytest.raises(LonghandError) as error:
        other.restore(saved[1])
    assert named in str(error.value)
    assert str(saved[1]) in str(error.value)


def test_restore_takes_the_same_model_from_another_folder(make_checkpoint, saved):
    session, path = saved
    twin = Engine.from_pretrained(make_checkpoint(), device="cpu").restore(path)
    assert distance(twin.logits(), session.logits()) == 0


def test_restore_refuses_a_session_that_does_not_fit(tiny_folder, saved):
    small = Engine.from_pretrained(tiny_folder, device="cpu", max_context=10)
    with pytest.raises(LonghandError, match="12 ids do not fit in max_context 10"):
        small.restore(saved[1])


def edited(name, change):
    def damage(tensors, metadata):
        tensors[name] = change(tensors[name])

    return damage


DAMAGE = {
    "no ids": lambda tensors, metadata: tensors.pop("ids"),
    "no sources": lambda tensors, metadata: tensors.pop("sources"),
    "a layer less": lambda tensors, metadata: tensors.pop("values.1"),
    "another length": edited("keys.1", lambda t: t[:-1].clone()),
    "another shape": edited("values.0", lambda t: t.flatten(1)),
    "another dtype": edited("keys.0", lambda t: t.half()),
    "ids of another dtype": edited("ids", lambda t: t.int()),
    "fewer ids than sources": edited("ids", lambda t: t[:-1].clone()),
    "an undefined id": edited("ids", lambda t: t.index_fill(0, torch.tensor([2]), 505)),
    "a negative id": edited("ids", lambda t: t.index_fill(0, torch.tensor([2]), -2)),
    "a source that does not exist": edited("sources", lambda t: t.index_fill(0, torch.tensor([2]), 4)),
    "fewer ids than positions": lambda tensors, metadata: tensors.update(
        ids=tensors["ids"][:5].clone(), sources=tensors["sources"][:5].clone()
    ),
    "no seed": lambda tensors, metadata: metadata.pop("seed"),
    "everything cached and no logits": lambda tensors, metadata: tensors.update(
        ids=tensors["ids"][:11].clone(), sources=tensors["sources"][:11].clone()
    ),
    "logits of another shape": lambda tensors, metadata: tensors.update(logits=torch.zeros(7)),
    "another format": lambda tensors, metadata: metadata.update(format="longhand-session-0"),
    "no metadata": lambda tensors, metadata: metadata.clear(),
    "no model": lambda tensors, metadata: metadata.pop("model"),
    "negative sources": edited("sources", lambda t: t.long() - 1),
    "sources of another dtype": edited("sources", lambda t: t.float()),
    "an impossible seed": lambda tensors, metadata: metadata.update(seed=str(2**63)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_restore_refuses_damage(tiny_engine, saved, name):
    path = saved[1]
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    DAMAGE[name](tensors, metadata)
    path.unlink()
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(LonghandError, match=r"saved\.safetensors") as error:
        tiny_engine.restore(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, 7, 8, 100, 3000, -1])
def test_restore_refuses_a_cut_file(tiny_engine, saved, size):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(LonghandError, match=r"saved\.safetensors: not a readable safetensors file"):
        tiny_engine.restore(path)


def test_restore_of_what_is_no_session(tiny_engine, tiny_folder, tmp_path):
    with pytest.raises(LonghandError, match="no such file"):
        tiny_engine.restore(tmp_path / "nothing")
    with pytest.raises(LonghandError, match="not a Longhand session"):
        tiny_engine.restore(tiny_folder / "model.safetensors")
    with pytest.raises(LonghandError, match="not a readable"):
        tiny_engine.restore(tmp_path)


def test_a_save_that_fails_leaves_the_old_file(saved, monkeypatch, tmp_path):
    session, path = saved
    before = path.read_bytes()

    def half(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("longhand.engine.store.save_file", half)
    with pytest.raises(LonghandError, match="cannot be written"):
        session.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_to_nowhere(saved, tmp_path):
    for target in (tmp_path / "absent" / "x", tmp_path):
        with pytest.raises(LonghandError, match="cannot be written"):
            saved[0].save(target)


def test_a_restored_session_does_not_live_in_its_file(tiny_engine, saved):
    session, path = saved
    want = session.logits()
    session.save(path)
    twin = tiny_engine.restore(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    check(twin)
    assert torch.equal(twin.logits(), want)
