"""Where the noise goes in ablations: before the clip, or onto the weights."""

import pytest
import torch
from support.toys import Regression, all_with, replica

from gradnoise.noise.gaussian import normal, stream_key
from gradnoise.noise.schedule import Annealed, Fixed
from gradnoise.population import SGD, Adam, Population, PopulationError
from gradnoise.population.randomness import NOISE, WEIGHT_NOISE


def population(*members, optimizer=None):
    return Population(Regression(), all_with(members, optimizer=optimizer or SGD()), dtype=torch.float64)


def noise(run, engine, purpose, t):
    """The normal numbers of one update, as one row."""
    seed = run.seed_for(purpose)
    counts = [b - a for a, b in zip(engine.modules.offsets, engine.modules.offsets[1:], strict=False)]
    rows = [normal(stream_key(seed, n), t, k) for n, k in zip(engine.modules.names, counts, strict=True)]
    return torch.cat([torch.as_tensor(row, dtype=torch.float64) for row in rows])


def test_noise_before_the_clip_is_clipped_with_the_gradient():
    late, early = (
        replica(0, lr=1.0, noise=Fixed(2.0), clip=0.5),
        replica(0, lr=1.0, noise=Fixed(2.0), clip=0.5, noise_first=True),
    )
    engine = population(late, early)
    before = engine.modules.theta.clone()
    engine.step()
    g = before - engine.modules.theta
    assert g[1].norm() == pytest.approx(0.5)
    assert g[0].norm() > 2
    mine, other = engine.telemetry()["gradient_norm"]  # measured before the noise in both
    assert mine == other


def test_order_does_not_matter_without_a_clip():
    engine = population(replica(0, lr=0.1, noise=Fixed(1.0)), replica(0, lr=0.1, noise=Fixed(1.0), noise_first=True))
    for _ in range(3):
        engine.step()
    assert torch.equal(engine.modules.theta[0], engine.modules.theta[1])


def test_weight_noise_is_a_walk_of_its_own_stream():
    noisy = replica(0, lr=0.1, weight_noise=Annealed(0.04))
    engine = population(replica(0, lr=0.1), noisy)
    before = engine.modules.theta.clone()
    engine.step()
    difference = engine.modules.theta[1] - engine.modules.theta[0]
    assert torch.equal(before[0], before[1])
    torch.testing.assert_close(difference, 0.2 * noise(noisy, engine, WEIGHT_NOISE, 0), rtol=1e-6, atol=1e-9)
    assert not torch.allclose(difference, 0.2 * noise(noisy, engine, NOISE, 0))


def test_weight_noise_stays_when_neighbours_leave():
    members = [replica(i, lr=0.01, weight_noise=Annealed(0.1) if i else None) for i in range(3)]
    engine, other = population(*members, optimizer=Adam()), population(*members, optimizer=Adam())
    engine.select([1, 2])
    for _ in range(3):
        engine.step(), other.step()
    torch.testing.assert_close(engine.modules.theta, other.modules.theta[1:], rtol=0, atol=1e-12)


def test_a_checkpoint_of_other_weight_noise_is_refused():
    saved = population(replica(0, lr=0.1, weight_noise=Annealed(0.1))).state_dict()
    with pytest.raises(PopulationError, match="first sigma of weights"):
        population(replica(0, lr=0.1, weight_noise=Annealed(0.2))).load_state_dict(saved)


def test_weight_noise_that_is_no_schedule():
    with pytest.raises(PopulationError, match=r"weight_noise = 0\.1: a schedule"):
        replica(0, lr=0.1, weight_noise=0.1)
