"""Baseline: one Neural Programmer in the loop that one would write in torch: the formulas example by example."""

import time

import torch
from torch import Tensor, nn

from gradnoise import Annealed
from gradnoise.paper.neural_programmer import TASKS, NeuralProgrammer, TableQuestions
from gradnoise.paper.neural_programmer.experiment import Minibatch
from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.definition import choose_one_by_one
from gradnoise.paper.neural_programmer.problems.questions import Questions
from gradnoise.population import Adam, Population, Replica, Training

from .contest import Contest, timed
from .deep_mlp import synchronise

DIM, BATCH, LR, CLIP, EPS, ETA, GAMMA = 256, 50, 1e-3, 50.0, 1e-6, 1.0, 0.55
EXAMPLES = 5000
#: Variant -> task.
VARIANTS = {"one column": "single", "five columns": "five"}


class PlainProgrammer(NeuralProgrammer):
    """Chooses a program for every example by the paper's formulas, with none of the savings."""

    def forward(self, questions: Questions, hard: bool = False) -> Choices:
        """Return the choices of B questions."""
        return choose_one_by_one(self, questions, hard)


def steps_per_second(variant: str, steps: int, warmup: int = 2, device: str = "cpu") -> float:
    """Return updates per second of one replica; P one after another make as many replica-steps per second."""
    experiment = TableQuestions()
    config = experiment.Config(task=VARIANTS[variant], dim=DIM, batch_size=BATCH, examples=EXAMPLES)
    model = PlainProgrammer(TASKS[config.task], DIM).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, eps=EPS)
    settings = {"delta": torch.tensor(10.0, device=device), "weight": torch.tensor(50.0, device=device)}
    start = 0.0
    for t in range(warmup + steps):
        if t == warmup:
            synchronise(device)
            start = time.perf_counter()
        questions, asks, examples = experiment.batch(0, t, config)
        each = Questions(*(x[asks].to(device) for x in questions))
        own = type(examples)(*(x.to(device) for x in examples))
        optimizer.zero_grad()
        experiment.loss(model, (Minibatch(each, torch.arange(BATCH, device=device), own), settings), config).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        sigma = (ETA / (1 + t) ** GAMMA) ** 0.5
        for p in model.parameters():
            if p.grad is None:  # the selector of a single column
                p.grad = torch.zeros_like(p)
            p.grad.add_(torch.randn_like(p.grad), alpha=sigma)
        optimizer.step()
    synchronise(device)
    return steps / (time.perf_counter() - start)


def products(variant: str, size: int, device: str) -> list[tuple[Tensor, Tensor, int]]:
    """Return the factors of an update's matrix products for P replicas, and how often each product is made.

    Those that are left with all savings: 24 distinct questions of a minibatch about one column, 50 about five.
    Forward, to the inputs and to the weights.
    """
    task = TASKS[VARIANTS[variant]]
    one = task.name == "single"
    k, units, directions = (24, DIM, 1) if one else (BATCH, DIM // 2, 2)
    shapes = [  # rows, inputs, outputs, times: the first state of each direction and of the history is zero
        (k, units, units, directions * (task.longest - 1)),
        (k, DIM, DIM, 1 + 3 + 2 if one else 2 + 6 + 2),
        (len(task.vocabulary), DIM, units, directions),
        (len(task.operations), DIM, DIM, 1),
    ]
    found = []
    for rows, inputs, outputs, times in shapes:
        x, w, d = (torch.randn(size, *s, device=device) for s in ((rows, inputs), (outputs, inputs), (rows, outputs)))
        found += [(x, w.mT, times), (d, w, times), (d.mT, x, times)]
    return found


def contest(variant: str, size: int, device: str, steps: int) -> Contest:
    """Return a population, two arms of one seed sharing their minibatches, the plain loop, and the matrix products."""
    experiment = TableQuestions()
    config = experiment.Config(task=VARIANTS[variant], dim=DIM, batch_size=BATCH, examples=EXAMPLES)
    arms = [Training(lr=LR, noise=noise, clip=CLIP, optimizer=Adam(eps=EPS)) for noise in (Annealed(ETA), None)]
    population = Population(experiment, [Replica(i // 2, arms[i % 2], config) for i in range(size)], device=device)
    for _ in range(8):  # records the shapes that are still to come
        population.step()
    factors = products(variant, size, device)

    def multiply() -> None:
        for a, b, times in factors:
            for _ in range(times):
                torch.bmm(a, b)

    return Contest(
        {
            "population": timed(population.step, size, steps, device),
            "plain loop": lambda: 1 / steps_per_second(variant, max(10, steps), device=device),
        },
        {"matrix products": timed(multiply, size, steps, device)},
    )
