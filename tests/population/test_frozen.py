"""Python code that changes during training is found out, however slowly it does, before a recording repeats it."""

import pytest
import torch
from support.toys import Regression, all_with, assert_close, plain, replica, trajectories
from torch import Tensor

from gradnoise.noise.schedule import Annealed
from gradnoise.population import Course, Population, PopulationError
from gradnoise.population.frozen import Transcript

RUNS = [replica(0, lr=0.05), replica(1, lr=0.02, noise=Annealed(0.1)), replica(1, lr=0.02)]
WARM_UP = 100_000


def population(experiment: Regression, runs=RUNS, **options) -> Population:
    return Population(experiment, runs, **({"dtype": torch.float64} | options))


class Weighted(Regression):
    """A loss with a part that warms up, as the KL divergence of a variational autoencoder does."""

    def weight(self):
        raise NotImplementedError

    def loss(self, model, batch, config):
        x, y = batch
        out = model(x)
        return ((out - y) ** 2).mean() + self.weight() * (out**2).mean()


class Counter(Weighted):
    calls = 0

    def weight(self):
        self.calls += 1
        return min(1.0, self.calls / WARM_UP)


class CounterAsTensor(Counter):
    def weight(self):
        return torch.tensor(super().weight(), dtype=torch.float64)


class FullOfCounter(Counter):
    def weight(self):
        return torch.full((), super().weight(), dtype=torch.float64)


class Replaced(Counter):
    """A tensor that is another one in each update."""

    def weight(self):
        self.kept = torch.tensor(super().weight(), dtype=torch.float64)
        return self.kept


class Told(Weighted):
    """Knows the update from `batch`."""

    t = 0

    def batch(self, seed, t, config):
        self.t = t
        return super().batch(seed, t, config)

    def weight(self):
        return min(1.0, self.t / WARM_UP)


class Branch(Told):
    """Another operation from some update on."""

    def loss(self, model, batch, config):
        return super().loss(model, batch, config) if self.t < 1 else super().loss(model, batch, config).abs()


class InTheModel(Regression):
    def __init__(self) -> None:
        super().__init__(lambda config: Slowing())


class Slowing(torch.nn.Module):
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) * (1 + self.calls / WARM_UP)


@pytest.mark.parametrize(
    "experiment",
    [Counter, CounterAsTensor, FullOfCounter, Replaced, Told, Branch, InTheModel],
    ids=lambda kind: kind.__name__,
)
def test_it_is_found_in_the_first_update(experiment):
    engine = population(experiment())
    with pytest.raises(
        PopulationError, match=r"another path through its Python code.*loss\(self, model, batch, config, t\)"
    ):
        engine.step()
    assert engine.t == 0


def test_a_tensor_from_outside_is_seen_where_what_was_computed_lay_before():
    x = torch.zeros_like(torch.get_rng_state())
    with Transcript(x) as seen:
        for _ in range(20):
            x + 1  # its memory is free at once, and the next tensor of this size gets it
            torch.equal(torch.get_rng_state(), x)
    compared = [numbers for name, *numbers in seen.path if name == "aten.equal.default"]
    assert len(compared) == 20 and all(state is not None and given is None for state, given in compared)


def test_what_changes_later_is_found_at_the_next_evaluation():
    class Late(Told):
        def weight(self):
            return 0.5 if self.t < 3 else 0.5 + 1e-6 * self.t

    engine = population(Late())
    trajectories(engine, 2)
    engine.evaluate()
    trajectories(engine, 1)
    with pytest.raises(PopulationError, match=r"aten.mul.Tensor had 0.5 and now has 0.500003"):
        engine.evaluate()


def test_a_loop_would_count_each_replica():
    class Looping(Counter):
        def loss(self, model, batch, config):
            loss = super().loss(model, batch, config)
            return loss if loss.item() > 0 else -loss

    for trace in (True, False):
        with pytest.raises(PopulationError, match="another path through its Python code"):
            population(Looping(), trace=trace).step()
    assert population(Looping(), RUNS[:1], trace=False).step() is None


def test_without_a_recording_a_counter_counts():
    engine, told = population(Counter(), trace=False), population(Told(), trace=False)
    trajectories(engine, 3), trajectories(told, 3)
    assert engine.experiment.calls == 4, "the first update looks at the loss twice"
    told.evaluate()


# The update as a tensor


class WarmUp(Regression):
    def loss(self, model, batch, config, t):
        x, y = batch
        out = model(x)
        return ((out - y) ** 2).mean() + torch.clamp(t.to(out.dtype) / 20, max=1.0) * (out**2).mean()


@pytest.mark.parametrize("runs", [RUNS, RUNS[1:]], ids=["own minibatches", "one for all"])
def test_the_loss_asks_for_the_update(runs):
    replayed, interpreted, told = population(WarmUp(), runs), population(WarmUp(), runs, trace=False), Told20()
    by_hand = population(told, runs, trace=False)
    paths = [trajectories(engine, 30) for engine in (replayed, interpreted, by_hand)]
    assert_close(paths[0], paths[1])
    assert_close(paths[1], paths[2])
    replayed.evaluate()


class Told20(Told):
    def weight(self):
        return min(1.0, self.t / 20)


def test_it_stays_right_when_the_population_shrinks_and_resumes():
    whole, parts, resumed = (population(WarmUp()) for _ in range(3))
    expected = trajectories(whole, 8)
    trajectories(parts, 4)
    resumed.load_state_dict(parts.state_dict())
    parts.select([0, 2])
    for engine in (parts, resumed):
        for i, path in trajectories(engine, 4).items():
            assert torch.allclose(path, expected[i][4:], rtol=1e-12)


def test_with_a_course_dropout_and_a_loop():
    class Carried(Course):
        def start(self, config):
            return {"scale": torch.ones(())}

    class All(WarmUp):
        course = Carried()

        def loss(self, model, batch, config, t):
            loss = super().loss(model, batch[0], config, t) * batch[1]["scale"]
            return loss if not self.looping or loss.item() > 0 else -loss

    from support.toys import Net

    vmapped, looping = (All(lambda config: Net()) for _ in range(2))
    vmapped.looping, looping.looping = False, True
    runs = all_with(RUNS, dropout=0.2)
    assert_close(trajectories(population(vmapped, runs), 6), trajectories(population(looping, runs), 6), 1e-10)
