import ast
import importlib.util
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from gradnoise.noise import gaussian
from gradnoise.noise.gaussian import (
    Part,
    add_,
    add_rows_,
    api,
    backend,
    bernoulli_rows_,
    normal,
    reference,
    stream_key,
)
from gradnoise.noise.gaussian.constants import MASK32

numba_only = pytest.mark.skipif(backend() != "numba", reason="compares the Numba kernels with the reference")


def reference_normal(key, t, count, start=0):
    z = torch.zeros(count)
    reference.add_parts_([Part(z, key, torch.tensor([start]))], t, 1.0, None)
    return z


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


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
    """Box-Muller in float64 of the same words [n, 4]."""
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
    sigma = rng.choice([0.0, 1e-3, 1.0, 30.0], rows)
    ours, slow = memory.clone(), memory.clone()
    view = (rows, n), (n + gap, 1), shift
    add_rows_(ours.as_strided(*view), offsets=offsets, keys=keys, t=t, sigma=sigma)
    reference.add_rows_(slow.as_strided(*view), offsets, keys, t.astype(np.uint64), sigma, None)
    assert same_bits(ours, slow)


@numba_only
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_numba_equals_the_reference_on_masks(data):
    rows, n, gap = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2500)), data.draw(st.integers(0, 3))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    keep = np.array(data.draw(st.lists(st.floats(0, 1), min_size=rows, max_size=rows)), dtype=np.float64)
    assume((keep[keep > 0] > 1e-30).all())  # 1 / keep is finite in float32
    keys, t = np.arange(rows, dtype=np.uint64), np.arange(rows, dtype=np.uint64) + 3
    memory = torch.zeros(rows * (n + gap), dtype=dtype)
    ours, slow = memory.as_strided((rows, n), (n + gap, 1)), torch.zeros(rows, n, dtype=dtype)
    bernoulli_rows_(ours, keys=keys, t=t, keep=keep)
    last = np.maximum(np.ceil(keep * 2.0**32), 1).astype(np.uint64) - np.uint64(1)
    value = np.array([1 / k if k else 0.0 for k in keep])
    reference.bernoulli_rows_(slow, keys, t, last, value)
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
    reference.add_rows_(x, np.array([0, 1000]), np.ones((2, 1), np.uint64), np.ones(2, np.uint64), np.ones(2), None)
    assert states() == before


def test_torch_learns_of_the_change():
    x = torch.zeros(8)
    version = x._version
    add_([x], keys=[1], t=0, sigma=1.0)
    assert x._version > version


# --- the distribution ---------------------------------------------------------------------------------


def test_the_distribution_is_normal_by_kolmogorov_smirnov():
    """False alarm: 1e-4 per key before the seed was fixed, so 8e-4 in all."""
    for seed in range(8):
        z = normal(stream_key(seed, "ks"), seed, 100_000).numpy()
        assert stats.kstest(z, "norm").pvalue > 1e-4


def test_the_tails_are_normal_to_5_sigma():
    """Each of 10 counts has a two-sided p > 1e-4: a false alarm in 1e-3 of the seeds."""
    n = 2**25
    z = normal(stream_key(0, "tails"), 0, n).numpy()
    for k in (1, 2, 3, 4, 5):
        expected = n * stats.norm.sf(k)
        for count in (int((z > k).sum()), int((z < -k).sum())):
            law = stats.binom(n, expected / n)
            assert min(law.cdf(count), law.sf(count - 1)) > 0.5e-4, (k, count, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_each_dtype_gets_mean_0_variance_1_and_many_distinct_values(dtype):
    n = 1_000_000
    x = torch.zeros(n, dtype=dtype)
    add_([x], keys=[11], t=0, sigma=1.0)
    z = x.double()
    # Five standard deviations of the estimates, false alarm 6e-7 each.
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5 + (2e-5 if dtype == torch.bfloat16 else 0)
    assert len(x.unique()) > {torch.float16: 20_000, torch.bfloat16: 3_000}.get(dtype, 0.9 * n)


def test_streams_steps_and_neighbours_are_uncorrelated():
    """|r| sqrt(n) < 5 for 15 correlations, of values and of squares: a false alarm in 2e-5 of the seeds."""
    n = 200_000
    base = normal(stream_key(0, "a"), 0, n + 4).double()
    others = {
        "next seed": normal(stream_key(1, "a"), 0, n),
        "other name": normal(stream_key(0, "b"), 0, n),
        "next key": normal(stream_key(0, "a") ^ 1, 0, n),
        "next step": normal(stream_key(0, "a"), 1, n),
        "step and 2^32": normal(stream_key(0, "a"), 2**32, n),
        "2^32 blocks on": normal(stream_key(0, "a"), 0, n, start=2**34),
        **{f"element + {k}": base[k : n + k] for k in (1, 2, 3, 4)},
    }
    for name, other in others.items():
        for a, b in ((base[:n], other.double()), (base[:n] ** 2, other.double() ** 2)):
            r = torch.corrcoef(torch.stack([a, b]))[0, 1]
            assert abs(r) * n**0.5 < 5, name


# --- arguments ----------------------------------------------------------------------------------------

GOOD = {"offsets": [0, 2, 4], "keys": [[1, 2], [3, 4]], "t": [0, 1], "sigma": [1.0, 1.0]}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"offsets": [0, 2, 5]}, "offsets must rise from 0 to 4"),
        ({"offsets": [0, 3, 2, 4]}, "offsets must rise"),
        ({"offsets": []}, "offsets must have shape"),
        ({"keys": [[1, 2]]}, r"keys must have shape \[2, 2\], got \[1, 2\]"),
        ({"keys": [[1, 2], [3, -4]]}, "keys must not be negative, got -4"),
        ({"keys": [[1, 2], [3, 0.5]]}, "keys must be integers"),
        ({"t": [0, -1]}, "t must not be negative, got -1"),
        ({"t": torch.ones(2)}, "t must be integers"),
        ({"sigma": [1.0, -0.5]}, "sigma must be finite and >= 0, got -0.5"),
        ({"sigma": [math.nan, 1.0]}, "sigma must be finite and >= 0, got nan"),
    ],
)
def test_bad_arguments_are_named(change, message):
    x = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=message):
        add_rows_(x, **(GOOD | change))
    assert x.count_nonzero() == 0


@pytest.mark.parametrize(
    "x, message",
    [
        (torch.zeros(4, 2).t(), "rows of x must be contiguous"),
        (torch.zeros(4).expand(2, 4), "must not overlap"),
        (torch.zeros(2, 4, dtype=torch.bfloat16), "matrix of float32 or float64, got torch.bfloat16"),
        (torch.zeros(8), "must be a matrix"),
    ],
)
def test_unusable_matrices_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        add_rows_(x, **GOOD)


def test_tensor_arguments_are_checked():
    with pytest.raises(ValueError, match="got 1 tensors and 2 keys"):
        add_([torch.zeros(2)], keys=[1, 2], t=0, sigma=1.0)
    with pytest.raises(ValueError, match="noise goes onto real floating-point tensors"):
        add_([torch.zeros(2, dtype=torch.int64)], keys=[1], t=0, sigma=1.0)
    with pytest.raises(ValueError, match="t must be an integer >= 0, got -1"):
        normal(0, -1, 3)


@pytest.fixture
def set_backend(monkeypatch):
    def choose(name):
        monkeypatch.setenv("GRADNOISE_BACKEND", name)
        forget()

    def forget():
        backend.cache_clear()
        api._module.cache_clear()

    yield choose
    forget()


def test_the_environment_chooses_the_backend(set_backend):
    x, y = torch.zeros(2, 3000), torch.zeros(2, 3000)
    arguments = {"offsets": [0, 1501, 3000], "keys": [[1, 2], [3, 4]], "t": [0, 5], "sigma": [1.0, 0.1]}
    add_rows_(x, **arguments)
    set_backend("torch")
    assert backend() == "torch"
    add_rows_(y, **arguments)
    assert same_bits(x, y) and same_bits(normal(5, 0, 3), reference_normal(5, 0, 3))


def test_an_unknown_backend_is_refused(set_backend):
    set_backend("fast")
    with pytest.raises(ValueError, match="GRADNOISE_BACKEND must be one of auto, numba, triton, torch, got 'fast'"):
        backend()


def test_without_numba_the_reference_takes_over(set_backend, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    set_backend("auto")
    assert backend() == "torch"
    set_backend("numba")
    with pytest.raises(ValueError, match="GRADNOISE_BACKEND=numba needs numba"):
        backend()


@pytest.mark.parametrize("backend", ["numba_kernels", "triton_kernels"])
def test_every_backend_has_what_the_reference_has(backend):
    # read, not imported: Triton may not be installed
    tree = ast.parse(Path(reference.__file__).with_name(f"{backend}.py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names |= {target.id for node in tree.body if isinstance(node, ast.Assign)
              for target in node.targets if isinstance(target, ast.Name)}  # fmt: skip
    assert {name for name in vars(reference) if name.endswith("_") and name[0] != "_"} <= names
