"""Triton kernels in Triton's interpreter against their plain twins. test_triton.py runs this file with pytest in a
process of its own, under TRITON_INTERPRET=1: that is read when kernels are decorated.

bfloat16 is left to the GPU: the interpreter truncates what it stores, so nothing here can tell right from nearly right.
"""

import pytest
import torch
from longhand.engine.cache import KVCache
from longhand.engine.config import ModelConfig
from longhand.engine.decoder import Decoder, Linear
from longhand.kernels import reference, triton_attention, triton_linear, triton_rows
from longhand.kernels.triton_ops import TritonOps
from longhand.kernels.triton_weights import Panels, dequantize, table_words, to_panels
from longhand.kernels.weights import FourBit, Int4

FLOATS = [torch.float32, torch.float16]
FORMS = {
    "nf4": {"table": "nf4"},
    "nf4 nested": {"table": "nf4", "nested": True},
    "fp4 nested": {"table": "fp4", "nested": True},
    "fp4, blocks of 128": {"table": "fp4", "block": 128},
    "int4, groups of 64": {"group": 64},
    "int4, groups of 128": {"group": 128},
}
SHAPES = [(1, 128), (64, 256), (65, 128), (190, 384)]  # one row, one panel, a panel and a row, an odd number


def four_bit(rows, columns, form, seed=0):
    """A weight of random codes and scales."""
    draw = torch.Generator().manual_seed(seed)
    packed = torch.randint(0, 256, (rows * columns // 2,), dtype=torch.uint8, generator=draw)
    if "group" in form:
        shape = (rows, columns // form["group"])
        scales = (torch.rand(shape, generator=draw) * 0.02 + 0.005).half()
        zeros = torch.randint(0, 16, shape, dtype=torch.uint8, generator=draw)
        return Int4(packed.view(rows, -1), scales, zeros, (rows, columns), form["group"])
    block = form.get("block", 64)
    absmax = torch.rand(-(-rows * columns // block), generator=draw) + 0.1
    weight = FourBit(packed, absmax, (rows, columns), form["table"], block)
    return reference.nest(weight) if form.get("nested") else weight


def bound(x, weight, dtype):
    """What rounding may cost: each value once to dtype, sums in float32, the result once to dtype."""
    sizes = x.double().abs() @ weight.double().abs().T
    return sizes * (2**-18 if dtype is torch.float32 else 2**-10) + 1e-6


@pytest.fixture
def ops():
    return TritonOps(reference, multiprocessors=3, run=2)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_dequantized_weights_are_bit_equal(form, shape):
    weight = four_bit(*shape, form)
    for dtype, run in zip(FLOATS, (2, 4), strict=True):
        ops = TritonOps(reference, multiprocessors=3, run=run)
        panels = ops.pack(weight)
        assert isinstance(panels, Panels)
        want = reference.dequantize(weight, dtype)
        assert torch.equal(ops.dequantize(panels, dtype), want)
        assert torch.equal(dequantize(panels, dtype), want)
    part = torch.empty(min(shape[0], 64), shape[1])
    triton_linear.dequantize_rows(panels, 0, part.shape[0], part)
    assert torch.equal(part, reference.dequantize(weight, torch.float32)[:64])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_products(form, shape, dtype):
    ops = TritonOps(reference, multiprocessors=3, run=2 if dtype is torch.float32 else 4)
    weight = four_bit(*shape, form)
    panels, exact = ops.pack(weight), reference.dequantize(weight, torch.float32).double()
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(16, shape[1], generator=draw).to(dtype)
    bias = torch.randn(shape[0], generator=draw).to(dtype)
    whole = ops.quantized_linear(x, panels, bias)
    want = x.double() @ exact.T + bias.double()
    limit = bound(x, exact, dtype)
    if form.get("group"):  # the codes that the zero point is taken off are bigger than what is left
        limit *= 16
    assert ((whole.double() - want).abs() <= limit + want.abs() * torch.finfo(dtype).eps).all()
    for rows in (1, 3):  # a row is the same alone, with others, and where K is split
        assert torch.equal(ops.quantized_linear(x[:rows], panels, bias), whole[:rows])


def test_split_products_are_the_sums_of_their_parts():
    weight = to_panels(four_bit(128, 640, FORMS["nf4"]), 2)
    exact = dequantize(weight, torch.float32).double()
    x = torch.randn(5, 640)
    for splits in (1, 2, 3, 4, 8, 10):  # 10 steps: even parts, a short last one, one that would be empty
        got = triton_linear.multiply(x, weight, None, 3, splits=splits)
        assert ((got.double() - x.double() @ exact.T).abs() <= bound(x, exact, torch.float32)).all()
    assert torch.equal(got, triton_linear.multiply(x, weight, None, 3, splits=10))


def test_two_panels_at_a_time_and_an_odd_number_of_them(ops):
    weight = four_bit(2120, 128, FORMS["nf4 nested"])  # from 2,048 rows on a program takes two
    x, exact = torch.randn(2, 128), reference.dequantize(weight, torch.float32).double()
    got = ops.quantized_linear(x, ops.pack(weight)).double()
    assert ((got - x.double() @ exact.T).abs() <= bound(x, exact, torch.float32)).all()


def test_splits_fill_the_device():
    for n, k in ((5120, 5120), (1024, 5120), (27648, 5120), (5120, 27648), (152064, 5120)):
        for multiprocessors in (82, 108, 128, 132):
            tiles = n // triton_linear.tile_rows(n)
            splits = triton_linear.choose_splits(tiles, k // 64, multiprocessors)
            assert 1 <= splits <= triton_linear.MOST_SPLITS
            assert tiles * splits >= 0.9 * multiprocessors or splits == triton_linear.MOST_SPLITS
    assert triton_linear.choose_splits(1, 1, 132) == 1  # one step cannot be split
    assert triton_attention.choose_splits(8, 32768, 132) == 33  # two programs for each multiprocessor
    assert triton_attention.choose_splits(8, 100, 132) == 1


def test_many_rows_are_dequantized_in_chunks(ops, monkeypatch):
    monkeypatch.setattr("longhand.kernels.triton_ops.CHUNK_BYTES", 64 * 256 * 4)
    weight = four_bit(190, 256, FORMS["nf4 nested"])
    x, bias = torch.randn(2, 17, 256), torch.randn(190)
    want = reference.quantized_linear(x, weight, bias)
    torch.testing.assert_close(ops.quantized_linear(x, ops.pack(weight), bias), want, rtol=1e-5, atol=1e-4)
    assert ops.quantized_linear(x[:, :0], ops.pack(weight), bias).shape == (2, 0, 190)


def test_weights_whose_groups_do_not_fit_stay_as_they_are(ops):
    for weight in (four_bit(3, 96, FORMS["nf4"]), four_bit(2, 64, {"group": 32})):
        assert ops.pack(weight) is weight
        x = torch.randn(1, weight.shape[1])
        assert torch.equal(ops.quantized_linear(x, weight), reference.quantized_linear(x, weight))
    packed = ops.pack(four_bit(64, 64, FORMS["nf4"]))
    assert ops.pack(packed) is packed


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("positions", "keys"),  # shorter than a step of keys, one step, a step and a key, an odd number
    [(1, 1), (1, 64), (1, 333), (3, 129), (16, 65), (14, 40), (40, 40), (17, 150)],
)
def test_attention(dtype, positions, keys):
    torch.manual_seed(keys + positions)
    q, k, v = torch.randn(positions, 10, 32), torch.randn(keys, 2, 32), torch.randn(keys, 2, 32)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    want = reference.attention(q.double(), k.double(), v.double()).double()
    for splits in (1, 2, 4) if keys > 64 else (1,):
        got = triton_attention.attention(q, k, v, 3, splits=splits)
        assert (got.double() - want).abs().max() < (2e-6 if dtype is torch.float32 else 2e-3)


def test_attention_with_more_splits_than_keys():
    q, k = torch.randn(1, 4, 16), torch.randn(70, 2, 16)
    want = reference.attention(q, k, k)
    torch.testing.assert_close(triton_attention.attention(q, k, k, 3, splits=8), want)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", [64, 96, 5120])
def test_rms_norm(ops, dtype, columns):
    x, weight = torch.randn(3, columns).to(dtype), torch.randn(columns).to(dtype)
    want = reference.rms_norm(x.double().float(), weight.float(), 1e-5)
    near = {"rtol": 1e-6, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(ops.rms_norm(x, weight, 1e-5).float(), want, **near)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("count", [1, 1023, 1025])
def test_swiglu(ops, dtype, count):
    gate, up = torch.randn(2, count).to(dtype) * 4, torch.randn(2, count).to(dtype)
    want = reference.swiglu(gate.float(), up.float())
    near = {"rtol": 2e-6, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(ops.swiglu(gate, up).float(), want, **near)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rope_and_the_write_to_the_cache(ops, dtype):
    heads, kv_heads, width, positions = 5, 1, 32, 3
    angles = torch.rand(positions, width // 2) * 6
    cos, sin = angles.cos(), angles.sin()
    qkv = torch.randn(positions, (heads + 2 * kv_heads) * width).to(dtype)
    q, k, v = (part.unflatten(-1, (-1, width)) for part in qkv.split([heads * width, width, width], -1))
    near = {"rtol": 1e-6, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(ops.rope(q, cos, sin), reference.rope(q, cos, sin), **near)
    for position in (4, torch.tensor(4, dtype=torch.int32)):
        keys, values = torch.zeros(2, 9, kv_heads, width, dtype=dtype)
        turned = torch.empty(positions, heads, width, dtype=dtype)
        triton_rows.rope_and_cache(qkv, cos, sin, turned, keys, values, position)
        torch.testing.assert_close(turned, reference.rope(q, cos, sin), **near)
        torch.testing.assert_close(keys[4:7], reference.rope(k, cos, sin), **near)
        assert torch.equal(values[4:7], v)
        assert not keys[:4].any()
        assert not keys[7:].any()
        assert not values[7:].any()


def test_a_decoder_on_these_kernels_gives_the_same_logits(ops):
    config = ModelConfig(320, 128, 192, 2, 4, 2, 32, 1e-5, 1e6, 4096, False)
    ids, logits = torch.arange(1, 24), []
    for chosen in (reference, ops):
        draw = torch.Generator().manual_seed(0)
        with torch.device("meta"):
            decoder = Decoder(config, chosen, torch.device("cpu"))
        for number, (name, parameter) in enumerate(list(decoder.named_parameters())):
            path, _, attribute = name.rpartition(".")
            module = decoder.get_submodule(path)
            if isinstance(module, Linear) and attribute == "weight":
                module.set_quantized(four_bit(*module.shape, FORMS["nf4 nested"], number))
            else:
                value = torch.randn(parameter.shape, generator=draw)
                setattr(module, attribute, torch.nn.Parameter(value, requires_grad=False))
        for block in decoder.model.layers:
            block.fuse()
        cache = KVCache(config, torch.device("cpu"), torch.float32, 64)
        cache.reserve(32)
        for part in ids.split([17, 1, 5]):  # dequantized in chunks, one id, some ids: over a cache that has rows
            logits.append(decoder(part, cache)[0])
            cache.advance(len(part))
    for want, got in zip(logits[:3], logits[3:], strict=True):
        assert ((got - want).abs().max() / want.abs().max()).item() < 1e-4


def prmt(a, b, selector):
    """PTX's byte permute: nibbles of the selector name bytes of b:a; with bit 3 the byte's sign is spread over it."""
    source, out = (b << 32) | a, 0
    for place in range(4):
        nibble = (selector >> 4 * place) & 15
        byte = (source >> 8 * (nibble & 7)) & 255
        out |= (byte if nibble < 8 else 255 * (byte >> 7)) << 8 * place
    return out


def run_assembly(text, inputs):
    """What the lines of `decode_assembly` do to registers."""
    registers = dict(inputs)

    def value(operand):
        return int(operand, 0) if operand[0].isdigit() else registers[operand]

    for line in text.strip("{}\n").split("\n"):
        name, _, rest = line.strip(" ;").partition(" ")
        if name == ".reg":
            continue
        target, *operands = (part.strip() for part in rest.split(","))
        v = [value(operand) for operand in operands]
        results = {
            "and.b32": lambda v: v[0] & v[1],
            "shl.b32": lambda v: v[0] << v[1] & 0xFFFFFFFF,
            "shr.b32": lambda v: v[0] >> v[1],
            "prmt.b32": lambda v: prmt(*v),
            "lop3.b32": lambda v: (v[1] & v[2]) | (v[0] & ~v[2] & 0xFFFFFFFF),
        }
        assert name in results
        assert name != "lop3.b32" or v[3] == 0xD8  # 0xD8: bit 4 a + 2 b + c of it is (c ? b : a)
        registers[target] = results[name](v)
    return registers


@pytest.mark.parametrize("table", ["nf4", "fp4", "int4"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_assembly_looks_up_every_code(table, dtype):
    """The one part that the interpreter cannot run, instruction by instruction."""
    values = tuple(map(float, range(16))) if table == "int4" else reference.TABLES[table]
    words = table_words(values)[int(dtype == torch.float16)]
    text, operands = triton_linear.decode_assembly()
    assert operands.count("=") == 16
    data = torch.arange(256, dtype=torch.uint8)
    for start in range(0, 256, 16):
        lane = data[start : start + 16]
        inputs = {f"${16 + i}": int(word) & 0xFFFFFFFF for i, word in enumerate(lane.view(torch.int32))}
        inputs |= {f"${20 + 16 * i}": int(word) & 0xFFFFFFFF for i, word in enumerate(words)}
        registers = run_assembly(text, inputs)
        got = torch.tensor([registers[f"${i}"] for i in range(16)], dtype=torch.int64).to(torch.int32).view(dtype)
        codes = torch.cat((lane >> 4, lane & 15)).int()
        assert torch.equal(got, torch.tensor(values)[codes].to(dtype))
