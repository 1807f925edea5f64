"""Clipping by the norm of a replica or of a tensor, before the noise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import Regression, changed, replica
from torch import nn

from gradnoise.noise.gaussian import normal, stream_key
from gradnoise.noise.schedule import Annealed
from gradnoise.population import Population, PopulationError, Replica
from gradnoise.population.clipping import clip_each_, clip_scale, norms

quick = settings(max_examples=100, deadline=None)
dtypes = st.sampled_from([torch.float32, torch.float64])


def random_rows(seed: int, rows: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(rows, 9, generator=generator, dtype=torch.float64)
    return (g * 10 ** (8 * torch.rand(rows, 1, generator=generator, dtype=torch.float64) - 4)).to(dtype)


def clip_(g: torch.Tensor, norm: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Multiply rows by their scale, in place; which were clipped, [P]."""
    scale, clipped = clip_scale(norm, c)
    g.mul_(scale[:, None])
    return clipped


@quick
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 5), c=st.floats(1e-3, 1e3), dtype=dtypes)
def test_the_law(seed, rows, c, dtype):
    before = random_rows(seed, rows, dtype)
    g, norm = before.clone(), norms(before)
    clipped = clip_(g, norm, torch.full((rows,), c, dtype=dtype))
    assert clipped.tolist() == [n > torch.tensor(c, dtype=dtype) for n in norm]
    for row, old, was_clipped in zip(g, before, clipped, strict=True):
        if was_clipped:
            assert row.norm() == pytest.approx(c, rel=1e-6)
            assert torch.dot(row / row.norm(), old / old.norm()) == pytest.approx(1, rel=1e-6)
        else:
            assert torch.equal(row, old)


@quick
@given(seed=st.integers(0, 2**32), c=st.floats(1e-3, 1e3))
def test_equals_torch(seed, c):
    g = random_rows(seed, 3, torch.float64)
    p = nn.Parameter(torch.zeros(9, dtype=torch.float64))
    expected = torch.empty_like(g)
    for row, out in zip(g, expected, strict=True):
        p.grad = row.clone()
        nn.utils.clip_grad_norm_([p], c)
        out.copy_(p.grad)
    clip_(g, norms(g), torch.full((3,), c, dtype=torch.float64))
    assert torch.allclose(g, expected, rtol=2e-6 / c + 1e-6)  # torch divides by the norm + 1e-6


def test_rows_have_their_own_threshold():
    g = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [0.0, -0.0]])
    clipped = clip_(g, norms(g), torch.tensor([1.0, 5.0, math.inf, 1.0]))
    assert clipped.tolist() == [True, False, False, False]
    assert torch.allclose(g[0], torch.tensor([0.6, 0.8]))
    assert g[1:].tolist() == [[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]]
    assert torch.signbit(g[3]).tolist() == [False, True]


def test_a_neighbours_nan_stays_where_it_is():
    g = torch.tensor([[3.0, 4.0], [math.nan, 1.0], [math.inf, 1.0], [6.0, 8.0]])
    clip_(g, norms(g), torch.tensor([10.0, 1.0, 1.0, 1.0]))
    assert g[0].tolist() == [3.0, 4.0] and torch.allclose(g[3], torch.tensor([0.6, 0.8]))


def test_each_tensor_by_its_own_norm():
    flat = torch.arange(1.0, 15.0, dtype=torch.float64).view(2, 7)
    before = flat.clone()
    segments = [flat[:, :4].view(2, 2, 2), flat[:, 4:6], flat[:, 6]]  # the last is a scalar parameter
    clipped = clip_each_(segments, torch.tensor([7.5, 1e9], dtype=torch.float64))
    assert clipped.tolist() == [True, False]
    assert torch.equal(flat[1], before[1])
    # Norms of replica 0: 5.48, 7.81 and 7; only the second exceeds 7.5.
    assert torch.equal(flat[0, :4], before[0, :4]) and flat[0, 6] == 7.0
    assert torch.allclose(flat[0, 4:6], before[0, 4:6] * 7.5 / 61**0.5)


def first_update(run: Replica) -> tuple[Population, torch.Tensor]:
    """A population after its first update, and what went into the optimizer [N]."""
    population = Population(Regression(), [changed(run, lr=1.0)], dtype=torch.float64, trace=False)
    before = population.modules.theta.clone()
    population.step()
    return population, (before - population.modules.theta)[0]


def noise(population: Population, sigma: float) -> torch.Tensor:
    seed, rows = population.replicas[0].seed_for("noise"), population.modules
    z = [normal(stream_key(seed, n), 0, s.numel()) for n, s in zip(rows.names, rows.shapes, strict=True)]
    return sigma * torch.cat(z).double()


def test_noise_comes_after_the_clip():
    # Clipping after adding would leave a norm of 0.01 instead of about 2 sqrt(N).
    run = replica(0, lr=1.0, clip=0.01, noise=Annealed(4.0))
    population, applied = first_update(run)
    _, bare = first_update(changed(run, clip=None, noise=None))
    z = noise(population, 2.0)
    assert (applied - z).norm().item() == pytest.approx(0.01, rel=1e-9)
    assert torch.allclose(applied - z, bare * 0.01 / bare.norm(), atol=1e-12)
    assert applied.norm() > 5


def test_clip_per_tensor_in_a_population():
    population, applied = first_update(replica(0, clip=0.01, clip_per="tensor"))
    sizes = [part.norm().item() for part in applied.split([s.numel() for s in population.modules.shapes])]
    assert len(sizes) == 4 and sizes == pytest.approx([0.01] * 4, rel=1e-9)
    assert population.telemetry()["clipped"].tolist() == [1.0]


def test_telemetry_is_of_the_unclipped_gradient():
    plain = replica(0, lr=0.1)
    runs = [plain, changed(plain, clip=1e-3), changed(plain, clip=1e3, noise=Annealed(0.09))]
    population = Population(Regression(), runs, dtype=torch.float64, trace=False)
    _, bare = first_update(plain)
    root = math.sqrt(len(bare))
    population.step()
    first = population.telemetry()
    assert first["gradient_norm"].tolist() == pytest.approx([bare.norm().item()] * 3, rel=1e-12)
    assert first["clipped"].tolist() == [0.0, 1.0, 0.0]
    assert first["noise_norm"].tolist() == pytest.approx([0.0, 0.0, 0.3 * root])
    population.step()
    assert population.telemetry()["noise_norm"][2].item() == pytest.approx(0.3 * 2 ** (-0.55 / 2) * root)


def test_telemetry_is_a_mean_since_the_last_reset():
    def two_updates(reset: bool) -> list[dict[str, float]]:
        population = Population(Regression(), [replica(0, lr=0.1)], dtype=torch.float64, trace=False)
        seen = []
        for _ in range(2):
            population.step()
            seen.append({name: x.item() for name, x in population.telemetry().items()})
            if reset:
                population.reset_telemetry()
        return seen

    first, second = two_updates(reset=True)
    same, both = two_updates(reset=False)
    assert same == first and first["train_loss"] != second["train_loss"]
    for name, value in both.items():
        assert value == pytest.approx((first[name] + second[name]) / 2, rel=1e-12)


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_thresholds_out_of_range(clip):
    with pytest.raises(PopulationError, match="a threshold is > 0, or None for no clipping"):
        replica(0, lr=0.1, clip=clip)


def test_unknown_scope():
    with pytest.raises(PopulationError, match="'layer': allowed are 'replica' and 'tensor'"):
        replica(0, clip_per="layer")


def test_an_infinite_threshold_is_none():
    paths = []
    for clip in (None, math.inf):
        population = Population(Regression(), [replica(0, lr=0.1, clip=clip)], trace=False)
        for _ in range(3):
            population.step()
        paths.append(population.modules.theta)
    assert torch.equal(*paths)
