"""Runs that have reached their goal leave early, after an exam that only they sit."""

import pytest
import torch
from support.toys import Regression, all_with, assert_close, parameters_of, replica, trajectories

from gradnoise.noise.schedule import Annealed
from gradnoise.population import Goal, Population

RUNS = [replica(seed, lr=0.05, noise=Annealed(0.1) if seed % 2 else None) for seed in range(4)]


class Small(Goal):
    """Outputs whose mean square is below a bar; the exam measures the square itself, and the first weight."""

    def __init__(self, bar: float = -1.0) -> None:
        self.bar = bar
        self.asked: list[int] = []

    def reached(self, metrics):
        return metrics["size"] < self.bar

    def exam(self, model, config):
        self.asked.append(config.width)
        x = torch.linspace(-2, 2, 12, dtype=model[0].weight.dtype).view(3, 4)
        return {"size": 10 + model(x).square().mean(), "first": model[0].weight[0, 0]}


def population(runs=RUNS, bar: float = -1.0, goal: Goal | None = None, **options) -> Population:
    experiment = Regression()
    experiment.goal = goal or Small(bar)
    return Population(experiment, runs, **({"trace": False, "dtype": torch.float64} | options))


def sizes(engine: Population) -> list[float]:
    """What the replicas score, without an exam."""
    return engine.evaluate()["size"].tolist()


# Leaving


def test_those_who_reached_it_leave_and_the_others_do_not_notice():
    engine, healthy = population(bar=1.0), population()
    trajectories(engine, 5), trajectories(healthy, 5)
    stay = engine.retire({"size": torch.tensor([0.0, 9.0, 0.0, 9.0])})
    assert stay == [1, 3] == engine.alive
    assert engine.finished == {0: 5, 2: 5} and engine.diverged == {}
    trajectories(engine, 5), trajectories(healthy, 5)
    expected = parameters_of(healthy)
    assert_close(parameters_of(engine), {i: expected[i] for i in (1, 3)})


def test_when_nobody_reached_it_all_stay():
    engine = population(bar=1.0)
    theta = engine.modules.theta
    assert engine.retire({"size": torch.full((4,), 9.0)}) == [0, 1, 2, 3]
    assert engine.alive == [0, 1, 2, 3] and engine.finished == {} and engine.modules.theta is theta


def test_when_all_reached_it_the_population_ends():
    engine = population(bar=1.0)
    assert engine.retire({"size": torch.zeros(4)}) == [] == engine.alive
    engine.step()
    assert engine.t == 0 and engine.evaluate() == {} and engine.finished == dict.fromkeys(range(4), 0)


def test_without_a_goal_nobody_leaves():
    engine = Population(Regression(), RUNS, trace=False)
    assert engine.retire({"size": torch.zeros(4)}) == [0, 1, 2, 3] == engine.alive


def test_early_stop_can_be_declined():
    runs = [*all_with(RUNS[:2], early_stop=False), *RUNS[2:]]
    engine = population(runs, bar=1.0)
    assert engine.retire({"size": torch.zeros(4)}) == [0, 1] == engine.alive
    assert engine.finished == {2: 0, 3: 0}
    engine.step()
    assert engine.retire({"size": torch.zeros(2)}) == [0, 1] and engine.finished == {2: 0, 3: 0}


def test_it_is_a_matter_of_the_whole_path():
    """`evaluate` and `retire` as a study calls them: who leaves has reached the goal in the exam, too."""
    engine = population(bar=20.0)  # all seem done; the exam adds 10 and more
    trajectories(engine, 2)
    metrics = engine.evaluate()
    assert (metrics["size"] > 10).all()
    engine.experiment.goal.bar = metrics["size"].sort().values[1:3].mean().item()
    done = (metrics["size"] < engine.experiment.goal.bar).nonzero().flatten().tolist()
    engine.retire(metrics)
    assert sorted(engine.finished) == done and len(done) == 2


def test_a_finished_replica_travels_in_checkpoints():
    engine, resumed = population(bar=1.0), population(bar=1.0)
    trajectories(engine, 3)
    engine.retire({"size": torch.tensor([9.0, 0.0, 9.0, 9.0])})
    resumed.load_state_dict(engine.state_dict())
    assert resumed.finished == {1: 3} and resumed.alive == [0, 2, 3]
    assert torch.equal(resumed.modules.theta, engine.modules.theta)


# The exam


@pytest.mark.parametrize("trace", [False, True])
def test_only_those_who_seem_done_sit_the_exam(trace):
    engine = population(trace=trace)
    trajectories(engine, 3)
    plain = torch.tensor(sizes(engine), dtype=torch.float64)
    assert not engine.experiment.goal.asked and "first" not in engine.evaluate()
    engine.experiment.goal.bar = plain.sort().values[1:3].mean().item()
    done = plain < engine.experiment.goal.bar
    found = engine.evaluate()
    assert done.sum() == 2 and found.keys() == {"mean", "size", "first"}
    assert torch.isnan(found["first"]).tolist() == (~done).tolist(), "only the exam has it"
    assert torch.equal(found["first"][done], engine.modules.theta[done, 0])
    assert torch.equal(found["size"][~done], plain[~done]) and (found["size"][done] > 10).all()
    assert engine.experiment.goal.asked, "vmap asks once for all"
    assert set(engine.experiment.goal.asked) == {5}


def test_the_metrics_of_an_exam_are_a_replicas_own():
    engine = population(bar=1e9)
    trajectories(engine, 3)
    together = engine.evaluate()
    for i, run in enumerate(RUNS):
        alone = population([run], bar=1e9)
        trajectories(alone, 3)
        for name, value in alone.evaluate().items():
            assert value[0].item() == pytest.approx(together[name][i].item(), rel=1e-11), name


def test_a_goal_without_an_exam():
    class Simple(Goal):
        def reached(self, metrics):
            return metrics["size"] < 1e9

    engine = population(goal=Simple())
    metrics = engine.evaluate()
    assert metrics.keys() == {"mean", "size"}
    assert engine.retire(metrics) == []


def test_an_exam_that_vmap_cannot_run():
    class Deciding(Small):
        def exam(self, model, config):
            found = super().exam(model, config)
            return found if found["size"].item() > 0 else {}

    engine, vmapped = population(goal=Deciding(1e9)), population(bar=1e9)
    assert {n: x.tolist() for n, x in engine.evaluate().items()} == {
        n: pytest.approx(x.tolist(), rel=1e-12) for n, x in vmapped.evaluate().items()
    }
    assert engine.modules.loop_reasons.keys() == {"exam"}


def test_an_exam_may_draw():
    class Random(Small):
        def exam(self, model, config):
            return {"size": torch.rand(())}

    first, again = (population(goal=Random(1e9)).evaluate()["size"] for _ in range(2))
    assert torch.equal(first, again) and len(set(first.tolist())) == len(first) > 1
