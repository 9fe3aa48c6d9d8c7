"""Each reference operation against float64 or an independent formula; NF4 against bitsandbytes, bit for bit."""

import itertools
import math
from pathlib import Path

import bitsandbytes
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from longhand.kernels import bitsandbytes_ops, dispatch, native_library, native_ops, reference
from longhand.kernels.reference import TABLES
from longhand.kernels.weights import BLOCK, FourBit, Int4, Nested

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
EPS = {torch.float32: 2**-23, torch.bfloat16: 2**-7, torch.float16: 2**-10}  # one unit in the last place at 1


def randn(*size, seed=0, dtype=torch.float32, scale=1.0):
    return (torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def close(got, want, dtype, roundings):
    """Within so many half units in the last place, of the value itself or of a typical value near zero."""
    want = want.double()
    size = want.abs().clamp(min=float(want.square().mean().sqrt()) / 4)
    return got.dtype == dtype and bool(((got.double() - want).abs() <= roundings * EPS[dtype] / 2 * size).all())


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 5, 33), (4, 128), (129,)])
def test_rms_norm(shape, dtype):
    x, weight = randn(*shape, dtype=dtype, scale=3.0), randn(shape[-1], seed=1, dtype=dtype)
    wide = x.double()
    want = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert close(reference.rms_norm(x, weight, 1e-5), want, dtype, 8 if dtype is torch.float32 else 3)


def test_rms_norm_of_zeros_and_of_large_values():
    assert torch.equal(reference.rms_norm(torch.zeros(2, 5), torch.ones(5), 1e-6), torch.zeros(2, 5))
    large = torch.full((1, 64), 6e4, dtype=torch.float16)  # its square overflows float16
    assert torch.equal(reference.rms_norm(large, torch.ones(64, dtype=torch.float16), 1e-6), torch.ones_like(large))


def test_rms_norm_keeps_a_bad_row_to_itself():
    x = randn(3, 8)
    x[1, 2] = math.nan
    out = reference.rms_norm(x, torch.ones(8), 1e-6)
    assert out[1].isnan().all()
    assert out[[0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("positions", "heads", "width"), [(1, 1, 2), (5, 3, 6), (7, 2, 128)])
def test_rope_is_a_complex_rotation(positions, heads, width, dtype):
    x = randn(2, positions, heads, width, dtype=dtype)
    angles = randn(positions, width // 2, seed=1).double() * 50
    pairs = torch.complex(x[..., : width // 2].double(), x[..., width // 2 :].double())
    turned = pairs * torch.polar(torch.ones_like(angles), angles)[:, None]
    got = reference.rope(x, angles.cos().float(), angles.sin().float())
    assert close(got, torch.cat((turned.real, turned.imag), -1), dtype, 8 if dtype is torch.float32 else 2)


def slow_attention(q, k, v):
    """One query, one head at a time, in float64: q [T, H, D], k and v [S, KV, D]."""
    (queries, heads, width), (keys, kv_heads, _) = q.shape, k.shape
    out = torch.empty(queries, heads, width, dtype=torch.float64)
    for t in range(queries):
        seen = keys - queries + t + 1
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = (k[:seen, group].double() @ q[t, head].double()) / math.sqrt(width)
            out[t, head] = torch.softmax(scores, 0) @ v[:seen, group].double()
    return out


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("queries", "keys", "heads", "kv_heads", "width"),
    [(1, 1, 1, 1, 2), (1, 9, 4, 2, 8), (5, 5, 6, 2, 10), (3, 8, 5, 1, 64), (7, 33, 8, 8, 32), (2, 65, 10, 2, 128)],
)
def test_attention(queries, keys, heads, kv_heads, width, dtype):
    q = randn(queries, heads, width, dtype=dtype, scale=2.0)
    k, v = (randn(keys, kv_heads, width, seed=seed, dtype=dtype) for seed in (1, 2))
    # In float32 the error of a score (a sum of `width` products of size 2) is what the softmax magnifies.
    roundings = 1000 if dtype is torch.float32 else 2
    assert close(reference.attention(q, k, v), slow_attention(q, k, v), dtype, roundings)


def test_attention_takes_batch_dimensions():
    q, k, v = randn(2, 3, 4, 6, 8), randn(2, 3, 9, 2, 8, seed=1), randn(2, 3, 9, 2, 8, seed=2)
    whole = reference.attention(q, k, v)
    for i in range(2):
        for j in range(3):
            assert torch.allclose(whole[i, j], reference.attention(q[i, j], k[i, j], v[i, j]), atol=1e-6)


@given(keys=st.integers(1, 12), data=st.data())
def test_the_mask_is_aligned_to_the_bottom_right(keys, data):
    queries = data.draw(st.integers(1, keys))
    mask = reference.causal_mask(queries, keys, torch.device("cpu"))
    assert [row.sum() for row in mask] == [keys - queries + 1 + t for t in range(queries)]
    assert mask[-1].all()
    assert torch.equal(mask, reference.causal_mask(keys, keys, torch.device("cpu"))[-queries:])


@given(keys=st.integers(2, 12), data=st.data())
def test_a_query_sees_nothing_behind_itself(keys, data):
    queries = data.draw(st.integers(1, keys))
    row = data.draw(st.integers(0, queries - 1))
    q, k, v = randn(queries, 4, 6), randn(keys, 2, 6, seed=1), randn(keys, 2, 6, seed=2)
    before = reference.attention(q, k, v)[row]
    k[keys - queries + row + 1 :] = 1e4
    v[keys - queries + row + 1 :] = -1e4
    assert torch.equal(reference.attention(q, k, v)[row], before)
    v[keys - queries + row] += 1  # the id's own value does count
    assert not torch.equal(reference.attention(q, k, v)[row], before)


def test_attention_over_very_large_scores_is_finite():
    q, k, v = randn(2, 2, 8) * 1e4, randn(5, 2, 8, seed=1), randn(5, 2, 8, seed=2)
    assert reference.attention(q, k, v).isfinite().all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_swiglu(dtype):
    gate, up = randn(3, 37, dtype=dtype, scale=4.0), randn(3, 37, seed=1, dtype=dtype)
    want = gate.double() / (1 + torch.exp(-gate.double())) * up.double()
    assert close(reference.swiglu(gate, up), want, dtype, 8 if dtype is torch.float32 else 3)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias, dtype):
    x, weight = randn(3, 5, 33, dtype=dtype), randn(7, 33, seed=1, dtype=dtype)
    b = randn(7, seed=2, dtype=dtype) if bias else None
    want = torch.einsum("abk,nk->abn", x.double(), weight.double()) + (b.double() if bias else 0)
    assert close(reference.linear(x, weight, b), want, dtype, 64 if dtype is torch.float32 else 4)


# NF4


def bnb_quantize(weight):
    packed, state = bitsandbytes.functional.quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4")
    return packed.view(-1), state.absmax


def at_the_bounds():
    """Blocks whose scaled values are exactly the midpoints between NF4 values, and their float neighbours."""
    values = torch.tensor(TABLES["nf4"])
    bounds = (values[1:] + values[:-1]) / 2
    inf = torch.full_like(bounds, math.inf)
    near = torch.cat((bounds, torch.nextafter(bounds, inf), torch.nextafter(bounds, -inf), values))
    block = torch.cat((near, torch.ones(BLOCK - len(near) % BLOCK)))  # absmax 1: scaling changes nothing
    return torch.cat((block, block * 4, block * 2**-20)).view(3, -1)


WEIGHTS = {
    "random": randn(96, 128),
    "wide range": randn(64, 64) * torch.logspace(-6, 6, 64)[:, None],
    "zeros": torch.zeros(4, 64),
    "a zero block between others": torch.cat((randn(64), torch.zeros(64), randn(64, seed=1))).view(3, 64),
    "constant blocks": torch.tensor([1.0, -1.0, 3.3, -0.1]).repeat_interleave(64).view(4, 64),
    "one large value": torch.cat((torch.tensor([1e4]), randn(127, scale=1e-3))).view(2, 64),
    "short last block": randn(5, 22),
    "short last block of zeros": torch.cat((randn(64), torch.zeros(6))).view(7, 10),
    "less than a block": randn(2, 3),
    "bin bounds": at_the_bounds(),
    "very small": randn(4, 64) * 1e-39,
    "small": randn(4, 64) * 1e-36,
    "rows not a multiple of a block": randn(12, 40),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", WEIGHTS)
def test_quantize_equals_bitsandbytes(name, dtype):
    weight = WEIGHTS[name].to(dtype)
    if not weight.isfinite().all():
        weight = weight.clamp(-6e4, 6e4)
    want_packed, want_absmax = bnb_quantize(weight)
    for quantize in (reference.quantize_nf4, bitsandbytes_ops.quantize_nf4):
        got = quantize(weight)
        assert got.packed.dtype == torch.uint8
        assert got.absmax.dtype == torch.float32
        assert got.shape == tuple(weight.shape)
        assert torch.equal(got.packed, want_packed)
        assert torch.equal(got.absmax, want_absmax)


@pytest.mark.parametrize("name", [*WEIGHTS, "many blocks"])
def test_nested_absmax_equals_bitsandbytes(name):
    weight = WEIGHTS[name] if name in WEIGHTS else randn(1000, 1000, seed=3)
    want, got = (ops.quantize_nf4(weight, nested=True) for ops in (bitsandbytes_ops, reference))
    assert got.absmax.dtype == torch.uint8
    wanted, found = want.tensors(), got.tensors()
    assert list(found) == ["packed", "absmax", "nested_scales", "nested_table", "nested_offset"]
    assert got.num_bytes == sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    for part, tensor in found.items():
        assert torch.equal(tensor, wanted[part]), part
    if name != "very small":  # subnormal products
        for dtype in FLOATS:
            assert torch.equal(reference.dequantize(got, dtype), bitsandbytes_ops.dequantize(want, dtype))


@pytest.mark.parametrize("nested", [False, True])
def test_quantizing_in_chunks_changes_nothing(monkeypatch, nested):
    weight = randn(37, 110)
    whole = [ops.quantize_nf4(weight, nested).tensors() for ops in (reference, bitsandbytes_ops)]
    monkeypatch.setattr(reference, "CHUNK", 256)
    for ops, want in zip((reference, bitsandbytes_ops), whole, strict=True):
        for part, tensor in ops.quantize_nf4(weight, nested).tensors().items():
            assert torch.equal(tensor, want[part]), part


def test_nested_absmax_is_close_to_the_absmax():
    weight = randn(512, 512)
    plain, nested = reference.quantize_nf4(weight), reference.quantize_nf4(weight, nested=True)
    assert torch.equal(plain.packed, nested.packed)
    off = (reference.absmax_of(nested) - plain.absmax).abs()
    assert 0 < off.max() <= 0.02 * plain.absmax.max()
    table = 256 * 4
    assert [round(8 * (w.num_bytes - extra) / weight.numel(), 3) for w, extra in ((plain, 0), (nested, table + 4))] == [
        4.5, 4.127
    ]  # bits a weight  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("table", "block", "nested"), [("fp4", 64, False), ("fp4", 64, True), ("fp4", 128, False),
                                                       ("nf4", 32, False), ("nf4", 256, True)])  # fmt: skip
def test_the_other_4_bit_forms_of_bitsandbytes(table, block, nested, dtype):
    weight = randn(96, 256)
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight, blocksize=block, quant_type=table, compress_statistics=nested
    )
    inner = Nested(state.state2.absmax, state.state2.code, state.offset) if nested else None
    stored = FourBit(packed.view(-1), state.absmax, (96, 256), table, block, inner)
    state.dtype = dtype
    want = bitsandbytes.functional.dequantize_4bit(packed, state)
    assert torch.equal(reference.dequantize(stored, dtype), want)
    assert torch.equal(bitsandbytes_ops.dequantize(stored, dtype), want)


@pytest.mark.parametrize(("shape", "block"), [((4, 128), 256), ((6, 192), 128), ((4, 64), 128), ((12, 40), 128)])
def test_blocks_that_run_over_the_ends_of_rows(shape, block):
    """bitsandbytes 0.50.2 on a CPU reads the wrong absmax there."""
    weight = randn(*shape)
    packed, state = bitsandbytes.functional.quantize_4bit(weight, blocksize=block, quant_type="nf4")
    stored = FourBit(packed.view(-1), state.absmax, shape, block=block)
    once = reference.dequantize(stored, torch.float32)
    widest = max(b - a for a, b in itertools.pairwise(TABLES["nf4"])) / 2 * 1.000001
    assert ((once - weight).abs() <= widest * weight.abs().max()).all()
    reach = state.absmax.repeat_interleave(block)[: weight.numel()].view(shape)
    assert ((once - weight).abs() <= widest * reach).all()
    assert torch.equal(bitsandbytes_ops.dequantize(stored, torch.float32), once)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_int4_is_scale_times_code_less_zero(dtype):
    rows, groups, group = 6, 3, 8
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (rows, groups * group), generator=generator, dtype=torch.uint8)
    zeros = torch.randint(0, 16, (rows, groups), generator=generator, dtype=torch.uint8)
    scales = torch.rand(rows, groups, generator=generator).half()
    weight = Int4((codes[:, ::2] << 4) | codes[:, 1::2], scales, zeros, (rows, groups * group), group)
    got = reference.dequantize(weight, dtype)
    for row in range(rows):
        for column in range(groups * group):
            part = column // group
            want = (int(codes[row, column]) - int(zeros[row, part])) * float(scales[row, part])
            assert got[row, column] == torch.tensor(want).to(dtype)
    assert torch.equal(bitsandbytes_ops.dequantize(weight, dtype), got)
    x = randn(3, groups * group, dtype=dtype)
    assert torch.equal(reference.quantized_linear(x, weight), bitsandbytes_ops.quantized_linear(x, weight))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", WEIGHTS)
def test_dequantize_equals_bitsandbytes(name, dtype):
    weight = WEIGHTS[name]
    quantized = reference.quantize_nf4(weight)
    want = bitsandbytes_ops.dequantize(quantized, dtype)
    got = reference.dequantize(quantized, dtype)
    assert got.dtype == dtype
    assert got.shape == weight.shape
    if dtype is torch.bfloat16:  # AVX512's conversion to bfloat16 takes subnormal numbers for zero
        got, want = (torch.where(out.abs() < 2**-126, 0, out) for out in (got, want))
    assert torch.equal(got, want)


def test_the_bin_bounds_are_met_exactly():
    weight = at_the_bounds()
    values = torch.tensor(TABLES["nf4"])
    bounds = (values[1:] + values[:-1]) / 2
    quantized = reference.quantize_nf4(weight)
    codes = torch.stack((quantized.packed >> 4, quantized.packed & 15), -1).view(-1)
    assert quantized.absmax[0] == 1
    assert codes[:15].tolist() == list(range(15))  # a midpoint goes down
    assert codes[15:30].tolist() == list(range(1, 16))  # the next float up goes up
    assert codes[30:45].tolist() == list(range(15))
    assert codes[45:61].tolist() == list(range(16))
    assert len(bounds) == 15


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40), st.floats(1e-6, 1e6))
def test_quantize_twice_changes_nothing_more(seed, rows, columns, scale):
    weight = randn(rows, 2 * columns, seed=seed, scale=scale)
    quantized = reference.quantize_nf4(weight)
    once = reference.dequantize(quantized, torch.float32)
    again = reference.dequantize(reference.quantize_nf4(once), torch.float32)
    assert torch.equal(once, again)
    # No value is further away than half the widest gap of its block.
    widest = max(b - a for a, b in itertools.pairwise(TABLES["nf4"])) / 2 * 1.000001
    reach = quantized.absmax.repeat_interleave(BLOCK)[: weight.numel()].view(weight.shape)
    assert ((once - weight).abs() <= widest * reach).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("rows", "columns", "bias"), [(64, 64, True), (33, 128, False), (5, 22, True), (1, 192, False)]
)
@pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3)], ids=str)
def test_quantized_linear_of_bitsandbytes_equals_the_reference(batch, rows, columns, bias, dtype):
    weight, x = randn(rows, columns), randn(*batch, columns, seed=1, dtype=dtype)
    b = randn(rows, seed=2, dtype=dtype) if bias else None
    quantized = reference.quantize_nf4(weight)
    want = reference.quantized_linear(x, quantized, b)
    got = bitsandbytes_ops.quantized_linear(x, quantized, b)
    assert want.shape == (*batch, rows)
    assert torch.equal(got, want)
    exact = x.double() @ reference.dequantize(quantized, dtype).double().T
    assert close(want, exact + (b.double() if bias else 0), dtype, 64 if dtype is torch.float32 else 4)


def test_the_choice_of_implementation(monkeypatch, caplog):
    cpu = torch.device("cpu")
    if native_library.find_library():
        for quantized, plain in ((False, reference), (True, bitsandbytes_ops)):
            ops = dispatch.choose_ops(cpu, quantized)
            assert isinstance(ops, native_ops.NativeOps)
            assert ops.plain is plain
    assert not caplog.records
    # Without the library, or with one for another machine, all goes the plain way, and it is said where it matters.
    monkeypatch.setattr(native_library, "find_library", lambda: None)
    assert dispatch.choose_ops(cpu, quantized=False) is reference
    assert dispatch.choose_ops(cpu, quantized=True) is bitsandbytes_ops
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    monkeypatch.setattr(native_library, "find_library", lambda: Path(__file__))
    assert dispatch.choose_ops(cpu, quantized=True) is bitsandbytes_ops
    assert "does not load" in caplog.text
    monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: None)
    assert dispatch.choose_ops(cpu, quantized=True) is reference
