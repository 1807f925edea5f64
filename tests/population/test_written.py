"""A forward pass that writes into weights trains what a plain loop trains, or is refused; never a third thing."""

import pytest
import torch
from support.toys import FEATURES, Regression, replica
from torch import nn

from gradnoise.population import Experiment, Population, PopulationError, check_experiment
from gradnoise.population.gradients import LOSS
from gradnoise.population.probe import probe
from gradnoise.population.randomness import BATCHES, INIT, seeded

pytestmark = pytest.mark.filterwarnings("ignore::gradnoise.population.fallbacks.SlowOperation")
LR, STEPS, LIMIT = 0.05, 6, 0.2


class Writer(nn.Module):
    """A line whose forward pass in training also does what its class says."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(FEATURES, 1)
        self.register_buffer("mean", torch.zeros(FEATURES))

    def forward(self, x):
        if self.training:
            self.write(x.detach().mean(0))
        return self.line(x - self.mean).squeeze(-1)

    def write(self, mean):
        raise NotImplementedError


class Clamps(Writer):
    def write(self, mean):
        with torch.no_grad():
            for p in self.parameters():
                p.clamp_(-LIMIT, LIMIT)


class Shrinks(Writer):
    """Twice is another thing than once."""

    def write(self, mean):
        with torch.no_grad():
            self.line.bias.mul_(0.5)


class ClampsData(Writer):
    def write(self, mean):
        for p in self.parameters():
            p.data.clamp_(-LIMIT, LIMIT)


class ReplacesData(Writer):
    def write(self, mean):
        for p in self.parameters():
            p.data = p.data.clamp(-LIMIT, LIMIT)


class ReplacesBuffersData(Writer):
    def write(self, mean):
        self.mean.data = 0.9 * self.mean + 0.1 * mean


class SetsBuffer(Writer):
    def write(self, mean):
        self.mean.set_(0.9 * self.mean + 0.1 * mean)


class Buffer(Writer):
    """What is allowed in any case."""

    def write(self, mean):
        self.mean = 0.9 * self.mean + 0.1 * mean


class Assigns(Writer):
    def write(self, mean):
        self.line.weight = nn.Parameter(self.line.weight.detach().clamp(-LIMIT, LIMIT))


def alone(experiment: Experiment, seed: int) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The model of a plain loop after training, and its metrics."""
    run, config = replica(seed, lr=LR), experiment.Config()
    with seeded(run.seed_for(INIT)):
        model = experiment.model(config).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for t in range(STEPS):
        optimizer.zero_grad()
        experiment.loss(model, experiment.batch(run.seed_for(BATCHES), t, config), config).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return model, dict(experiment.evaluate(model, experiment.held_out(config), config))


def together(experiment: Experiment, seeds: tuple[int, ...], trace: bool) -> Population:
    population = Population(experiment, [replica(s, lr=LR) for s in seeds], dtype=torch.float64, trace=trace)
    for _ in range(STEPS):
        population.step()
    return population


LOOPS = (ClampsData, ReplacesData, ReplacesBuffersData, SetsBuffer)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one", "two"])
@pytest.mark.parametrize(
    ("kind", "trace"),
    [(kind, False) for kind in (Clamps, Shrinks, Buffer, *LOOPS)] + [(kind, True) for kind in (Buffer, *LOOPS)],
)
def test_what_is_written_is_what_a_plain_loop_has(kind, trace, seeds):
    experiment = Regression(lambda config: kind())
    population = together(experiment, seeds, trace)
    before = population.modules.theta.clone()
    metrics = population.evaluate()
    assert torch.equal(population.modules.theta, before), "an evaluation changes nothing"
    for row, seed in enumerate(seeds):
        model, expected = alone(experiment, seed)
        named, wanted = dict(population.modules.named_rows(row)), model.state_dict()
        torch.testing.assert_close({n: named[n] for n in wanted}, dict(wanted))
        torch.testing.assert_close({n: x[row] for n, x in metrics.items()}, expected)


@pytest.mark.parametrize("kind", [Clamps, Shrinks])
def test_what_a_recording_would_lose_is_refused(kind):
    experiment = Regression(lambda config: kind())
    with pytest.raises(PopulationError, match=r"the loss of regression writes into .*'line\.bias'.*Course\.weights"):
        together(experiment, (0, 1), trace=True)
    with pytest.raises(PopulationError, match=r"writes into .*'line\.bias'"):
        check_experiment(experiment)
    with pytest.raises(PopulationError, match=r"writes into .*'line\.bias'"):
        probe(experiment, {}, steps=10)
    probe(experiment, {}, steps=10, recorded=False)


@pytest.mark.parametrize("trace", [True, False])
def test_a_parameter_that_is_made_anew_is_refused(trace):
    with pytest.raises(PopulationError, match=r"assigns parameter 'line\.weight' anew"):
        together(Regression(lambda config: Assigns()), (0, 1), trace)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_says_why_it_is_one(kind):
    population = together(Regression(lambda config: kind()), (0, 1), trace=True)
    assert "in write" in population.modules.loop_reasons[LOSS] or kind is SetsBuffer
    notes = probe(Regression(lambda config: kind()), {}, steps=10).notes
    assert any("regression: loss runs replica by replica" in note for note in notes)


class ClampsInEvaluation(Regression):
    def evaluate(self, model, held_out, config):
        with torch.no_grad():
            for p in model.parameters():
                p.clamp_(-LIMIT, LIMIT)
        return super().evaluate(model, held_out, config)


def test_an_evaluation_that_writes_into_weights_is_refused():
    population = together(ClampsInEvaluation(), (0, 1), trace=True)
    with pytest.raises(PopulationError, match=r"regression.evaluate writes into .*'0\.weight'"):
        population.evaluate()
    with pytest.raises(PopulationError, match=r"regression.evaluate writes into"):
        check_experiment(ClampsInEvaluation())
