"""The sampler against a slow plain oracle: which ids may come, how often, and with which log-probability."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from longhand.engine.errors import LonghandError
from longhand.engine.sampler import Sampler, SamplingParams

ALL = SamplingParams(temperature=1.0, top_p=1.0, top_k=0)  # no cuts
EDGE = 1e-9  # a threshold closer than this is decided by rounding


class At(Sampler):
    """A sampler whose random number is given."""

    def __init__(self, uniform, undefined):
        super().__init__(0, undefined)
        self.uniform = uniform

    def _uniform(self, position):
        return self.uniform


def oracle_scores(logits, defined, params, ids=(), sampled=()):
    """Penalized scores of the defined ids, {id: score}."""
    scores = {i: np.float32(logits[i]) for i in range(len(logits)) if defined[i]}
    for i in set(ids) & scores.keys():
        penalty = np.float32(params.repetition_penalty)
        scores[i] = scores[i] / penalty if scores[i] > 0 else scores[i] * penalty
    for i in set(sampled) & scores.keys():
        scores[i] = scores[i] - np.float32(params.presence_penalty)
    return {i: float(score) for i, score in scores.items()}


def oracle(logits, defined, params, ids=(), sampled=()):
    """[(id, probability)] in the order of the draw; None where rounding decides what is kept."""
    scores = oracle_scores(logits, defined, params, ids, sampled)
    order = sorted(scores, key=lambda i: (-scores[i], i))
    if params.temperature == 0:
        return [(order[0], 1.0)]
    order = order[: params.top_k] if params.top_k else order
    weights = [math.exp((scores[i] - scores[order[0]]) / params.temperature) for i in order]
    probabilities = [weight / math.fsum(weights) for weight in weights]
    kept, before = [], 0.0
    for i, p in zip(order, probabilities, strict=True):
        for value, threshold in ((before, params.top_p), (p, params.min_p * probabilities[0])):
            if kept and abs(value - threshold) < EDGE and threshold not in (0, 1):
                return None
        if kept and (before >= params.top_p or p < params.min_p * probabilities[0] or p == 0):
            break
        kept.append((i, p))
        before += p
    total = math.fsum(p for _, p in kept)
    return [(i, p / total) for i, p in kept]


coarse = st.integers(-6, 6).map(lambda n: n / 2)  # with many ties
fine = st.floats(-30, 30, width=32)
probability = st.just(1.0) | st.floats(0.01, 1.0)


@st.composite
def cases(draw):
    logits = draw(st.lists(coarse, min_size=1, max_size=12) | st.lists(fine, min_size=1, max_size=12))
    n = len(logits)
    defined = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    assume(any(defined))
    params = SamplingParams(
        temperature=draw(st.sampled_from([0, 0.3, 0.6, 1.0, 1.7]) | st.floats(0.05, 20)),
        top_p=draw(probability),
        top_k=draw(st.integers(0, 14)),
        min_p=draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]) | st.floats(0, 1)),
        presence_penalty=draw(st.sampled_from([0.0, 0.5, 1.5, -1.0])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.25, 2.0, 0.5])),
    )
    ids = draw(st.lists(st.integers(0, n - 1), max_size=6))
    sampled = draw(st.lists(st.sampled_from(ids), max_size=4)) if ids else []
    return logits, defined, params, ids, sampled


@settings(max_examples=400)
@given(cases(), st.floats(0, 1, exclude_max=True))
def test_equals_the_oracle(case, uniform):
    logits, defined, params, ids, sampled = case
    want = oracle(*case)
    assume(want is not None)
    chosen, reached = want[-1][0], 0.0
    for i, p in want:
        reached += p
        assume(abs(reached - uniform) > EDGE or i == want[-1][0])
        if uniform < reached:
            chosen = i
            break
    got, logprob = At(uniform, ~torch.tensor(defined)).sample(torch.tensor(logits), 0, params, ids, sampled)
    assert got == chosen
    # The model's own log-probability: before penalties, temperature and cuts.
    open_logits = [x for x, ok in zip(logits, defined, strict=True) if ok]
    peak = max(open_logits)
    exact = logits[got] - peak - math.log(math.fsum(math.exp(x - peak) for x in open_logits))
    assert logprob == pytest.approx(exact, abs=1e-5)


@given(st.lists(coarse, min_size=2, max_size=12), st.data())
def test_greedy_is_the_first_of_the_largest(logits, data):
    undefined = torch.zeros(len(logits), dtype=torch.bool)
    undefined[data.draw(st.integers(0, len(logits) - 1))] = True
    got, _ = Sampler(3, undefined).sample(torch.tensor(logits), 7, SamplingParams(temperature=0), (), ())
    assert got == min((i for i in range(len(logits)) if not undefined[i]), key=lambda i: (-logits[i], i))


FREQUENCIES = {
    "no cuts": ALL,
    "temperature": SamplingParams(temperature=0.5, top_p=1.0, top_k=0),
    "top-k": SamplingParams(temperature=1.0, top_p=1.0, top_k=3),
    "top-p": SamplingParams(temperature=1.0, top_p=0.7, top_k=0),
    "min-p": SamplingParams(temperature=1.0, top_p=1.0, top_k=0, min_p=0.2),
    "the model card's": SamplingParams(),
}


@pytest.mark.parametrize("over", ["seeds", "positions"])
@pytest.mark.parametrize("name", FREQUENCIES)
def test_frequencies(name, over):
    params, draws = FREQUENCIES[name], 3000
    logits = torch.tensor([1.0, 0.5, -1.0, 2.0, 2.0, 9.0, 0.0, -3.0])
    undefined = torch.zeros(8, dtype=torch.bool)
    undefined[5] = True
    counts = dict.fromkeys(range(8), 0)
    for n in range(draws):
        seed, position = (n, 11) if over == "seeds" else (11, n)
        got, _ = Sampler(seed, undefined).sample(logits, position, params, (), ())
        counts[got] += 1
    want = dict(oracle(logits.tolist(), (~undefined).tolist(), params))
    for i, count in counts.items():
        p = want.get(i, 0.0)  # an id that is cut must not come once
        assert abs(count - draws * p) <= 4.5 * math.sqrt(draws * p * (1 - p))


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_a_draw_depends_on_seed_and_position_only(seed, position):
    logits = torch.linspace(-1, 1, 64)
    undefined = torch.zeros(64, dtype=torch.bool)
    first = Sampler(seed, undefined)
    want = first.sample(logits, position, ALL, (), ())
    for other in range(5):
        first.sample(logits, other, ALL, (), ())
    torch.manual_seed(seed % 1000)
    np.random.seed(seed % 1000)  # hidden global state must not matter
    assert first.sample(logits, position, ALL, (), ()) == want
    assert Sampler(seed, undefined).sample(logits, position, ALL, (), ()) == want


def test_neighbouring_seeds_and_positions_are_independent():
    undefined = torch.zeros(2, dtype=torch.bool)
    grid = np.array([[Sampler(seed, undefined)._uniform(position) for position in range(40)] for seed in range(40)])
    assert len(np.unique(grid)) == 1600
    assert abs(grid.mean() - 0.5) < 0.03
    for axis in (0, 1):
        a, b = np.delete(grid, -1, axis), np.delete(grid, 0, axis)
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("bad", [math.inf, math.nan, 1e30])
@pytest.mark.parametrize("temperature", [0.0, 0.6, 100.0])
def test_undefined_ids_never_come(bad, temperature):
    logits = torch.full((1000,), bad)
    undefined = torch.ones(1000, dtype=torch.bool)
    defined = [3, 500, 999]
    undefined[defined] = False
    logits[defined] = torch.tensor([0.0, 0.1, -0.1])
    params = SamplingParams(temperature=temperature, top_p=1.0, top_k=0, repetition_penalty=0.5, presence_penalty=-9.0)
    for position in range(60):
        got, logprob = Sampler(1, undefined).sample(logits, position, params, [0, 3, 7], [0, 7])
        assert got in defined
        assert -1.3 < logprob < -0.9


def test_ids_of_no_probability_never_come():
    logits = torch.tensor([-math.inf, 0.0, -math.inf, -2000.0])
    undefined = torch.zeros(4, dtype=torch.bool)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        assert At(uniform, undefined).sample(logits, 0, ALL, (), ()) == (1, 0.0)


@pytest.mark.parametrize("where", [0, 5])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(bad, where, temperature):
    logits = torch.zeros(6)
    logits[where] = bad
    with pytest.raises(LonghandError, match="position 17 are not finite"):
        Sampler(0, torch.zeros(6, dtype=torch.bool)).sample(logits, 17, SamplingParams(temperature), (), ())
    with pytest.raises(LonghandError, match="not finite"):
        Sampler(0, torch.zeros(6, dtype=torch.bool)).sample(torch.full((6,), -math.inf), 17, ALL, (), ())


def test_the_logits_are_left_alone():
    logits = torch.tensor([1.0, 2.0, 3.0, 0.0])
    undefined = torch.tensor([False, False, True, False])
    params = SamplingParams(repetition_penalty=2.0, presence_penalty=1.0)
    Sampler(0, undefined).sample(logits, 0, params, [0, 1], [1])
    assert logits.tolist() == [1.0, 2.0, 3.0, 0.0]


# Penalties, by hand


def greedy(logits, ids=(), sampled=(), **penalties):
    undefined = torch.zeros(len(logits), dtype=torch.bool)
    return Sampler(0, undefined).sample(torch.tensor(logits), 0, SamplingParams(0, **penalties), ids, sampled)


def test_repetition_penalty():
    assert greedy([3.0, 2.0], [0], repetition_penalty=1.4)[0] == 0  # 2.14 > 2
    assert greedy([3.0, 2.0], [0, 0, 0], repetition_penalty=1.4)[0] == 0  # once, however often it was seen
    assert greedy([3.0, 2.0], [0], repetition_penalty=1.6)[0] == 1  # 1.875 < 2
    assert greedy([-1.0, -1.5], [0], repetition_penalty=1.6)[0] == 1  # -1.6 < -1.5
    assert greedy([3.0, 2.0], [], repetition_penalty=9.0)[0] == 0
    assert greedy([3.0, 2.0], [1], repetition_penalty=0.5)[0] == 1


def test_presence_penalty():
    assert greedy([3.0, 2.0], [0], [0], presence_penalty=0.9)[0] == 0
    assert greedy([3.0, 2.0], [0, 0], [0, 0], presence_penalty=0.9)[0] == 0
    assert greedy([3.0, 2.0], [0], [0], presence_penalty=1.1)[0] == 1
    assert greedy([3.0, 2.0], [0], [], presence_penalty=9.0)[0] == 0  # seen, but not sampled
    assert greedy([3.0, 2.0], [0], [0], presence_penalty=2)[0] == 1  # a whole number
    assert greedy([3.0, 2.0], [0], [0], presence_penalty=1e9)[0] == 1


def test_logprob_is_the_models_own():
    want = float(torch.tensor([3.0, 2.0]).log_softmax(-1)[1])
    assert greedy([3.0, 2.0], [0], [0], presence_penalty=50.0) == (1, pytest.approx(want))


# Refusals


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf), ("temperature", "0.6"),
        ("temperature", None), ("temperature", True), ("top_p", 0), ("top_p", 1.01), ("top_p", -1),
        ("top_p", math.nan), ("top_k", -1), ("top_k", 1.5), ("top_k", None), ("top_k", True), ("min_p", -0.1),
        ("min_p", 1.1), ("min_p", "x"), ("presence_penalty", math.inf), ("presence_penalty", 1e300),
        ("temperature", 10**400), ("presence_penalty", "0"),
        ("repetition_penalty", 0), ("repetition_penalty", -1), ("repetition_penalty", math.nan),
    ],
)  # fmt: skip
def test_bad_params(field, value):
    with pytest.raises(LonghandError, match=f"sampling: {field} must be") as error:
        SamplingParams(**{field: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "7", None, True])
def test_bad_seeds(seed):
    with pytest.raises(LonghandError, match="seed must be"):
        Sampler(seed, torch.zeros(3, dtype=torch.bool))


def test_params_are_frozen_and_default_to_the_model_cards():
    params = SamplingParams()
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.6, 0.95, 40, 0.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.top_k = 3
