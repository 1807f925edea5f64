"""The Neural Programmer (Neelakantan, Le, Sutskever 2016): what it chooses for a question."""

from __future__ import annotations

from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.definition import choose_one_by_one
from gradnoise.paper.neural_programmer.machine.parameters import Parameters
from gradnoise.paper.neural_programmer.machine.sharing import choose_together
from gradnoise.paper.neural_programmer.problems.questions import Questions


class NeuralProgrammer(Parameters):
    """Reads a question, and chooses in each of T = 4 steps an operation and a column; there are no biases.

    Every parameter is drawn from Uniform(-0.1, 0.1).

    Args:
        task: vocabulary V, columns and operations.
        dim: d.
        encoder: "plain", one recurrent layer of d units; "bidirectional", d/2 units in each direction, so that q and
            z_i are of size d; "full", d in each direction, q of size 2d, and the forward states as z_i; None for the
            task's own.
        keep: share of values that dropout keeps, (0, 1]; 1 leaves dropout out.

    Raises:
        PopulationError: an argument is out of range.
    """

    def forward(self, questions: Questions, hard: bool = False) -> Choices:
        """Choose programs for K questions.

        Args:
            questions: what is read.
            hard: whether the history sees the most likely operation and column instead of the mixtures.
        """
        if self.training and self.dropouts is not None:
            return choose_one_by_one(self, questions, hard)
        return choose_together(self, questions, hard)
