import math
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.streams import reference_normal, same_bits

from gradnoise.noise import gaussian
from gradnoise.noise.gaussian import (
    add_,
    add_rows_,
    backend,
    bernoulli_rows_,
    normal,
    reference,
    stream_key,
)
from gradnoise.noise.gaussian.constants import MASK32

numba_only = pytest.mark.skipif(backend() != "numba", reason="compares the Numba kernels with the reference")


# --- the frozen mapping -------------------------------------------------------------------------------

FROZEN = {
    (0, "", 0): "-0x1.3f94c8p-1 -0x1.13e326p+1 -0x1.b4d1f6p-1 0x1.c6c32cp+1"
    " 0x1.aabceep-1 -0x1.002eb6p-1 -0x1.568e10p-1 0x1.7e482ap-4",
    (0, "weight", 0): "0x1.fb0dfep-3 -0x1.2347b2p-1 0x1.fd5aa0p-5 0x1.ba9dfcp-1"
    " -0x1.286ae6p-1 0x1.acd552p+0 -0x1.4452eep+0 0x1.fcf940p-1",
    (1, "layers.0.weight", 1): "-0x1.40007ap+1 0x1.70a310p-2 -0x1.c3cdecp-3 0x1.0e51a0p+0"
    " -0x1.53fa70p-4 -0x1.9245eap-1 -0x1.940fe8p-1 -0x1.98a06ap-1",
    (2**63, "0.0", 10**6): "0x1.35cdd4p-1 0x1.2327a0p-3 -0x1.ae5f80p-1 0x1.a2f060p+0"
    " -0x1.cbd13ep-1 -0x1.c5c52ap-6 0x1.32caa8p-1 0x1.820c60p-2",
    (-1, "σ", 2**40): "-0x1.d83f98p-2 0x1.f1295cp-3 0x1.2c0ae0p+0 -0x1.ddcaa2p-4"
    " 0x1.3bb912p-6 0x1.6e482cp+0 0x1.b0932ep-3 -0x1.40b40cp-5",
}


@pytest.mark.parametrize("stream", FROZEN)
@pytest.mark.parametrize("draw", [normal, reference_normal])
def test_normals_of_version_1_are_frozen(draw, stream):
    seed, name, t = stream
    expected = [float.fromhex(v) for v in FROZEN[stream].split()]
    assert gaussian.VERSION == 1
    assert draw(stream_key(seed, name), t, 8).tolist() == expected


def test_masks_of_version_1_are_frozen():
    out = torch.empty(1, 12)
    bernoulli_rows_(out, keys=[stream_key(0, "weight")], t=[0], keep=[0.5])
    assert out.tolist() == [[0, 0, 2, 2, 2, 2, 0, 0, 0, 0, 2, 2]]


def exact_normals(words):
    """Return Box-Muller in float64 of the same words [n, 4]."""
    u = (words[:, :2] + 0.5) * 2.0**-32
    half = words[:, 2:] & 0x7FFFFFFF
    y = (np.where(half >= 2**30, half - 2**31, half) * 2 + 1) * 2.0**-31
    r = np.sqrt(-2 * np.log(u))
    sign = np.where(words[:, 2:] >> 31, -1.0, 1.0)
    return np.stack([r * sign * np.cos(np.pi / 2 * y), r * np.sin(np.pi / 2 * y)], axis=-1).reshape(-1, 4)


def test_normals_are_within_2_5e_6_of_exact_arithmetic():
    random_words = np.random.default_rng(0).integers(0, 2**32, (250_000, 4))
    corner = [0, 1, 2**30 - 1, 2**30, 2**31 - 1, 2**31, 3 * 2**30, 3037000499, 3037000500, MASK32 - 1, MASK32]
    corners = np.stack(np.meshgrid(corner, corner, corner, corner), axis=-1).reshape(-1, 4)
    for words in (random_words, corners):
        z = reference.normals(torch.from_numpy(words)).double().numpy()
        assert np.abs(z - exact_normals(words)).max() < 2.5e-6


def test_the_tails_reach_6_7_sigma():
    z = reference.normals(torch.tensor([0, MASK32, 0, 0]))
    assert z[0].item() == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-6)


# --- one mapping, many ways to it ---------------------------------------------------------------------


@numba_only
@given(
    key=st.integers(0, 2**64 - 1),
    t=st.integers(0, 2**64 - 1),
    count=st.integers(0, 3000),
    start=st.one_of(st.integers(0, 5000), st.integers(2**34 - 2000, 2**34 + 2000)),
)
@settings(deadline=None)
def test_numba_equals_the_reference_at_any_start(key, t, count, start):
    assert same_bits(normal(key, t, count, start), reference_normal(key, t, count, start))


@numba_only
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_numba_equals_the_reference_on_rows(data):
    lengths = data.draw(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 1500)), max_size=5))
    rows, gap, shift = (data.draw(st.integers(0, 4)) for _ in range(3))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    offsets = np.cumsum([0, *lengths])
    n = int(offsets[-1])
    memory = torch.from_numpy(rng.normal(size=shift + rows * (n + gap))).to(dtype)
    keys = rng.integers(0, 2**64, (rows, len(lengths)), dtype=np.uint64)
    t = rng.integers(0, 2**63, rows)
    sigma = torch.from_numpy(rng.choice([0.0, 1e-3, 1.0, 30.0], rows))
    ours, slow = memory.clone(), memory.clone()
    view = (rows, n), (n + gap, 1), shift
    add_rows_(ours.as_strided(*view), offsets=offsets, keys=keys, t=t, sigma=sigma)
    bits = torch.from_numpy(keys.view(np.int64)), torch.from_numpy(t)
    reference.add_rows_(slow.as_strided(*view), offsets, *bits, sigma, None)
    assert same_bits(ours, slow)


@numba_only
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_numba_equals_the_reference_on_masks(data):
    rows, n, gap = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2500)), data.draw(st.integers(0, 3))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    keep = np.array(data.draw(st.lists(st.floats(0, 1), min_size=rows, max_size=rows)), dtype=np.float64)
    assume((keep[keep > 0] > 1e-30).all())  # 1 / keep is finite in float32
    keys, t = torch.arange(rows), torch.arange(rows) + 3
    memory = torch.zeros(rows * (n + gap), dtype=dtype)
    ours, slow = memory.as_strided((rows, n), (n + gap, 1)), torch.zeros(rows, n, dtype=dtype)
    bernoulli_rows_(ours, keys=keys, t=t, keep=keep)
    reference.bernoulli_rows_(slow, keys, t, torch.from_numpy(keep))
    assert same_bits(ours.contiguous(), slow)
    assert memory.as_strided((rows, gap), (n + gap, 1), n).count_nonzero() == 0


def test_a_shard_gets_the_noise_of_its_place():
    whole = normal(7, 3, 10_000)
    assert same_bits(torch.cat([normal(7, 3, 4001), normal(7, 3, 5999, start=4001)]), whole)


def test_a_row_does_not_depend_on_its_neighbours():
    keys, offsets = np.arange(12, dtype=np.uint64).reshape(4, 3), [0, 10, 700, 701]
    x = torch.zeros(4, 701)
    add_rows_(x, offsets=offsets, keys=keys, t=[5, 6, 7, 8], sigma=[1.0, 2.0, 3.0, 4.0])
    for p in range(4):
        alone = torch.zeros(1, 701)
        add_rows_(alone, offsets=offsets, keys=keys[p : p + 1], t=[5 + p], sigma=[1.0 + p])
        assert same_bits(alone[0], x[p])


def test_rows_and_tensors_get_the_same_noise():
    x = torch.zeros(1, 60)
    add_rows_(x, offsets=[0, 50, 60], keys=[[2**63 + 1, 5]], t=[9], sigma=[0.1])
    parts = [torch.zeros(5, 10), torch.zeros(10)]
    add_(parts, keys=[2**63 + 1, 5], t=9, sigma=0.1)
    assert same_bits(torch.cat([p.flatten() for p in parts]), x[0])


def test_noise_is_scaled_in_the_tensor_s_own_precision():
    z, start = normal(3, 1, 100), torch.linspace(-1, 1, 100)
    single, double = start.clone(), start.double()
    add_([single, double], keys=[3, 3], t=1, sigma=0.1)
    assert same_bits(single, start + torch.tensor(0.1) * z)
    assert same_bits(double, start.double() + 0.1 * z.double())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_drawn_and_added_in_float32_and_rounded_once(dtype):
    x = torch.linspace(-3, 3, 1000).to(dtype)
    expected = (x.float() + torch.tensor(0.3) * normal(3, 1, 1000)).to(dtype)
    add_([x], keys=[3], t=1, sigma=0.3)
    assert torch.equal(x, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(7, 5).t(),
        lambda: torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
        lambda: torch.zeros(40)[::2],
        lambda: torch.zeros(()),
        lambda: torch.zeros(0, 3),
    ],
)
def test_elements_are_counted_in_row_major_order_whatever_the_strides(make):
    x = make()
    add_([x], keys=[3], t=1, sigma=1.0)
    assert same_bits(x.contiguous().flatten(), normal(3, 1, x.numel()))


# --- no-ops and side effects --------------------------------------------------------------------------


def test_sigma_0_leaves_every_bit():
    x = torch.tensor([[-0.0, math.nan, math.inf, 1e-45], [0.0, 0.0, 0.0, 0.0]])
    before = x.clone()
    add_rows_(x, offsets=[0, 4], keys=[[1], [2]], t=[0, 0], sigma=[0.0, 1.0])
    assert same_bits(x[0], before[0]) and not torch.equal(x[1], before[1])
    y = before[0].clone()
    add_([y, y.half()], keys=[1, 2], t=0, sigma=0.0)
    assert same_bits(y, before[0])


def test_global_generators_are_not_touched():
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = states()
    x = torch.zeros(2, 1000)
    add_rows_(x, offsets=[0, 1000], keys=[[1], [2]], t=[0, 0], sigma=[1.0, 1.0])
    bernoulli_rows_(x, keys=[1, 2], t=[0, 0], keep=[0.5, 0.5])
    ones = torch.ones(2, dtype=torch.int64)
    reference.add_rows_(x, np.array([0, 1000]), ones[:, None], ones, ones.double(), None)
    assert states() == before


def test_torch_learns_of_the_change():
    x = torch.zeros(8)
    version = x._version
    add_([x], keys=[1], t=0, sigma=1.0)
    assert x._version > version
