"""Neural Programmers learn to answer questions about tables: minibatches, loss, hard programs, metrics, success."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gradnoise.paper.neural_programmer.config import Config
from gradnoise.paper.neural_programmer.exam import Part, right, with_categories
from gradnoise.paper.neural_programmer.machine.loss import LossOptions
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.machine.training_loss import example_losses
from gradnoise.paper.neural_programmer.problems.examples import Examples, held_out, training
from gradnoise.paper.neural_programmer.problems.questions import Questions, all_questions, categories
from gradnoise.paper.neural_programmer.problems.tasks import task_of
from gradnoise.population import Course, Data, Experiment, Goal, Minibatches

#: Distinct questions of a minibatch are padded to a multiple of this, so that few shapes occur.
MULTIPLE = 8

Metrics = dict[str, Tensor]


class Minibatch(NamedTuple):
    """B examples and their K distinct questions.

    Args:
        questions: distinct ones, and copies of the first as padding.
        asks: which of them each example asks, int64 [B].
        examples: tables and answers.
    """

    questions: Questions
    asks: Tensor
    examples: Examples


class Held(NamedTuple):
    """What is evaluated on: all questions, their categories, int64 [T], and tables in parts."""

    questions: Questions
    categories: Tensor
    valid: Part
    test: Part


class LossSettings(Course):
    """Keeps the settings of the loss, which differ between the replicas of a population."""

    def start(self, config: Config) -> Metrics:
        """Return delta and lambda."""
        return {"delta": torch.tensor(float(config.delta)), "weight": torch.tensor(float(config.lookup_weight))}


class EveryAnswer(Goal):
    """All validation questions answered on all their tables, and then on as many others."""

    def __init__(self, experiment: TableQuestions) -> None:
        self._experiment = experiment

    def reached(self, metrics: Metrics) -> Tensor:
        """Say which replicas answer everything."""
        return metrics["valid_accuracy"] == 100

    def exam(self, model: nn.Module, config: Config) -> Metrics:
        """Return the accuracy on tables that nothing else is measured on."""
        assert isinstance(model, NeuralProgrammer)
        device = model.words.device
        questions = Questions(*(x.to(device) for x in all_questions(model.task, config.word_word)))
        part = [Examples(*(x.to(device) for x in chunk)) for chunk in self._experiment.part(config, "confirmation")]
        found = right(model, questions, model(questions, hard=True), part)
        return {"valid_accuracy": 100 * found.double().mean()}


class TableQuestions(Experiment):
    """Neural Programmers learn to answer questions about tables from answers alone.

    Metrics, in %, of programs in which every choice is the most likely one, on tables of 120 rows and numbers twice as
    large as in training: test_accuracy and valid_accuracy, each question on R tables; test_accuracy_one, each on one;
    test_simple, test_comparison, test_logic, test_difference; test_accuracy_soft_history, where the history sees
    mixtures. accuracy and accuracy_one are those of the test at the first evaluation with the best validation accuracy.
    solved is 100 where that accuracy is 100; solved_one likewise, solved_last at the last evaluation, solved_ever at
    any.

    A replica finishes when it answers all validation questions, and then all of them on as many other tables.

    Args:
        seed: of the data: training, validation and test.
    """

    name = "neural-programmer"
    Config = Config
    replica_keys = frozenset({"delta", "lookup_weight"})

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.data = Data(f"generated questions about tables (seed {seed})", f"tables-1-{seed}")
        self.course = LossSettings()
        self.goal = EveryAnswer(self)

    def epoch(self, config: Any) -> int:
        """Return the updates in an epoch."""
        return config.examples // config.batch_size

    def model(self, config: Config) -> NeuralProgrammer:
        """Return the network of a configuration."""
        return NeuralProgrammer(task_of(config.task), config.dim, config.encoder, config.dropout_keep)

    def part(self, config: Any, name: str) -> Part:
        """Return examples that are held out, see `problems.examples.held_out`."""
        task = task_of(config.task)
        tables = config.tables or task.tables
        return list(held_out(task, name, tables, self.seed, config.word_word, config.empty_pairs))

    # --- training -------------------------------------------------------------------------------------

    def batch(self, seed: int, t: int, config: Any) -> Minibatch:
        """Return the minibatch of update t, in an order that is new in each epoch."""
        task = task_of(config.task)
        data = training(task, config.examples, self.seed, config.word_word, config.empty_pairs)
        rows = Minibatches((data.template,), config.batch_size)(seed, t).rows
        examples = Examples(*(x.index_select(0, rows) for x in data))
        if config.dropout_keep < 1:  # masks differ from example to example
            first, index = torch.arange(len(rows)), torch.arange(len(rows))
        else:
            first, index = distinct(examples)
        asked = examples.template[first]
        known = all_questions(task, config.word_word)
        questions = Questions(*(x[asked] for x in known))._replace(present=examples.present[first])
        return Minibatch(questions, index, examples)

    def stack(self, batches: Sequence[Minibatch]) -> Minibatch:
        """Pad to the largest number of distinct questions."""
        most = max(len(b.questions.tokens) for b in batches)
        return super().stack([b._replace(questions=_padded(b.questions, most)) for b in batches])

    def loss(self, model: nn.Module, batch: tuple[Minibatch, Metrics], config: Any) -> Tensor:
        """Return the mean loss of a minibatch."""
        assert isinstance(model, NeuralProgrammer)
        (questions, index, examples), settings = batch
        chosen = model(questions).gathered(index)
        count = questions.given[index]
        return example_losses(model, chosen, examples, count, LossOptions(config.pivot_grad, **settings)).mean()

    # --- evaluation -----------------------------------------------------------------------------------

    def held_out(self, config: Any) -> Held:
        """Return all questions with their tables of validation and test."""
        task = task_of(config.task)
        kinds, questions = categories(task, config.word_word), all_questions(task, config.word_word)
        return Held(questions, kinds, self.part(config, "valid"), self.part(config, "test"))

    def evaluate(self, model: nn.Module, held_out: Held, config: Any) -> Metrics:
        """Return all metrics; see the class. What was best so far is kept in the model's buffer `record`."""
        assert isinstance(model, NeuralProgrammer)
        questions = held_out.questions
        chosen = model(questions, hard=True)
        valid = 100 * right(model, questions, chosen, held_out.valid).double().mean()
        test = right(model, questions, chosen, held_out.test)
        soft = right(model, questions, model(questions), held_out.test)
        metrics = with_categories(test, held_out.categories) | {
            "valid_accuracy": valid,
            "test_accuracy_soft_history": 100 * soft.double().mean(),
        }
        return metrics | model.record.updated(valid, metrics["test_accuracy"], metrics["test_accuracy_one"])

    def diverged_metrics(self) -> dict[str, float]:
        """Return what a network of nans scores: every answer of it is wrong."""
        names = ("accuracy", "accuracy_one", "test_accuracy", "test_accuracy_one", "valid_accuracy")
        return dict.fromkeys((*names, "solved", "solved_one", "solved_last", "solved_ever"), 0.0)


def distinct(examples: Examples) -> tuple[Tensor, Tensor]:
    """Find the distinct questions of a minibatch: those of one template about tables with the same columns.

    Returns:
        An example of each, int64 [K], padded to a multiple of `MULTIPLE` but not beyond B; and which of them every
        example asks, int64 [B].
    """
    b, columns = examples.present.shape
    key = (examples.present * 2 ** torch.arange(columns)).sum(1) + 2**columns * examples.template
    found, index = torch.unique(key, return_inverse=True)
    k = min(b, -(-len(found) // MULTIPLE) * MULTIPLE)
    first = torch.zeros(k, dtype=torch.int64)
    first[index] = torch.arange(b)  # any of those that ask the same
    return first, index


def _padded(questions: Questions, most: int) -> Questions:
    missing = most - len(questions.tokens)
    return Questions(*(torch.cat([x, x[:1].expand(missing, *x.shape[1:])]) for x in questions))
