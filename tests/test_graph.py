"""Steps over tensors that stay where they are: the same ids and logits as the decoder gives, whatever is done to a
session. Nothing is captured here: the ops keep the function, as a graph would keep its launches."""

import inspect
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from longhand.engine import cache as cache_module
from longhand.engine import engine as engine_module
from longhand.engine import graph
from longhand.engine.engine import Engine
from longhand.engine.errors import LonghandError
from longhand.engine.sampler import Sampler, SamplingParams
from longhand.engine.session import SOURCES
from longhand.kernels import reference
from longhand.kernels.triton_graph import WARM_UPS, GraphRecorder

FLOAT32 = 1e-5  # of logits, keys and values of unit size, where ids are split otherwise: a step that was begun is one
GREEDY = SamplingParams(temperature=0)
PARAMS = (GREEDY, SamplingParams(), SamplingParams(temperature=1.5, top_p=1.0, top_k=0),
          SamplingParams(temperature=2.0, top_k=7, min_p=0.01),
          SamplingParams(presence_penalty=0.5, repetition_penalty=1.2))  # fmt: skip


class Recording:
    """The plain operations with blocks as one call; what is recorded is run as often as a capture runs it, then kept.

    `rows` counts the rows that went through the first layer; a block raises `error` at its `at`-th call."""

    def __init__(self):
        self.recorded = self.rows = self.calls = 0
        self.at, self.error, self.warm_ups, self.first = 0, None, WARM_UPS, None

    def __getattr__(self, name):
        return getattr(reference, name)

    def block(self, weights):
        block = Counted(self, weights)
        self.first = self.first or block
        return block

    def record(self, function):
        self.recorded += 1
        for _ in range(self.warm_ups):
            function()
        return function

    @contextmanager
    def failing(self, at, error):
        self.at, self.error = self.calls + at, error
        try:
            yield
        finally:
            self.error = None


class Counted(reference.PlainBlock):
    def __init__(self, ops, weights):
        super().__init__(weights)
        self.ops = ops

    def __call__(self, x, *rest):
        self.ops.calls += 1
        self.ops.rows += len(x) if self is self.ops.first else 0
        if self.ops.error is not None and self.ops.calls >= self.ops.at:
            raise self.ops.error
        return super().__call__(x, *rest)


@contextmanager
def kernels(ops):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "choose_ops", lambda device, quantized, kernels="auto": ops)
        yield


@pytest.fixture(scope="module")
def eager(tiny_folder):
    with kernels(reference):
        return Engine.from_pretrained(tiny_folder, device="cpu")


@pytest.fixture(scope="module")
def graphs(tiny_folder):
    with kernels(Recording()):
        return Engine.from_pretrained(tiny_folder, device="cpu")


@pytest.fixture(autouse=True)
def small_cache(monkeypatch):
    monkeypatch.setattr(cache_module, "STEP", 4)  # it grows every few ids


def some_ids(count, seed=0):
    return torch.randint(400, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


class Pair(RuleBasedStateMachine):
    """Two sessions to which the same is done: one forwards through graphs, one does not."""

    eager: Engine
    graphs: Engine
    folder = None

    def __init__(self):
        super().__init__()
        self.one, self.two = self.eager.session(3), self.graphs.session(3)
        self.others = []

    @rule(ids=st.lists(st.integers(0, 480), max_size=18), source=st.sampled_from(SOURCES))
    def feed(self, ids, source):
        for session in (self.one, self.two):
            session.feed(ids, source)

    @precondition(lambda self: self.one.ids)
    @rule()
    def logits(self):
        torch.testing.assert_close(self.one.logits(), self.two.logits(), rtol=0, atol=FLOAT32)

    @precondition(lambda self: self.one.ids)
    @rule(
        count=st.integers(0, 3) | st.just(9),
        abandon=st.none() | st.integers(1, 5),
        params=st.sampled_from(PARAMS),
        stop=st.sampled_from([None, (), range(0, 500, 3)]),
    )
    def generate(self, count, abandon, params, stop):
        found = []
        for session in (self.one, self.two):
            tokens = []
            for token in (generator := session.generate(count, stop, params)):
                assert session.pending == (token.id,)
                tokens.append(token)
                if len(tokens) == abandon:
                    generator.close()
            found.append((tokens, session.finish_reason))
        (one, reason), (two, their_reason) = found
        assert reason == their_reason
        for mine, theirs in zip(one, two, strict=True):
            assert mine.id == theirs.id
            assert abs(mine.logprob - theirs.logprob) <= FLOAT32

    @precondition(lambda self: self.one.ids)
    @rule(at=st.integers(1, 9), error=st.sampled_from([KeyboardInterrupt, RuntimeError]))
    def fail(self, at, error):
        with self.graphs.decoder.ops.failing(at, error("inside a block")), pytest.raises(error):
            list(self.two.generate(9, (), GREEDY))
        missing = len(self.two.ids) - len(self.one.ids)
        for _, _ in zip(range(missing), generator := self.one.generate(9, (), GREEDY), strict=False):
            pass
        generator.close()
        self.logits()  # also where the failed one had not come as far

    @rule(data=st.data())
    def rewind(self, data):
        n = data.draw(st.integers(0, len(self.one.ids)))
        for session in (self.one, self.two):
            session.rewind(n)

    @precondition(lambda self: len(self.others) < 3)
    @rule()
    def fork(self):
        self.others.append((self.one, self.two))
        self.one, self.two = self.one.fork(), self.two.fork()

    @precondition(lambda self: self.others)
    @rule()
    def back(self):
        """To the session that was left longest ago, so that graphs of several are in use."""
        self.others.append((self.one, self.two))
        self.one, self.two = self.others.pop(0)

    @rule()
    def restore(self):
        self.two.save(self.folder / "session.safetensors")
        self.two = self.graphs.restore(self.folder / "session.safetensors")

    @invariant()
    def equal(self):
        assert self.one.ids == self.two.ids
        assert self.one.sources == self.two.sources
        assert self.one.cached == self.two.cached
        assert self.one.recomputed == self.two.recomputed == 0
        for kind in ("keys", "values"):
            for mine, theirs in zip(getattr(self.one._cache, kind), getattr(self.two._cache, kind), strict=True):
                torch.testing.assert_close(mine[: self.one.cached], theirs[: self.one.cached], rtol=0, atol=FLOAT32)


def test_any_history(eager, graphs, tmp_path):
    class Machine(Pair):
        folder = tmp_path

    Machine.eager, Machine.graphs = eager, graphs
    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=16, deadline=None))


@pytest.mark.parametrize("cut", [1, 2, 3, 8, 15, 16, 17, 20])
def test_a_step_equals_the_decoder(eager, graphs, cut):
    ids = some_ids(20)
    for engine in (eager, graphs):
        session = engine.session()
        session.feed(ids[:cut])
        session.logits()
        session.feed(ids[cut:])
        found = session.logits()
        if engine is eager:
            want = found
    assert torch.equal(found, want)


def test_no_id_is_forwarded_twice(graphs):
    """Not by steps that are begun while the caller has a token in hand, and not when a generator is abandoned."""
    ops, session = graphs.decoder.ops, graphs.session()
    ops.rows, ops.warm_ups = 0, 0
    session.feed(some_ids(30))  # the prefill is no step: it goes by the block's twin in the decoder
    session.logits()
    before = session.cached
    for turn in range(4):
        for number, _ in enumerate(session.generate(12, (), GREEDY)):
            if number == 3 + turn:
                break
        session.feed(some_ids(turn, seed=turn))
        session.logits()
        assert ops.rows == session.cached - before == len(session) - before
    ops.warm_ups = WARM_UPS
    assert session.recomputed == 0


def with_a_step_begun(engine):
    """A session whose first pending id has been forwarded ahead, where the engine does that."""
    session = engine.session()
    session.feed(some_ids(9))
    generator = session.generate(9, (), GREEDY)
    taken = [next(generator).id for _ in range(3)]
    generator.close()
    assert (session._ahead is None) == (session._graphs is None)
    return session, taken


def test_a_rewind_forgets_the_step_that_was_begun(eager, graphs):
    found = []
    for engine in (eager, graphs):
        session, taken = with_a_step_begun(engine)
        session.rewind(5)
        logits = [session.logits()]
        session.feed([*some_ids(6, seed=2), taken[-1]])  # at the same position the same id, but behind others
        found.append((*logits, session.logits()))
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(want, got, rtol=0, atol=FLOAT32)


def test_a_fork_leaves_the_step_that_was_begun_to_its_parent(eager, graphs):
    found = []
    for engine in (eager, graphs):
        session, _ = with_a_step_begun(engine)
        twin = session.fork()
        twin.feed([7])
        found.append((twin.logits(), session.logits()))
    for want, got in zip(*found, strict=True):
        torch.testing.assert_close(want, got, rtol=0, atol=FLOAT32)


def test_steps_are_recorded_again_only_where_rows_moved(graphs, monkeypatch):
    monkeypatch.setattr(cache_module, "STEP", 64)
    ops, session = graphs.decoder.ops, graphs.session()
    session.feed(some_ids(30))
    session.logits()
    before = ops.recorded

    def generate(count):
        list(session.generate(count, (), GREEDY))
        return ops.recorded - before

    assert generate(20) == 2  # a step of one id, and a draw
    session.rewind(35)
    assert generate(10) == 2
    session.feed(some_ids(1))  # with the pending one, two
    assert generate(5) == 3
    assert generate(30) == 4  # beyond 64: other rows, of which only the step of one id is needed
    twin = session.fork()
    list(twin.generate(2, (), GREEDY))
    assert generate(2) > 4  # the twin's own
    list(session.generate(2, (), SamplingParams(top_k=5)))


def test_when_a_step_is_begun_while_the_caller_has_a_token(graphs):
    """Where it is recorded, the cache has room, and another id is wanted."""
    session = graphs.session()
    session.feed(some_ids(5))  # room for 8
    begun = [session._ahead is not None for _ in session.generate(4, (), GREEDY)]
    assert begun == [False, True, True, False]
    assert session._cache.capacity == 8
    begun = [session._ahead is not None for _ in session.generate(2, (), GREEDY)]  # the cache grows: recorded anew
    assert begun == [True, False]


def test_logits_stay_what_they_were(graphs):
    """Those that a session holds are not those that the next step, or another session, writes."""
    session, other = graphs.session(), graphs.session()
    session.feed([5])
    mine = session.logits()
    held = session.last_logits
    other.feed([9])
    other.logits()
    session.feed([6])
    session.logits()
    assert torch.equal(held, mine)
    assert not torch.equal(session.last_logits, mine)


def test_the_end_of_the_context(eager, graphs):
    found = []
    for engine in (eager, graphs):
        session = engine.session()
        session._cache.max_context = 12
        session.feed(some_ids(7))
        found.append([token.id for token in session.generate(99, (), GREEDY)])
        assert (session.finish_reason, len(session), session.pending) == ("context", 12, session.ids[11:])
    assert found[0] == found[1]


def test_where_there_are_no_graphs(tiny_folder, graphs, eager, monkeypatch):
    assert eager.session()._graphs is None
    assert isinstance(graphs.session()._graphs, graph.GraphDecoder)
    monkeypatch.setattr(Counted, "takes", lambda *_: False)
    assert graphs.session()._graphs is None
    with kernels(Recording()):
        engine = Engine.from_pretrained(tiny_folder, device="cpu", kv_dtype="int8")
    assert engine.session()._graphs is None


# Draws


class At(Sampler):
    def __init__(self, uniform, undefined):
        super().__init__(0, undefined)
        self.number = uniform

    def _uniform(self, position):
        return self.number


def drawer(undefined):
    made = object.__new__(graph.GraphDecoder)
    made.recorder, made.undefined, made._draws = Recording(), undefined, {}
    made._given, made._knobs = torch.empty(len(undefined)), torch.empty(4, dtype=torch.float64)
    made._drawn = torch.empty(2, dtype=torch.float64)
    return made


coarse = st.integers(-6, 6).map(lambda n: n / 2) | st.just(-0.0)  # with many ties, also of the two zeros
fine = st.floats(-30, 30, width=32)


@settings(max_examples=300)
@given(
    logits=st.lists(coarse, min_size=1, max_size=12) | st.lists(fine, min_size=1, max_size=12),
    top_k=st.integers(0, 14), temperature=st.sampled_from([0, 0.3, 0.6, 1.7]) | st.floats(0.05, 20),
    top_p=st.just(1.0) | st.floats(0.01, 1.0), min_p=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    uniform=st.floats(0, 1, exclude_max=True), data=st.data(),
)  # fmt: skip
def test_a_draw_equals_the_sampler(logits, top_k, temperature, top_p, min_p, uniform, data):
    undefined = ~torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(logits), max_size=len(logits))))
    assume(not undefined.all())
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    sampler, logits = At(uniform, undefined), torch.tensor(logits)
    made = drawer(undefined)
    for _ in range(2):  # recorded, then run again
        got = made.sample(sampler, logits, 0, params)
        assert (got is None) == (temperature != 0 and top_k == 0)
        assert got is None or got == sampler.sample(logits, 0, params, (), ())


def test_largest_is_a_stable_sort():
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(1)).bfloat16().float()  # with ties
    want = torch.sort(logits, descending=True, stable=True).indices
    assert len(set(logits[want[:40]].tolist())) < 40
    assert torch.equal(graph.largest(logits, 40), want[:40])
    assert torch.equal(graph.largest(logits, 5000), want)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(graphs, bad):
    session = graphs.session()
    session.feed([5, 6, 7])
    session.logits()
    session._logits = session._logits.clone()
    session._logits[100] = bad
    with pytest.raises(LonghandError, match="position 3 are not finite"):
        next(session.generate(1, (), GREEDY))


def test_what_only_the_sampler_does():
    made, sampler = drawer(torch.zeros(4, dtype=torch.bool)), Sampler(0, torch.zeros(4, dtype=torch.bool))
    for params in (SamplingParams(presence_penalty=1), SamplingParams(repetition_penalty=2), SamplingParams(top_k=0)):
        assert made.sample(sampler, torch.arange(4.0), 0, params) is None
    assert made.sample(sampler, torch.arange(4.0), 0, GREEDY)[0] == 3
    assert np.isclose(made.sample(sampler, torch.arange(4.0), 0, GREEDY)[1], -0.4401897)


# The capture itself, as far as it can be looked at without a GPU


def test_a_capture_calls_torch_as_torch_wants_it(monkeypatch):
    """In this order: warm up on the side stream, wait for it, capture there, into the one pool."""
    log, signature = [], inspect.signature(torch.cuda.graph.__init__)

    class Stream:
        def __init__(self, device):
            self.device = device

        def wait_stream(self, other):
            log.append(("wait", self, other))

    class Graph:
        def pool(self):
            return (0, 1)

        def replay(self):
            log.append("replay")

    @contextmanager
    def capture(*arguments, **options):
        bound = signature.bind(None, *arguments, **options).arguments
        log.append(("capture", bound["stream"], bound["pool"]))
        yield

    @contextmanager
    def stream(which):
        log.append(("on", which))
        yield
        log.append("off")

    here = Stream("cpu")
    for name, fake in {"Stream": Stream, "CUDAGraph": Graph, "graph": capture, "stream": stream,
                       "current_stream": lambda device: here}.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, fake)
    recorder = GraphRecorder(torch.device("cpu"))
    side = recorder.stream
    assert log == [("capture", side, None)]
    log.clear()
    recorder.record(lambda: log.append("run"))()
    runs = ["run"] * WARM_UPS
    assert log == [
        ("wait", side, here), ("on", side), *runs, "off", ("wait", here, side), ("capture", side, (0, 1)), "run",
        "replay",
    ]  # fmt: skip


def test_a_step_that_cannot_be_captured_is_run_as_it_is(caplog):
    class Refusing:
        def record(self, function):
            raise RuntimeError("operation not permitted")

    graphs = object.__new__(graph.GraphDecoder)
    graphs.recorder = Refusing()
    done = []
    graphs._record(lambda: done.append(1))()
    assert done == [1]
    assert "operation not permitted" in caplog.text
