"""The fused kernels in Triton's interpreter against their plain twins; run as triton_cases.py is.

The interpreter runs programs one after the other: what it shows is which program does what, not that memory is seen in
time. Of that triton_compile.py looks at the order of the instructions.
"""

import json
from types import SimpleNamespace

import pytest
import torch
from longhand.engine import footprint_triton
from longhand.engine.cache import KVCache
from longhand.engine.config import ModelConfig
from longhand.engine.decoder import Decoder, Linear
from longhand.engine.graph import WIDTHS, step
from longhand.engine.options import Setup
from longhand.kernels import reference, triton_attention, triton_fused, triton_linear, triton_ops
from longhand.kernels.dispatch import Recorder, choose_ops
from longhand.kernels.triton_ops import TritonOps
from longhand.kernels.triton_weights import dequantize, join, to_panels
from longhand.kernels.weights import BlockWeights, FourBit, Int4

FORMS = {"nf4": {}, "nf4 nested": {"nested": True}, "int4": {"group": 128}}
EPS = 1e-5


def four_bit(rows, columns, form, seed=0):
    """A weight of random codes and scales, about as large as those of a trained model."""
    draw = torch.Generator().manual_seed(seed)
    packed = torch.randint(0, 256, (rows * columns // 2,), dtype=torch.uint8, generator=draw)
    if "group" in form:
        shape = (rows, columns // form["group"])
        scales = (torch.rand(shape, generator=draw) * 0.01 + 0.002).half()
        zeros = torch.randint(6, 10, shape, dtype=torch.uint8, generator=draw)
        return Int4(packed.view(rows, -1), scales, zeros, (rows, columns), form["group"])
    weight = FourBit(packed, torch.rand(rows * columns // 64, generator=draw) * 0.1 + 0.02, (rows, columns))
    return reference.nest(weight) if form.get("nested") else weight


def near(got, want, dtype, sizes=1.0):
    """Sums of a few hundred products of about `sizes`, rounded to dtype."""
    limit = {torch.float32: 3e-5, torch.float16: 4e-3}[dtype] * sizes * want.abs().max().item()
    assert got.dtype == dtype
    assert (got.double() - want.double()).abs().max().item() <= limit


@pytest.fixture
def ops():
    return TritonOps(reference, multiprocessors=3, run=2)


def zeros(count=64):
    return torch.zeros(count, dtype=torch.int32)


# Weights as one


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_joined_weights_are_their_parts(form):
    weights = [four_bit(rows, 256, form, rows) for rows in (256, 64, 100)]
    parts = [to_panels(weight, 4) for weight in weights]
    whole = join(parts)
    assert whole.shape == (420, 256)
    want = [reference.dequantize(weight, torch.float32) for weight in weights]
    assert torch.equal(dequantize(whole, torch.float32), torch.cat(want))
    for part, values in zip(parts, want, strict=True):
        assert torch.equal(dequantize(part, torch.float32), values)
        for name, tensor in part.tensors().items():  # views: nothing is held twice
            shared = whole.tensors()[name].untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
            assert shared or name in ("table", "words", "nested_offset", "nested_table")
    x = torch.randn(3, 256)
    ops = TritonOps(reference, multiprocessors=3, run=4)
    got = ops.quantized_linear(x, whole)
    near(got, x @ torch.cat(want).T, torch.float32)
    near(got[:, 256:320], ops.quantized_linear(x, parts[1]), torch.float32)


def test_weights_that_do_not_go_together_stay_apart():
    plain, nested, int4 = (to_panels(four_bit(64, 256, form), 4) for form in FORMS.values())
    other_table = to_panels(four_bit(64, 256, FORMS["nf4"]).to(torch.device("cpu")), 4)
    other_table.table.add_(1)
    odd_rows = to_panels(four_bit(65, 256, FORMS["nf4"]), 4)
    half_a_block = to_panels(four_bit(64, 128, FORMS["nf4 nested"]), 4)  # 128 scales of a nested block's 256
    before = plain.codes.data_ptr()
    for parts in (
        (plain, nested), (plain, int4), (plain, other_table), (odd_rows, plain), (half_a_block, half_a_block),
        (plain, to_panels(four_bit(64, 128, FORMS["nf4"]), 4)), (plain, to_panels(four_bit(64, 256, {}), 2)),
    ):  # fmt: skip
        assert join(parts) is None
    assert plain.codes.data_ptr() == before
    assert join((plain, odd_rows)).shape == (129, 256)  # an odd number is well at the end


# The three products


def stream(rows, hidden, dtype, seed=3):
    """Of unequal rows and columns, so that a norm of the wrong one is far off."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, hidden, generator=draw) * torch.logspace(-1, 1, rows)[:, None]
    x[:, 3] *= 30
    return x.to(dtype), (torch.rand(hidden, generator=draw) + 0.5).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("hidden", [64, 100, 2176])
@pytest.mark.parametrize("rows", [1, 5, 16])
def test_a_norm_on_its_way(rows, hidden, dtype):
    x, norm = stream(rows, hidden, dtype)
    found = triton_fused.weigh(x, norm)
    near(found.weighted, x.double() * norm.double(), dtype)
    squares = found.squares.sum(0)
    near(squares[:rows], x.double().square().sum(-1), torch.float32)
    assert not squares[rows:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("rows", "splits"), [(1, 1), (3, 2), (16, 4)])
def test_qkv(rows, splits, form, dtype):
    heads, kv_heads, width, hidden = 6, 2, 32, 256  # ten heads, of which a program has two
    x, norm = stream(rows, hidden, dtype)
    sizes = (heads * width, kv_heads * width, kv_heads * width)
    weights = [four_bit(size, hidden, form, size + number) for number, size in enumerate(sizes)]
    bias = torch.randn(sum(sizes)).to(dtype)
    angles = torch.rand(rows, width // 2) * 6
    cos, sin = angles.cos(), angles.sin()
    normed = reference.rms_norm(x.double().float(), norm.float(), EPS)
    wide = [reference.quantized_linear(normed, weight) for weight in weights]
    q, k, v = (torch.cat(wide, -1) + bias.float()).unflatten(-1, (-1, width)).split([heads, kv_heads, kv_heads], 1)
    whole = join([to_panels(weight, 2) for weight in weights])
    for position in (5, torch.tensor(7, dtype=torch.int32)):
        cache, want_cache = torch.zeros(2, 2, 30, kv_heads, width).to(dtype)
        keys, values = cache
        want_keys, want_values = want_cache.float()
        want = reference.rope_and_cache(q, k, v, cos, sin, want_keys, want_values, position)
        arrivals = zeros()
        got = triton_fused.qkv(
            triton_fused.weigh(x, norm), EPS, whole, bias, cos, sin, keys, values, position, arrivals, 3, splits
        )
        assert not arrivals.any()
        near(got, want, dtype)
        near(keys, want_keys, dtype)
        near(values, want_values, dtype)
        written = slice(int(position), int(position) + rows)
        for rows_of in (keys, values):  # no other row of the cache is touched
            rest = rows_of.clone()
            rest[written] = 0
            assert not rest.any()
    with pytest.raises(AssertionError):
        triton_fused.qkv(triton_fused.weigh(x, norm), EPS, whole, bias, cos, sin, keys, values, 30, arrivals, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("rows", "splits"), [(1, 1), (3, 2), (16, 4)])
def test_gate_and_up(rows, splits, form, dtype):
    n, hidden = 128, 256
    x, norm = stream(rows, hidden, dtype)
    gate, up = (four_bit(n, hidden, form, seed) for seed in (1, 2))
    normed = reference.rms_norm(x.float(), norm.float(), EPS)
    want = reference.swiglu(reference.quantized_linear(normed, gate), reference.quantized_linear(normed, up))
    whole, arrivals = join([to_panels(gate, 2), to_panels(up, 2)]), zeros()
    got = triton_fused.gated(triton_fused.weigh(x, norm), EPS, whole, arrivals, 3, splits)
    near(got, want, dtype)
    assert not arrivals.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("rows", "splits", "n"), [(1, 1, 200), (3, 2, 64), (16, 3, 200)])
def test_what_is_added_to_the_stream(rows, splits, n, form, dtype):
    x, _ = stream(rows, 256, dtype, seed=1)
    weight, (old, norm) = four_bit(n, 256, form), stream(rows, n, dtype)
    want = old.double() + reference.quantized_linear(x.float(), weight).double()
    for by in (None, norm):
        new, arrivals = old.clone(), zeros()
        then = triton_fused.add(x, to_panels(weight, 4), new, by, arrivals, 3, splits)
        near(new, want, dtype)
        assert not arrivals.any()
    assert then is not None
    again = triton_fused.weigh(new, norm)  # the same as from the sum itself
    assert torch.equal(then.weighted, again.weighted)
    near(then.squares, again.squares, torch.float32)


def test_two_panels_at_a_time(ops):
    """From 2,048 rows on; of an odd number of panels the last program has one twice, and may not add it twice."""
    (old, norm), (x, _), weight = stream(2, 2120, torch.float32), stream(2, 64, torch.float32), four_bit(2120, 64, {})
    want = old.double() + reference.quantized_linear(x, weight).double()
    then = triton_fused.add(x, ops.pack(weight), old, norm, zeros(), 3)
    near(old, want, torch.float32)
    near(then.squares.sum(0)[:2], want.square().sum(-1), torch.float32)


def test_a_row_is_the_same_alone_and_with_others():
    x, norm = stream(16, 512, torch.float32)
    weight = join([to_panels(four_bit(128, 512, FORMS["nf4 nested"], seed), 2) for seed in (1, 2)])
    whole = triton_fused.gated(triton_fused.weigh(x, norm), EPS, weight, zeros(), 3)
    for rows in (1, 7):
        part = triton_fused.gated(triton_fused.weigh(x[:rows], norm), EPS, weight, zeros(), 3)
        assert torch.equal(part, whole[:rows])


# Attention: where the keys are cut


@pytest.mark.parametrize(("positions", "dtype"), [(1, torch.float32), (3, torch.float16), (16, torch.float32)])
def test_attention_of_a_graph_is_that_of_a_launch(positions, dtype):
    """Bit for bit, at every length, though the graph is made for the whole cache; the rest of it holds no numbers."""
    draw = torch.Generator().manual_seed(positions)
    room = 520  # of which a graph makes four parts
    keys, values = torch.randn(2, room, 2, 16, generator=draw).to(dtype)
    q, arrivals = torch.randn(positions, 6, 16, generator=draw).to(dtype), zeros()
    for length in (positions, 129, 300, 520):
        k, v = keys.clone(), values.clone()
        k[length:], v[length:] = float("nan"), float("nan")
        eager = triton_attention.attention(q, k[:length], v[:length], 8, arrivals=arrivals)
        want = reference.attention(q.double(), k[:length].double(), v[:length].double())
        near(eager, want, dtype)
        apart = triton_attention.attention(q, k[:length], v[:length], 8)  # merged by a second launch
        assert torch.equal(eager, apart)
        position = torch.tensor(length - positions, dtype=torch.int32)
        assert torch.equal(triton_attention.attention(q, k, v, 8, position=position, arrivals=arrivals), eager)
        assert not arrivals.any()
    assert triton_attention.choose_splits(2, room, 8) == 4


# Blocks


def block_weights(pack, hidden=256, intermediate=192, heads=4, kv_heads=2, width=32, form=FORMS["nf4 nested"]):
    shapes = [(heads * width, hidden), (kv_heads * width, hidden), (kv_heads * width, hidden), (hidden, heads * width),
              (intermediate, hidden), (intermediate, hidden), (hidden, intermediate)]  # fmt: skip
    draw = torch.Generator().manual_seed(9)
    linears = tuple(
        (pack(four_bit(*shape, form, seed)), torch.randn(shape[0], generator=draw) if seed < 3 else None)
        for seed, shape in enumerate(shapes)
    )
    norms = (torch.rand(hidden, generator=draw) + 0.5, torch.rand(hidden, generator=draw) + 0.5)
    return BlockWeights(linears, norms, EPS, heads, kv_heads, width)


@pytest.mark.parametrize(("rows", "position"), [(1, 0), (3, 7), (1, 300)])
def test_a_block_equals_its_twin(ops, rows, position):
    twin, block = reference.PlainBlock(block_weights(reference.pack)), ops.block(block_weights(ops.pack))
    x = torch.randn(rows, 256)
    angles = torch.rand(rows, 16) * 6
    cache = torch.randn(2, 512, 2, 32)
    found = []
    for call, at in ((twin, position), (block, position), (block, torch.tensor(position, dtype=torch.int32))):
        keys, values = cache.clone()
        assert call.takes(x, keys)
        found.append((call(x.clone(), angles.cos(), angles.sin(), keys, values, at), keys, values))
    for want, got, again in zip(*found, strict=True):
        near(got, want, torch.float32)
        assert torch.equal(got, again)
    assert not block.arrivals.any()


def test_what_a_block_takes(ops):
    block = ops.block(block_weights(ops.pack))
    keys = torch.zeros(8, 2, 32)
    assert block.takes(torch.zeros(16, 256), keys)
    for x in (torch.zeros(17, 256), torch.zeros(0, 256), torch.zeros(1, 2, 256), torch.zeros(1, 256).bfloat16()):
        assert not block.takes(x, keys)
    assert not block.takes(torch.zeros(1, 256), torch.zeros(8, 2, 32, dtype=torch.int8))
    assert TritonOps(reference, 3, 2, fused=False).block(block_weights(ops.pack)) is None
    assert ops.block(block_weights(reference.pack)) is None  # not in panels
    assert ops.block(block_weights(ops.pack, hidden=128)) is None  # nested blocks that end inside a weight
    assert ops.block(block_weights(ops.pack, intermediate=224, form={})) is None  # half a panel
    assert ops.block(block_weights(ops.pack, hidden=128, form={})) is not None


class Launched:
    """A kernel that notes its launches."""

    def __init__(self, name, kernel, log):
        self.name, self.kernel, self.log = name, kernel, log

    def __getitem__(self, grid):
        self.log.append(self.name)
        return self.kernel[grid]


def test_a_block_is_five_launches(ops, monkeypatch):
    log = []
    for module, names in (
        (triton_fused, ("weigh_rows", "qkv_product", "gated_product", "added_product")),
        (triton_attention, ("attend", "merge_splits")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, Launched(name, getattr(module, name), log))
    first, second = (ops.block(block_weights(ops.pack, hidden=128, intermediate=64, form={})) for _ in range(2))
    keys, values = torch.zeros(2, 300, 2, 32)
    x, angles = torch.randn(1, 128), torch.rand(1, 16)
    x = first(x, angles, angles, keys, values, 290)  # attention in two parts
    assert log == ["weigh_rows", "qkv_product", "attend", "added_product", "gated_product", "added_product"]
    log.clear()
    second(x, angles, angles, keys, values, torch.tensor(290, dtype=torch.int32))
    assert log == ["qkv_product", "attend", "added_product", "gated_product", "added_product"]
    assert len(log) == footprint_triton.NODES["block"]


def test_what_is_counted_ahead_is_what_the_kernels_have():
    """Where triton is not installed `longhand fit` cannot ask them."""
    assert footprint_triton.ROWS == triton_fused.ROWS == max(WIDTHS)
    assert footprint_triton.MOST_SPLITS == triton_linear.MOST_SPLITS
    assert footprint_triton.CHUNK_BYTES == triton_ops.CHUNK_BYTES
    assert max(triton_attention.rows_of(positions, 5) for positions in range(1, 999)) == footprint_triton.TILE


@pytest.mark.parametrize("rows", [1, 16])
@torch.inference_mode()
def test_workspace_is_not_more_than_is_counted(rows, tmp_path):
    """All that is alive at once in a forward, above weights and cache; and a quarter of what is counted at least, which
    has room for more splits."""
    config = ModelConfig(64, 128, 256, 1, 4, 2, 32, EPS, 1e6, 4096, False)
    ops = TritonOps(reference, multiprocessors=footprint_triton.MULTIPROCESSORS, run=2)
    decoder, cache = make_decoder(ops, config), KVCache(config, torch.device("cpu"), torch.float32, 512)
    cache.reserve(300)
    for kept in (*cache.keys, *cache.values):
        kept.zero_()
    cache.advance(300 - rows)
    ids = torch.zeros(rows, dtype=torch.int64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        decoder.logits(decoder.hidden(ids, cache)[-1])
    profile.export_chrome_trace(str(tmp_path / "trace.json"))
    events = [event for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
              if event.get("name") == "[memory]"]  # fmt: skip
    alive = most = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        alive += event["args"]["Bytes"]
        most = max(most, alive)
    setup = Setup("cuda", "float32", "float32", quantize=True, kernels="triton")
    counted = max(footprint_triton.workspace(config, setup, rows, 300, 0).values())
    assert counted / 4 <= most <= counted


def test_kernels_that_are_asked_for(monkeypatch):
    """As on a card: how many multiprocessors it has, and how its matrix instruction wants codes to lie."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for major, run in ((9, 2), (8, 4)):
        card = SimpleNamespace(multi_processor_count=132, major=major)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, card=card: card)
        for kernels in ("triton", "triton-unfused"):
            chosen = choose_ops(torch.device("cuda"), True, kernels)
            assert isinstance(chosen, TritonOps)
            assert isinstance(chosen, Recorder)
            assert (chosen.multiprocessors, chosen.run, chosen.fused) == (132, run, kernels == "triton")
    assert not isinstance(choose_ops(torch.device("cuda"), True), TritonOps)
    assert not isinstance(reference, Recorder)


def make_decoder(chosen, config, form=FORMS["nf4"]):
    draw = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        decoder = Decoder(config, chosen, torch.device("cpu"))
    for number, (name, parameter) in enumerate(list(decoder.named_parameters())):
        path, _, attribute = name.rpartition(".")
        module = decoder.get_submodule(path)
        if isinstance(module, Linear) and attribute == "weight":
            module.set_quantized(four_bit(*module.shape, form, number))
        else:
            value = torch.randn(parameter.shape, generator=draw)
            setattr(module, attribute, torch.nn.Parameter(value, requires_grad=False))
    for block in decoder.model.layers:
        block.fuse()
    return decoder


@torch.inference_mode()
def test_a_decoder_of_fused_blocks(ops, monkeypatch):
    """Equal to the plain one, and a step over tensors that stay where they are equal to it bit for bit; each block but
    the first takes up the norm that the one before has begun."""
    config = ModelConfig(64, 128, 64, 2, 4, 2, 32, EPS, 1e6, 4096, False)
    plain, fused = make_decoder(reference, config), make_decoder(ops, config)
    begun, weigh = [], triton_fused.weigh
    monkeypatch.setattr(triton_fused, "weigh", lambda x, norm: begun.append(norm) or weigh(x, norm))
    ids = torch.arange(1, 39)
    caches = [KVCache(config, torch.device("cpu"), torch.float32, 512) for _ in range(3)]
    static = torch.empty(64)
    for cache, room in zip(caches, (38, 38, 300), strict=True):
        cache.reserve(room)
    for part in ids.split([17, 1, 16, 4]):
        want, got = (decoder(part, cache)[0] for decoder, cache in zip((plain, fused), caches, strict=False))
        assert ((got - want).abs().max() / want.abs().max()).item() < 1e-4
        if len(part) > 16:
            for layer in range(2):
                caches[2].write(layer, {"keys": caches[1].keys[layer][:17], "values": caches[1].values[layer][:17]})
        else:
            assert len(begun) == 1
            inputs = torch.tensor([*part.tolist(), caches[2].position], dtype=torch.int32)
            step(fused, inputs, caches[2].keys, caches[2].values, static)
            assert torch.equal(static, got)
        begun.clear()
        for cache in caches:
            cache.advance(len(part))
    assert ops.begun is None
    x = torch.randn(1, 128)  # another tensor than the one that was returned: the norm begins anew
    angles, keys, values = torch.rand(1, 16), *torch.zeros(2, 8, 2, 32)
    first, second = (block.whole for block in fused.model.layers[:2])
    y = first(x, angles, angles, keys, values, 0)
    want = second(y.clone(), angles, angles, keys, values, 0)
    assert len(begun) == 2
    begun.clear()
    y = first(torch.zeros(1, 128), angles, angles, keys, values, 0)
    assert second(y, angles, angles, keys, values, 0).shape == want.shape
    assert len(begun) == 1
