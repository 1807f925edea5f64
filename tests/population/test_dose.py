"""Relative noise, noise that ends, and anticorrelated noise in populations: what `attach` does to one run."""

import pytest
import torch
from support.toys import Regression, assert_same, only, replica, trajectories
from torch.func import functional_call

from gradnoise import Annealed, Fixed, Relative, attach
from gradnoise.noise.gaussian import normal, stream_key
from gradnoise.population import SGD, Population, PopulationError, Replica, Training
from gradnoise.population.randomness import BATCHES, INIT, NOISE, seeded

RELATIVE = replica(0, lr=0.05, noise=Relative(0.5))
DOSES = (
    RELATIVE,
    replica(0, lr=0.05),
    replica(0, lr=0.05, noise=Relative(0.5), clip=0.5),
    replica(1, lr=0.05, noise=Relative(2.0, to="clip", clip=0.3, until=6), clip=0.3),
    replica(1, lr=0.05, noise=Annealed(0.01, until=0.05)),
    replica(1, lr=0.05, noise=Annealed(0.01)),
    replica(2, lr=0.05, noise=Annealed(0.01), anti_pgd=True),
    replica(2, lr=0.05, noise=Relative(0.3), anti_pgd=True),
    replica(3, lr=0.05, noise=Relative(0.3), noise_first=True, clip=0.5, anti_pgd=True),
)


def population(*runs, dtype=torch.float64):
    return Population(Regression(), runs, dtype=dtype)


def alone(run: Replica, steps: int) -> torch.Tensor:
    """The same run as an ordinary loop with `attach`; returns the parameters [N]."""
    experiment, training = Regression(), run.training
    with seeded(run.seed_for(INIT)):
        model = experiment.model(experiment.Config()).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=training.lr)
    attach(
        optimizer, training.noise, seed=run.seed_for(NOISE), named_parameters=model.named_parameters(),
        anti_pgd=training.anti_pgd, warn=False,
    )  # fmt: skip
    for t in range(steps):
        optimizer.zero_grad()
        batch = experiment.batch(run.seed_for(BATCHES), t, experiment.Config())
        experiment.loss(lambda x: functional_call(model, {}, (x,)), batch, experiment.Config()).backward()
        if training.clip is not None:
            norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
            for p in model.parameters():  # clip_grad_norm_ adds 1e-6 to the norm
                p.grad *= (training.clip / norm).clamp(max=1)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("which", [0, 2, 3, 4, 5, 6, 7])
def test_a_row_is_what_attach_makes_of_an_ordinary_loop(which):
    together = trajectories(population(*DOSES), 12)[which][-1]
    assert torch.allclose(together, alone(DOSES[which], 12), rtol=1e-9, atol=1e-12)


def test_neighbours_change_no_bit():
    together = trajectories(population(*DOSES), 10)
    for i in range(len(DOSES)):
        assert torch.equal(together[i], trajectories(population(*only(DOSES, [i])), 10)[0]), i


def test_the_noise_is_rho_times_the_clipped_gradient():
    engine = population(replica(0, lr=1.0, noise=Relative(0.5), clip=0.1), replica(0, lr=1.0, clip=0.1))
    before = engine.modules.theta.clone()
    engine.step()
    noisy, plain = before - engine.modules.theta
    assert float(plain.norm()) == pytest.approx(0.1)
    seed = RELATIVE.seed_for(NOISE)
    names, offsets = engine.modules.names, engine.modules.offsets
    z = torch.cat([normal(stream_key(seed, n), 0, b - a) for n, a, b in zip(names, offsets, offsets[1:], strict=False)])
    sigma = 0.5 * 0.1 / len(z) ** 0.5
    assert torch.allclose(noisy - plain, sigma * z.double(), rtol=1e-5, atol=1e-12)
    assert engine.telemetry()["noise_norm"].tolist() == pytest.approx([0.05, 0.0])


def test_noise_ends_by_step_and_by_share_and_a_checkpoint_remembers():
    runs = (
        replica(0, lr=0.05, noise=Fixed(0.2, until=3)),
        replica(0, lr=0.05, noise=Fixed(0.05, until=0.9)),
        replica(0, lr=0.05, noise=Relative(0.5, until=0.45)),
    )
    engine = population(*runs)
    norms = []
    for _ in range(8):
        engine.step()
        norms.append(engine.telemetry()["noise_norm"].tolist())
    by_step, by_share, relative = zip(*norms, strict=True)
    assert [bool(x) for x in by_step] == [True] * 3 + [False] * 5
    assert by_share[0] > 0 and by_share[-1] == 0 and sorted(by_share, reverse=True) == list(by_share)
    assert [bool(x) for x in relative] == [t < runs[2].training.noise.end for t in range(8)]
    state = {k: torch.clone(v) if isinstance(v, torch.Tensor) else v for k, v in engine.state_dict().items()}
    resumed = population(*runs)
    resumed.load_state_dict(state)
    assert_same(trajectories(engine, 4), trajectories(resumed, 4))


def test_checkpoints_without_such_noise_are_as_they_were():
    assert "noise" not in population(replica(0, lr=0.1, noise=Annealed(0.1))).state_dict()
    saved = population(RELATIVE).state_dict()
    with pytest.raises(PopulationError, match=r"first sigma Relative\(rho=0.1"):
        population(replica(0, lr=0.05, noise=Relative(0.1))).load_state_dict(saved)
    late = population(replica(0, lr=0.1, noise=Annealed(0.1, until=5))).state_dict()
    with pytest.raises(PopulationError, match="until 5"):
        population(replica(0, lr=0.1, noise=Annealed(0.1))).load_state_dict(late)


def test_a_row_that_ends_leaves_its_neighbours_alone():
    poisoned = Regression(poison={5: 2})
    runs = [replica(s, lr=0.05, noise=Relative(0.5, until=0.4)) for s in (4, 5, 6)]
    both = trajectories(Population(poisoned, runs, dtype=torch.float64), 6)
    assert len(both[1]) < 6
    for i in (0, 2):
        single = trajectories(Population(poisoned, [runs[i]], dtype=torch.float64), 6)[0]
        assert torch.equal(both[i], single)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_noise": Relative(0.1)}, "noise on weights has no gradient to be compared with"),
        ({"weight_noise": Annealed(0.1, until=0.1)}, "noise on weights has no gradient to be compared with"),
        ({"noise": Relative(0.1, to="clip", clip=1.0)}, "relative to a clip of 1.0, but clip = None"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(PopulationError, match=message):
        Training(**settings)


def test_momentum_sees_the_anticorrelated_noise():
    runs = [replica(0, lr=0.05, noise=Fixed(0.5), anti_pgd=anti, optimizer=SGD()) for anti in (True, False)]
    start = population(replica(0, lr=0.05)).modules.theta
    steady, walking = population(*runs), population(replica(0, lr=0.05))
    ends = trajectories(steady, 60)
    quiet = trajectories(walking, 60)[0][-1]
    assert (ends[0][-1] - quiet).norm() < (ends[1][-1] - quiet).norm()
    assert start.shape[1] == len(quiet)


class Patient(Regression):
    patience = 3


@pytest.mark.parametrize("noise", [Annealed(0.01), Relative(0.3)], ids=repr)
def test_a_skipped_update_leaves_its_noise_to_the_next(noise):
    """Taken away is the last noise that stayed, which is not that of the update before."""
    run = replica(0, lr=0.05, noise=noise, anti_pgd=True)
    bare = Population(Regression(), [replica(0, lr=0.05)], dtype=torch.float64)
    engine = Population(Patient(poison={0: 2}), [run], dtype=torch.float64)
    names, offsets = engine.modules.names, engine.modules.offsets
    left = torch.zeros(offsets[-1], dtype=torch.float64)
    for t in range(5):
        before = engine.modules.theta.clone()
        engine.step()
        if t == 2:
            assert torch.equal(engine.modules.theta, before)
            continue
        bare.modules.theta.copy_(before)
        bare.skip(t)
        bare.step()
        gradient = (before - bare.modules.theta)[0] / 0.05
        seed = run.seed_for(NOISE)
        pieces = zip(names, offsets, offsets[1:], strict=False)
        z = torch.cat([normal(stream_key(seed, n), t, b - a) for n, a, b in pieces])
        size = noise(t) ** 0.5 if callable(noise) else noise.ratio(t) * float(gradient.norm()) / len(z) ** 0.5
        added = size * z.double()
        moved = (bare.modules.theta - engine.modules.theta)[0] / 0.05
        assert torch.allclose(moved, added - left, rtol=1e-5, atol=1e-7), t
        left = added


def test_noise_of_parameters_by_name_has_their_norm_in_the_telemetry():
    runs = [replica(0, lr=0.05, noise=Fixed(1.0, until=u), noise_on=("*bias",)) for u in (None, 1e-9)]
    engine = population(*runs)
    names, offsets = engine.modules.names, engine.modules.offsets
    biases = sum(b - a for n, a, b in zip(names, offsets, offsets[1:], strict=False) if n.endswith("bias"))
    engine.step()
    assert engine.telemetry()["noise_norm"].tolist() == pytest.approx([biases**0.5] * 2)


def test_noise_that_was_taken_from_nowhere_is_refused():
    with pytest.raises(PopulationError, match="noise_on='nonzero' adds none there"):
        Training(noise=Annealed(0.1), anti_pgd=True, noise_on="nonzero")
