"""The CPU kernels against the plain operations, at every instruction set that this machine has."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longhand import Engine, SamplingParams
from longhand.kernels import native_library, reference
from longhand.kernels.native_library import LEVELS, find_library, load_library
from longhand.kernels.native_ops import NativeOps
from longhand.kernels.weights import BlockWeights, FourBit, Int4, Tiles

pytestmark = pytest.mark.skipif(find_library() is None, reason="the library was not built: no compiler")
OPS = NativeOps(load_library(find_library()), reference) if find_library() else None
BEST = OPS.library.lh_level() if OPS else 0
FLOATS = (torch.float32, torch.bfloat16)


@pytest.fixture(params=range(BEST + 1), ids=lambda level: LEVELS[level])
def ops(request):
    assert OPS.library.lh_force(request.param) == request.param
    yield OPS
    OPS.library.lh_force(len(LEVELS))


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def four_bit(rows, columns, seed=0, kind="nf4", nested=False, block=64):
    generator = torch.Generator().manual_seed(seed)
    if kind == "int4":
        return Int4(
            torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8, generator=generator),
            (torch.rand(rows, columns // block, generator=generator) * 0.02).half(),
            torch.randint(0, 16, (rows, columns // block), dtype=torch.uint8, generator=generator),
            (rows, columns), block,
        )  # fmt: skip
    if kind == "nf4" and block == 64:
        return reference.quantize_nf4(torch.randn(rows, columns, generator=generator) * 0.05, nested)
    packed = torch.randint(0, 256, (rows * columns // 2,), dtype=torch.uint8, generator=generator)
    absmax = torch.rand(rows * columns // block, generator=generator) * 0.1
    weight = FourBit(packed, absmax, (rows, columns), kind, block)
    return reference.nest(weight) if nested else weight


FORMS = [
    {"kind": "nf4"}, {"kind": "nf4", "nested": True}, {"kind": "fp4"}, {"kind": "fp4", "nested": True, "block": 128},
    {"kind": "int4", "block": 128}, {"kind": "int4", "block": 32},
]  # fmt: skip
SHAPES = [(1, 128), (40, 128), (64, 256), (129, 384), (200, 640)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_dequantized_weights_are_bit_equal(ops, form, shape):
    weight = four_bit(*shape, **form)
    tiles = ops.pack(weight)
    assert isinstance(tiles, Tiles)
    for dtype in (*FLOATS, torch.float16):
        want = reference.dequantize(weight, dtype)
        assert torch.equal(ops.dequantize(tiles, dtype), want)
        assert torch.equal(reference.dequantize(tiles, dtype), want)


def bound(x, weight, dtype):
    """What rounding may cost at most: every product's inputs to dtype, and the sums in float32."""
    sizes = x.double().abs() @ weight.double().abs().T
    return sizes * (2**-20 if dtype is torch.float32 else 2**-8 + 2**-16) + 1e-30


@pytest.mark.parametrize("dtype", [*FLOATS, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_products_with_four_bits(ops, form, shape, dtype):
    weight = four_bit(*shape, **form)
    exact = reference.dequantize(weight, torch.float32).double()
    if form["kind"] == "int4":  # the zero point is taken off behind the sum
        size = (weight.scales.double()[..., None] * 31).expand(-1, -1, weight.group).reshape(shape)
    else:
        size = exact
    x, bias = torch.randn(19, shape[1], generator=torch.Generator().manual_seed(1)).to(dtype), torch.randn(shape[0])
    got = ops.quantized_linear(x, ops.pack(weight), bias).double()
    want = x.double() @ exact.T + bias.double()
    last = want.abs() * (2**-23 if dtype is torch.float32 else 2**-9 if dtype is torch.bfloat16 else 2**-11)
    assert ((got - want).abs() <= bound(x, size, dtype if dtype in FLOATS else torch.float32) + 2 * last + 1e-5).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("form", FORMS)
def test_a_row_is_the_same_whatever_is_beside_it_and_whoever_computes_it(ops, threads, form, dtype):
    tiles = ops.pack(four_bit(200, 384, **form))
    x = torch.randn(150, 384).to(dtype)
    threads(1)
    alone = torch.cat([ops.quantized_linear(row, tiles) for row in x.split(1)])
    for size in (2, 3, 7, 16, 150):
        assert torch.equal(torch.cat([ops.quantized_linear(rows, tiles) for rows in x.split(size)]), alone)
    for count in (2, 3):
        threads(count)
        assert torch.equal(ops.quantized_linear(x, tiles), alone)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (70, 33), (130, 64)])
def test_products_with_dense_weights(ops, threads, dtype, kind, shape):
    weight, x, bias = torch.randn(shape).to(kind), torch.randn(11, shape[1]).to(dtype), torch.randn(shape[0])
    got = ops.linear(x, weight, bias)
    want = x.double() @ weight.double().T + bias.double()
    rounding = want.abs() * (2**-8 if dtype is torch.bfloat16 else 0)
    assert ((got.double() - want).abs() <= bound(x, weight, torch.float32) + rounding + 1e-6).all()
    threads(1)
    assert torch.equal(torch.cat([ops.linear(row, weight, bias) for row in x.split(1)]), got)


def test_what_the_library_cannot_hold_goes_the_plain_way(ops):
    uneven = reference.quantize_nf4(torch.randn(6, 40))  # blocks run over the ends of rows
    assert ops.pack(uneven) is uneven
    x = torch.randn(3, 40)
    assert torch.equal(ops.quantized_linear(x, uneven), reference.quantized_linear(x, uneven))
    assert torch.equal(ops.dequantize(uneven, torch.float32), reference.dequantize(uneven, torch.float32))


@pytest.mark.parametrize(
    ("dtype", "kv_dtype"), [(a, b) for a in FLOATS for b in FLOATS], ids=lambda dtype: str(dtype)[6:]
)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width"), [(14, 2, 64), (10, 2, 128), (4, 4, 32), (6, 1, 48), (40, 1, 16)]
)
@pytest.mark.parametrize(("new", "positions"), [(1, 1), (1, 257), (5, 70), (16, 600), (40, 333), (65, 65)])
def test_attention(ops, threads, dtype, kv_dtype, heads, kv_heads, width, new, positions):
    torch.manual_seed(new + positions)
    q = torch.randn(new, heads, width).to(dtype)
    k, v = (torch.randn(positions, kv_heads, width).to(kv_dtype) for _ in range(2))
    got = ops.attention(q, k, v)
    want = reference.attention(q.float(), k.float(), v.float())
    # In bfloat16 weights (at most 1 in all) and outcome are rounded, both by 2**-9 of values of at most some 4.
    assert (got.float() - want).abs().max() < (2e-5 if dtype is torch.float32 else 2.5e-2)
    threads(1)
    seen = positions - new + 1
    alone = [ops.attention(q[i : i + 1], k[: seen + i], v[: seen + i]) for i in range(0, new, 7)]
    assert torch.equal(torch.cat(alone), got[::7])
    threads(3)
    assert torch.equal(ops.attention(q, k, v), got)


@pytest.mark.parametrize("dtype", FLOATS)
def test_attention_of_large_scores_and_of_what_is_not_finite(ops, dtype):
    q, k, v = (torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(i)) for i in range(3))
    q, k, v = (q * 300).to(dtype), k.repeat(100, 1, 1).to(dtype), v.repeat(100, 1, 1).to(dtype)
    want = reference.attention(q.float(), k.float(), v.float())
    assert (ops.attention(q, k, v).float() - want).abs().max() < (1e-3 if dtype is torch.float32 else 5e-2)
    v[200, 0] = float("nan")
    got = ops.attention(q, k, v)
    assert got[:, 0].isnan().any()
    assert not got[:, 1].isnan().any()
    q[1, 1, 3] = float("nan")
    got = ops.attention(q, k, v)
    assert got[1, 1].isnan().all()
    assert not got[0, 1].isnan().any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_row_that_is_not_finite_stays_one(ops, dtype):
    tiles, x = ops.pack(four_bit(70, 128)), torch.randn(9, 128).to(dtype)
    clean = ops.quantized_linear(x, tiles)
    x[4, 7] = float("inf")
    x[6, 9] = float("nan")
    got = ops.quantized_linear(x, tiles)
    rest = [0, 1, 2, 3, 5, 7, 8]
    assert torch.equal(got[rest], clean[rest])
    assert not got[[4, 6]].isfinite().all(-1).any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 15, 16, 100])
def test_small_operations(ops, dtype, size):
    torch.manual_seed(size)
    x, gate = torch.randn(5, size).to(dtype) * 3, torch.randn(5, size).to(dtype) * 20
    weight = torch.randn(size).to(dtype)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 2**-6, "atol": 1e-3}
    assert torch.allclose(ops.rms_norm(x, weight, 1e-6), reference.rms_norm(x, weight, 1e-6), **close)
    assert torch.allclose(ops.swiglu(gate, x), reference.swiglu(gate, x), **close)
    heads, angles = torch.randn(5, 3, 2 * size).to(dtype), torch.randn(5, size)
    want = reference.rope(heads, angles.cos(), angles.sin())
    assert torch.allclose(ops.rope(heads, angles.cos(), angles.sin()), want, **close)
    extreme = torch.tensor([[-200.0, -90, 0, 90, 200, float("nan")]]).to(dtype)
    got, want = (kind.swiglu(extreme, torch.ones_like(extreme)) for kind in (ops, reference))
    assert torch.allclose(got, want, **close, equal_nan=True)


# --- the whole block, in an engine -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(make_checkpoint):
    return make_checkpoint(dtype=torch.bfloat16, hidden=128, intermediate=192, head_dim=32, layers=3)


def engine_of(folder, monkeypatch=None, **options):
    if monkeypatch is not None:
        monkeypatch.setattr("longhand.kernels.native_library.find_library", lambda: None)
    return Engine.from_pretrained(folder, device="cpu", **options)


def logits(engine, ids, pieces):
    session, found = engine.session(), []
    for start, stop in zip([0, *pieces], [*pieces, len(ids)], strict=True):
        session.feed(ids[start:stop])
        found.append(session.logits())
    assert session.recomputed == 0
    return found


@pytest.mark.parametrize("options", [
    {"quantization": "nf4", "dtype": "float32"}, {"quantization": "nf4", "dtype": "bfloat16"},
    {"quantization": "nf4", "double_quant": True, "dtype": "float32", "kv_dtype": "bfloat16"},
    {"quantization": "nf4", "dtype": "bfloat16", "kv_dtype": "float32"},
    {"quantization": "nf4", "dtype": "bfloat16", "kv_dtype": "int8"},
    {"quantization": None, "dtype": "float32"}, {"quantization": None, "dtype": "bfloat16"},
])  # fmt: skip
def test_an_engine_agrees_with_the_plain_one(folder, monkeypatch, options):
    ids = [5 + i * 7 % 200 for i in range(60)]
    fast = engine_of(folder, **options)
    assert fast.decoder.model.layers[0].whole is not None
    got = torch.stack(logits(fast, ids, [3, 4, 20, 59]))
    want = torch.stack(logits(engine_of(folder, monkeypatch, **options), ids, [3, 4, 20, 59]))
    wide = options["dtype"] == "float32" and options.get("kv_dtype") != "bfloat16"
    assert (got - want).abs().max() < (1e-4 if wide else 0.06 * want.abs().max())


def test_a_block_of_mixed_weights(folder, ops):
    """Sums over groups, which int4 takes, are made once for the weights that share inputs."""
    block = engine_of(folder, dtype="float32", quantization=None).decoder.model.layers[0]
    linears = [part.parts for part in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj,
                                       block.self_attn.o_proj, block.mlp.gate_proj, block.mlp.up_proj,
                                       block.mlp.down_proj)]  # fmt: skip

    def made(*forms):
        weights = [
            (weight if form is None else ops.pack(four_bit(*weight.shape, **form)), bias)
            for (weight, bias), form in zip(linears, forms, strict=True)
        ]
        norms = (block.input_layernorm.weight, block.post_attention_layernorm.weight)
        c = block.config
        return ops.block(BlockWeights(tuple(weights), norms, 1e-6, c.num_heads, c.num_kv_heads, c.head_dim))

    nf4, wide, narrow = {"kind": "nf4"}, {"kind": "int4", "block": 64}, {"kind": "int4", "block": 32}
    assert made(*[nf4] * 7) is not None
    assert made(*[wide] * 7) is not None
    assert made(None, *[nf4] * 6) is not None
    assert made(nf4, *[wide] * 6) is None
    assert made(None, *[wide] * 6) is None
    assert made(narrow, *[wide] * 6) is None


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_four_bit_engines_give_the_same_bits_however_ids_are_split(engines, data):
    engine = engines[data.draw(st.sampled_from(sorted(engines)))]
    ids = data.draw(st.lists(st.integers(0, 200), min_size=2, max_size=80))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ids) - 1), max_size=4)))
    assert torch.equal(logits(engine, ids, cuts)[-1], logits(engine, ids, [])[-1])


@pytest.fixture(scope="module")
def engines(folder):
    return {dtype: engine_of(folder, quantization="nf4", dtype=dtype, head="nf4") for dtype in ("float32", "bfloat16")}


def test_sampling_is_the_same_with_any_number_of_threads(engines, threads):
    for engine in engines.values():
        runs = []
        for count in (1, 2, 3):
            threads(count)
            session = engine.session(seed=4)
            session.feed(range(20, 60))
            runs.append([token.id for token in session.generate(30, stop=(), sampling=SamplingParams())])
        assert runs[0] == runs[1] == runs[2]


def test_the_threads_of_a_torch_in_a_path_with_spaces(tmp_path, monkeypatch):
    lines = Path("/proc/self/maps").read_text().splitlines()
    real = [line.split(maxsplit=5)[5] for line in lines if "omp" in line.rpartition("/")[2]]
    place = tmp_path / "a b"
    place.mkdir()
    (place / "libgomp.so.1").symlink_to(real[0])
    gone = f"7f00-7f01 r-xp 00000000 fe:00 12    {tmp_path}/libgomp-1.so (deleted)\n7f02-7f03 rw-p 00000000 00:00 0\n"
    maps = f"{gone}7f04-7f05 r-xp 00000000 fe:00 13    {place}/libgomp.so.1\n"
    with monkeypatch.context() as patch:
        patch.setattr(native_library.Path, "read_text", lambda path: maps)
        assert native_library._openmp().GOMP_parallel
        patch.setattr(native_library.Path, "read_text", lambda path: gone)
        assert native_library._openmp() is None  # one thread is better than none
