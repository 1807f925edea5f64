"""The parameters of a Neural Programmer: the paper's matrices, cut where they meet factors that come at other times."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradnoise.errors import PopulationError, nearest
from gradnoise.paper.neural_programmer.machine.dropouts import Dropouts
from gradnoise.paper.neural_programmer.machine.record import Record
from gradnoise.paper.neural_programmer.problems.tasks import Task

STEPS = 4
ENCODERS = ("plain", "bidirectional", "full")
INIT = 0.1


class Recurrence(nn.Module):
    """A layer z_i = tanh(W_z z_{i-1} + W_x x_i), the two halves of W kept apart; no bias.

    Args:
        inputs: size of x.
        units: size of z.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.state = nn.Parameter(torch.empty(units, units))
        self.input = nn.Parameter(torch.empty(units, inputs))


class Selector(nn.Module):
    """W of tanh(W [q; h]), the two halves kept apart.

    Args:
        question: size of q.
        units: d, size of h and of the result.
    """

    def __init__(self, question: int, units: int) -> None:
        super().__init__()
        self.question = nn.Parameter(torch.empty(units, question))
        self.history = nn.Parameter(torch.empty(units, units))


class History(nn.Module):
    """W_h of h_t = tanh(W_h [c_t; h_{t-1}]), c_t = [operation; column], the three thirds kept apart."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.operation = nn.Parameter(torch.empty(units, units))
        self.column = nn.Parameter(torch.empty(units, units))
        self.state = nn.Parameter(torch.empty(units, units))


class Parameters(nn.Module):
    """What a `NeuralProgrammer` holds; the arguments are the same."""

    def __init__(self, task: Task, dim: int = 256, encoder: str | None = None, keep: float = 1.0) -> None:
        super().__init__()
        encoder = encoder or task.encoder
        if encoder not in ENCODERS:
            raise PopulationError(
                f"encoder = {encoder!r}: allowed are {', '.join(ENCODERS)}{nearest(encoder, ENCODERS)}"
            )
        if dim < 1 or (encoder == "bidirectional" and dim % 2):
            raise PopulationError(f"dim d = {dim}: at least 1 is needed, and an even number for two directions")
        if not 0 < keep <= 1:
            raise PopulationError(f"keep = {keep}: the share of values that dropout keeps is in (0, 1]")
        self.task, self.encoder = task, encoder
        units = dim // 2 if encoder == "bidirectional" else dim
        q = 2 * dim if encoder == "full" else dim
        self.words = nn.Parameter(torch.empty(len(task.vocabulary), dim))
        self.operations = nn.Parameter(torch.empty(len(task.operations), dim))
        self.directions = nn.ModuleList(Recurrence(dim, units) for _ in range(1 if encoder == "plain" else 2))
        self.select_operation, self.select_column = Selector(q, dim), Selector(q, dim)
        self.history = History(dim)
        self.dropouts = Dropouts(STEPS, len(self.directions), keep) if keep < 1 else None
        self.record = Record()
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INIT, INIT)

    def layers(self) -> list[Recurrence]:
        """Return the recurrent layers of the encoder, one for each direction."""
        return [x for x in self.directions if isinstance(x, Recurrence)]

    def column_names(self) -> Tensor:
        """Return P, the vectors of the columns' names [L, d]: those of the same words in questions."""
        first = self.task.token[self.task.columns[0]]
        return self.words[first : first + len(self.task.columns)]

    def cell_words(self) -> Tensor:
        """Return the vectors of what text cells hold [10, d]."""
        return self.words[self.task.token["word:0"] : -1]
