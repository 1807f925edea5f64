"""The compiled loss of the Neural Programmer against its definition in plain torch, and who takes which."""

import pytest
import torch
from torch import Tensor

from gradnoise.noise import backend
from gradnoise.paper.neural_programmer import TASKS, NeuralProgrammer, TableQuestions
from gradnoise.paper.neural_programmer.machine import operator
from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.loss import LossOptions
from gradnoise.paper.neural_programmer.machine.training_loss import example_losses, losses_by_definition
from gradnoise.paper.neural_programmer.problems.oracles import as_choices, program
from gradnoise.paper.neural_programmer.problems.questions import all_templates
from gradnoise.population import Adam, Population, Replica, Training

compiled = pytest.mark.skipif(backend() != "numba", reason="the kernel is compiled by Numba")
EACH = torch.linspace(0.5, 2.0, 50)


def setting(name: str, gradient: str):
    """A network with marked preferences, its choices for a minibatch, the examples and how many numbers they have."""
    experiment = TableQuestions()
    config = experiment.Config(task=name, dim=16, batch_size=50, examples=500, pivot_grad=gradient)
    questions, index, examples = experiment.batch(0, 0, config)
    torch.manual_seed(0)
    model = NeuralProgrammer(TASKS[name], 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 8
        return model, model(questions).gathered(index), examples, questions.given[index]


def both(model, chosen: Choices, examples, count, gradient: str, each: Tensor = EACH) -> list[tuple[Tensor, ...]]:
    """Losses and gradients, compiled and by definition in float64."""
    found = []
    for function, dtype in ((example_losses, torch.float32), (losses_by_definition, torch.float64)):
        given = Choices(*(x.detach().to(dtype).requires_grad_() for x in chosen))
        delta, weight = torch.tensor([25.0, 50.0], dtype=dtype)
        losses = function(model.to(dtype), given, examples, count, LossOptions(gradient, delta, weight))
        (losses * each).sum().backward()
        found.append((losses, *(torch.zeros_like(x) if x.grad is None else x.grad for x in given)))
    return found


def assert_the_same(compiled_ones, defined, tolerance: float = 3e-6) -> None:
    for ours, theirs in zip(compiled_ones, defined, strict=True):
        scale = theirs.abs().max().item() if theirs.numel() else 0.0
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=tolerance * max(scale, 1e-30))


@compiled
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("gradient", ["none", "ste"])
def test_mixtures_have_the_losses_and_gradients_of_the_definition(name, gradient):
    model, chosen, examples, count = setting(name, gradient)
    assert 0 < examples.lookup.sum() < len(examples.lookup) and examples.rows.min() < examples.cells.shape[-1]
    assert_the_same(*both(model, chosen, examples, count, gradient))


@compiled
@pytest.mark.parametrize("name", ["single", "five"])
def test_programs_by_hand_too_where_rows_are_equal_and_lookups_certain(name):
    model, chosen, examples, count = setting(name, "none")
    task = TASKS[name]
    by_hand = as_choices(task, [program(t) for t in all_templates(task)])
    picked = (x[examples.template].float() for x in by_hand)
    chosen = Choices(*picked, *chosen[3:])
    # the error of a sum is rounding alone, and so is its gradient
    ours, theirs = both(model, chosen, examples, count, "none", examples.lookup.float())
    assert max(ours[0].max(), theirs[0].max()) < 1e-5
    assert_the_same(ours[1:], theirs[1:], 1e-4)


@compiled
def test_training_takes_compiled_code_in_float32_alone():
    _, chosen, *_ = setting("single", "none")
    assert operator.available(chosen.operations) and not operator.available(chosen.operations.double())


@compiled
def test_a_population_learns_the_same_by_compiled_code_as_by_the_definition(monkeypatch):
    experiment = TableQuestions()
    config = experiment.Config(task="single", dim=8, batch_size=10, examples=60, tables=1)
    replicas = [Replica(s, Training(lr=1e-3, clip=50.0, optimizer=Adam(eps=1e-6)), config) for s in range(2)]
    learned = []
    for available in (operator.available, lambda x: False):
        monkeypatch.setattr(operator, "available", available)
        population = Population(experiment, replicas)
        for _ in range(5):
            population.step()
        learned.append(population.modules.theta.clone())
    torch.testing.assert_close(*learned, rtol=0, atol=1e-5)
    assert (learned[0] - Population(experiment, replicas).modules.theta).abs().max() > 1e-3
