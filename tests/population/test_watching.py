"""What becomes of gradients: norm after the clip, noise, and the direction of the update, against a loop by hand."""

import pytest
import torch
from support.toys import Regression, replica

from gradnoise import Annealed
from gradnoise.population import L2, SGD, Adam, Population
from gradnoise.population.watching import WATCHED


class Watched(Regression):
    watch_updates = True


def run(experiment, *runs, steps=3):
    p = Population(experiment, runs, dtype=torch.float64)
    for _ in range(steps):
        p.step()
    return p


def test_what_is_recorded_is_what_happens():
    """One update of plain SGD at a time: the update is minus the noisy gradient, the noise what an update adds."""
    silent, noisy = (replica(3, lr=1.0, clip=0.2, noise=noise) for noise in (None, Annealed(0.01)))
    one, other = (
        Population(Watched(), [silent], dtype=torch.float64),
        Population(Watched(), [noisy], dtype=torch.float64),
    )
    cosines, ratios, norms = [], [], []
    for _ in range(4):
        before = other.modules.theta.clone()
        one.modules.theta.copy_(before)
        one.step()
        other.step()
        gradient, update = before - one.modules.theta, other.modules.theta - before
        norms.append(gradient.norm().item())
        ratios.append((update + gradient).norm().item() / norms[-1])
        cosines.append(torch.cosine_similarity(update, -gradient).item())
    found = other.telemetry()
    assert found["clipped_norm"].item() == pytest.approx(sum(norms) / 4)
    assert max(norms) == pytest.approx(0.2) and found["gradient_norm"].item() > found["clipped_norm"].item()
    assert found["noise_to_gradient"].item() == pytest.approx(sum(ratios) / 4)
    assert found["update_cosine"].item() == pytest.approx(sum(cosines) / 4)
    plain = one.telemetry()
    assert plain["update_cosine"].item() == pytest.approx(1) and not plain["noise_to_gradient"].any()
    assert "gradient_over_eps" not in found  # SGD has no eps


def test_the_gradient_in_units_of_eps():
    p = run(Watched(), replica(0, lr=0.1, clip=0.2, optimizer=Adam(eps=1e-3)))
    found = p.telemetry()
    root = p.modules.theta.shape[1] ** 0.5
    assert found["gradient_over_eps"].item() == pytest.approx(found["clipped_norm"].item() / root / 1e-3)
    assert 0 < found["update_cosine"].item() < 1


def test_watching_changes_no_bit_and_is_off_by_default():
    runs = [replica(s, lr=0.1, clip=1.0, noise=Annealed(0.1), optimizer=L2(SGD(0.9), 0.01)) for s in range(3)]
    watched, plain = run(Watched(), *runs), run(Regression(), *runs)
    assert torch.equal(watched.modules.theta, plain.modules.theta)
    assert not set(WATCHED) & plain.telemetry().keys()
    alone = run(Watched(), runs[1]).telemetry()
    for name in WATCHED[:-1]:
        torch.testing.assert_close(alone[name][0], watched.telemetry()[name][1])


def test_means_begin_anew_and_go_through_checkpoints():
    runs = [replica(0, lr=0.1), replica(1, lr=0.1)]
    whole, again = run(Watched(), *runs, steps=5), Population(Watched(), runs, dtype=torch.float64)
    again.load_state_dict(run(Watched(), *runs, steps=2).state_dict())
    for _ in range(3):
        again.step()
    assert torch.equal(again.telemetry()["clipped_norm"], whole.telemetry()["clipped_norm"])
    whole.reset_telemetry()
    assert not whole.telemetry()["clipped_norm"].any()
    whole.select([1])
    whole.step()
    assert whole.telemetry()["clipped_norm"].shape == (1,)
