"""Training NRAMs: replicas do not see each other, easy tasks are learnt, the study runs."""

from dataclasses import replace

import pytest
import torch

from gradnoise.noise.gaussian import backend
from gradnoise.noise.schedule import Annealed
from gradnoise.paper import load_system
from gradnoise.paper.nram import Lesson, NRAMExperiment
from gradnoise.population import Adam, Draws, Population, Replica, Training
from gradnoise.study import StudyError, run_study

Config = NRAMExperiment.Config
SETTINGS = Config(registers=4, units=16, batch_size=20, entropy=1e-4, half_life=300)


def replica(seed, config=SETTINGS, **training):
    return Replica(seed, Training(**{"lr": 0.01, "optimizer": Adam()} | training), config)


def replicas(count=4):
    return [
        replica(i // 2, replace(SETTINGS, stop_bias=-4.0 * (i % 2), value_clip=[None, 10.0][i % 2], gain=1.0 + i),
                noise=Annealed(1.0) if i % 2 else None, clip=10.0)
        for i in range(count)
    ]  # fmt: skip


def small():
    return NRAMExperiment(Lesson.of("listk", cells=8, most=2, steps=4, evaluated=50, confirmed=60))


def trained(members, steps=6, trace=False):
    population = Population(small(), members, trace=trace)
    for _ in range(steps):
        population.step()
    return population


def test_replicas_do_not_see_each_other():
    together = trained(replicas(), trace=True)
    backwards = trained(replicas()[::-1])
    torch.testing.assert_close(backwards.modules.theta.flip(0), together.modules.theta, rtol=0, atol=1e-4)
    for i in (0, 3):
        alone = trained(replicas()[i : i + 1])
        torch.testing.assert_close(alone.modules.theta[0], together.modules.theta[i], rtol=0, atol=1e-4)


@pytest.mark.skipif(backend() != "numba", reason="sums of the interpreted circuit depend on the size of the population")
def test_no_bit_depends_on_the_size_of_the_population():
    # so that a study comes out the same however it was cut into populations
    config = replace(SETTINGS, entropy=0.1, units=8, gain=3.0)
    members = [replica(seed, config, noise=Annealed(1.0), clip=10.0) for seed in range(16)]
    large, small = (trained(members[:count], 120, trace=True) for count in (16, 3))
    assert torch.equal(large.modules.theta[:3], small.modules.theta)
    assert all(torch.equal(x[:3], y) for x, y in zip(large.evaluate().values(), small.evaluate().values(), strict=True))


def test_a_replica_of_nans_leaves_the_others_as_they_are():
    together, broken = (Population(small(), replicas(), trace=False) for _ in range(2))
    broken.modules.theta[2] = torch.nan
    before = broken.modules.theta.clone()
    for _ in range(3):
        together.step(), broken.step()
    rest = torch.tensor([0, 1, 3])
    assert torch.equal(together.modules.theta[rest], broken.modules.theta[rest])
    assert broken.modules.theta[2].isnan().all() and before[2].isnan().all()
    assert broken.telemetry()["skipped"].tolist() == [0, 0, 3, 0]


def test_access_is_learnt():
    experiment = NRAMExperiment(Lesson.of("access", 6, 3, 3, evaluated=200, confirmed=500))
    settings = Config(registers=4, units=24, gain=3.0, stop_bias=-4.0, value_clip=10.0, batch_size=30)
    population = Population(experiment, [replica(seed, settings, clip=10.0) for seed in range(8)])
    for _ in range(200):
        population.step()
    assert (population.evaluate()["error"] == 0).sum() > 4


def test_the_smoke_study(tmp_path):
    results = run_study(load_system("nram").study("smoke"), tmp_path)
    assert len(results.trials) == 8
    assert all(t.status == "finished" and t.step == 6 for t in results.trials)
    assert {"solved", "error", "hard_error", "steps", "level", "skipped"} <= results.trials[0].final.keys()


def test_the_paper_study_is_paired_and_complete():
    study = load_system("nram").study("paper")
    trials = list(study.trials())
    assert len({t.id for t in trials}) == 3 * 4 * 100
    assert {a.values["noise"].eta if a.values else 0 for a in study.arms} == {0, 0.01, 0.3, 1.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("large",), "scales are smoke, quick, paper"),
        (("quick", "mnist"), "makes its data itself"),
        (("quick", "auto", 0), "give 1 or more"),
    ],
)
def test_studies_that_are_none(arguments, message):
    with pytest.raises(StudyError, match=message):
        load_system("nram").study(*arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [({"value_clip": 0.0}, "value_clip C1"), ({"entropy": -1.0}, "entropy"), ({"half_life": 0}, "half_life"),
     ({"registers": 0}, "registers R"), ({"units": 0}, "units H"), ({"controller": "gru"}, "lstm, mlp"),
     ({"batch_size": 0}, "batch_size B")],
)  # fmt: skip
def test_settings_out_of_range(config, message):
    with pytest.raises(ValueError, match=message):
        Population(small(), [Replica.of(small(), 0, config)]).step()


def test_an_unknown_task():
    with pytest.raises(ValueError, match="unknown task 'sort': there are access"):
        Lesson.of("sort")


def test_lessons_may_differ_from_row_to_row():
    short, long = (Lesson.of("access", m, m - 2, 3, evaluated=20, confirmed=20) for m in (4, 6))
    experiment = NRAMExperiment(short, long)
    for lesson in (short, long):
        population = Population(experiment, [replica(0, replace(SETTINGS, lesson=lesson.name))], trace=False)
        population.step()
        state = population.state_dict()["course"]
        made = experiment.course.batch(Draws([0], 1), state, population.config)
        assert made["memory"].shape == (1, 20, lesson.task.cells)
        assert state["most"].tolist() == [lesson.task.most]
        assert "error" in population.evaluate()
    with pytest.raises(ValueError, match="no lesson 'sort'"):
        Population(experiment, [replica(0, Config(lesson="sort"))])


def test_too_few_steps_for_a_list():
    with pytest.warns(UserWarning, match="needs n_max \\+ 2"):
        Lesson.of("listk", 12, 4, 5, evaluated=2, confirmed=2)


def clipped_update(**values):
    """Norm of what the optimizer gets in the first update, with a tiny clip, and the number of parameters."""
    seen = {}

    class Spy(Adam):
        def update(self, theta, g, state, lr, t):
            seen["norm"] = g.norm().item()

    config = replace(SETTINGS, gain=3.0)
    population = Population(small(), [replica(0, config, clip=1.0, optimizer=Spy(), **values)], trace=False)
    population.modules.theta.mul_(3)
    population.step()
    assert population.telemetry()["gradient_norm"] > 5
    return seen["norm"], population.modules.theta.shape[1]


def test_noise_is_added_after_the_clip():
    norm, count = clipped_update(noise=Annealed(0.3))
    assert abs(norm**2 / (1 + 0.3 * count) - 1) < 0.1
    assert abs(clipped_update(noise=Annealed(0.3), noise_first=True)[0] - 1) < 1e-4
    assert abs(clipped_update()[0] - 1) < 1e-4


def test_no_noise_is_noise_of_strength_zero():
    plain, zero = (trained([replica(3, noise=noise, clip=10.0)], 3) for noise in (None, Annealed(0.0)))
    assert torch.equal(plain.modules.theta, zero.modules.theta)


def test_ablations_cover_every_row_of_the_specification():
    study = load_system("nram").study("paper", study="ablations")
    trials = list(study.trials())
    assert len({t.id for t in trials}) == len(trials)
    kinds = {
        "fixed": lambda c: type(c.get("noise")).__name__ == "Fixed",
        "batch": lambda c: c["batch_size"] in (10, 25),
        "weights": lambda c: "weight_noise" in c,
        "before clip": lambda c: c.get("noise_first"),
        "no curriculum": lambda c: c.get("curriculum") is False,
        "to the end": lambda c: c.get("early_stop") is False,
    }
    for name, holds in kinds.items():
        assert any(holds(t.config) for t in trials), name
    free = [t for t in trials if t.row == "A-values-free"]
    assert {t.arm for t in free} == {"none", "eta-1.0"}
    assert all(t.config["value_clip"] is None for t in free)
