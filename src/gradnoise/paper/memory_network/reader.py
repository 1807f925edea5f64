"""A trained network that reads: one story, one question, and where each hop looks for the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gradnoise.data.babi import BabiData, Question, Statement
from gradnoise.paper import load_system
from gradnoise.paper.memory_network.experiment import MemoryNetworkExperiment, encoded, memories
from gradnoise.paper.memory_network.model import MemoryNetwork
from gradnoise.paper.memory_network.study import SELECTION, STAGES
from gradnoise.paper.training import weights_cache
from gradnoise.study import StudyError, trained_weights

RESTARTS = 3
EPOCHS = 60
MOST_ANSWERS = 3


@dataclass(frozen=True)
class Reader:
    """A trained network and what is known of it.

    Args:
        model: the network, in evaluation mode.
        data: the stories.
        task: which task it was trained on.
        errors: error in % by part: train, validation, test.
        description: how it was trained.
    """

    model: MemoryNetwork
    data: BabiData
    task: int
    errors: dict[str, float]
    description: str


@dataclass(frozen=True)
class Reading:
    """How a network answers one question.

    Args:
        number: of the question among the task's test questions, from 1.
        story: the sentences in memory, oldest first.
        support: which of them the answer follows from; the network is never told.
        question, truth: as in the file.
        attention: [K][n], weight of each sentence in each hop.
        answers: the likeliest answers with their probabilities, best first.
    """

    number: int
    story: tuple[str, ...]
    support: tuple[bool, ...]
    question: str
    truth: str
    attention: tuple[tuple[float, ...], ...]
    answers: tuple[tuple[str, float], ...]

    @property
    def empty(self) -> tuple[float, ...]:
        """Return the weight of the empty memories in each hop."""
        return tuple(max(0.0, 1.0 - math.fsum(p)) for p in self.attention)

    @property
    def right(self) -> bool:
        """Say whether the likeliest answer is the true one."""
        return self.answers[0][0] == self.truth


def trained(
    task: int,
    *,
    stage: str = "two",
    noise: bool = False,
    epochs: int = EPOCHS,
    seed: int = 0,
    data: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Reader:
    """Return a network for one task: from the cache, or trained now and kept there.

    Of `RESTARTS` restarts the one with the lowest training error stays.

    Args:
        task: 1..20.
        stage: "two" (linear start) or "one".
        noise: whether to train with gradient noise, eta = 0.01.
        epochs: with softmax, at least 1.
        seed: of the first restart.
        data: "auto", "babi" or "generated".
        progress: called with (updates done, updates in all).
        notice: called with a sentence where the cache is damaged or cannot be written.

    Raises:
        StudyError: a value is not allowed; the message says which are.
    """
    if stage not in STAGES:
        raise StudyError(f"--stage {stage}: allowed are one (softmax from the start) and two (linear start)")
    if epochs < 1 or seed < 0:
        raise StudyError(f"--epochs {epochs} --seed {seed}: give at least 1 epoch, and a seed of 0 or more")
    study = load_system("memn2n").study("paper", data, 1, epochs)
    experiment = study.experiment
    assert isinstance(experiment, MemoryNetworkExperiment)
    setting = next((s for s in study.settings if s.row == f"tasks-{stage}" and s.values["task"] == task), None)
    if setting is None:
        have = ", ".join(map(str, sorted(experiment.stories.tasks)))
        raise StudyError(f"--task {task}: there is no such task in {experiment.data_title}; there are {have}")
    arm = next(a for a in study.arms if a.name == ("noise" if noise else "none"))
    trials = [study.trial(setting, arm, seed + i) for i in range(RESTARTS)]
    found = trained_weights(experiment, trials, weights_cache(), best_by=SELECTION.by, progress=progress, notice=notice)
    assert isinstance(found.model, MemoryNetwork)
    errors = {part: found.metrics[f"{part}_error"] for part in ("train", "validation", "test")}
    how = f"{STAGES[stage]} training, {arm.label}, {epochs} epochs, best of {RESTARTS}"
    return Reader(found.model, experiment.stories, task, errors, how)


@torch.no_grad()
def read(reader: Reader, number: int) -> Reading:
    """Let a network answer a test question of its task.

    Args:
        reader: the network.
        number: which question, from 1.

    Raises:
        StudyError: there is no question of that number.
    """
    questions = [
        (story[:i], line)
        for story in reader.data.tasks[reader.task].test
        for i, line in enumerate(story)
        if isinstance(line, Question)
    ]
    if not 1 <= number <= len(questions):
        raise StudyError(f"--question {number}: task {reader.task} has test questions 1 to {len(questions):,}")
    before, question = questions[number - 1]
    test = memories(reader.data, reader.task, "code")["test"]
    told = [line for line in before if isinstance(line, Statement)][-test.slots :]
    (batch,) = test.batches(np.array([number - 1]), 1, pad=False)
    u, attention = reader.model.read(batch)
    words = encoded(reader.data, reader.task).words
    p = reader.model.answer(u)[0].softmax(0)
    likely = p[: len(words)].topk(min(MOST_ANSWERS, len(words)))
    return Reading(
        number=number,
        story=tuple(f"{' '.join(line.words).capitalize()}." for line in told),
        support=tuple(line.id in question.support for line in told),
        question=f"{' '.join(question.words).capitalize()}?",
        truth=question.answer,
        attention=tuple(tuple(weights[0, : len(told)].tolist()) for weights in attention),
        answers=tuple((words[i], q) for i, q in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)),
    )
