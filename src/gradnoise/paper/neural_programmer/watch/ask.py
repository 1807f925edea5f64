"""The command `gradnoise neural-programmer ask`: a network, or a program written by hand, answers a question."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional, arg

from gradnoise.errors import PopulationError
from gradnoise.files import read_bytes
from gradnoise.paper.neural_programmer.machine.choices import Choices
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.problems.checks import Asked, Table, check_columns, question_of, table_of
from gradnoise.paper.neural_programmer.problems.oracles import as_choices, program
from gradnoise.paper.neural_programmer.problems.questions import all_templates
from gradnoise.paper.neural_programmer.problems.tasks import CELL_WORDS, Task, task_of
from gradnoise.paper.neural_programmer.watch.runs import trained
from gradnoise.paper.neural_programmer.watch.show import show
from gradnoise.paper.neural_programmer.watch.trace import trace
from gradnoise.paper.runs import Wanted
from gradnoise.study import StudyError

#: Rows of the table that is asked about where there is none of the user's, and its largest number.
ROWS, LARGEST = 10, 100
#: Bytes that a table may have.
LARGEST_FILE = 16 << 20


@dataclass(frozen=True)
class Ask:
    """Ask a Neural Programmer about a table and watch its program: operations, columns, selected rows, the answer.

    The network is a run of a study. A study keeps no weights: the first time the run is trained once more, and its
    weights are kept in the cache. Example: gradnoise neural-programmer ask "greater 10 sum" --folder
    runs/neural-programmer-quick, or, with a program written by hand: gradnoise neural-programmer ask "greater 10 A or
    lesser -50 B count" --oracle five
    """

    question: Positional[str] = "greater 10 count"
    """Words and numbers with spaces between them, such as "greater 50.32 C and lesser 20.21 E sum B"."""
    table: Annotated[Path | None, arg(help_behavior_hint="(default: a random table)")] = None
    """A CSV file whose first line names the columns: A for a single column, of A to E for five, A and B for text."""
    folder: Path = Path("runs/neural-programmer-quick")
    """Folder of a `gradnoise run neural-programmer`."""
    row: Annotated[str | None, arg(help_behavior_hint="(default: any)")] = None
    """Row of the run. Of all runs that fit the most accurate one is asked."""
    arm: Annotated[str | None, arg(help_behavior_hint="(default: any)")] = None
    """Arm of the run."""
    seed: Annotated[int | None, arg(help_behavior_hint="(default: any)")] = None
    """Seed of the run."""
    oracle: Annotated[str | None, arg(help_behavior_hint="(default: none)")] = None
    """A task, single, five or text, whose programs written by hand answer instead of a network."""
    number: int = 0
    """Which random table: 0, 1, 2, ..."""

    def __call__(self, console: Console) -> None:
        """Find or train the network, ask it, print."""
        try:
            if self.oracle is not None:
                task = task_of(self.oracle)
                asked, table = self._read(task)
                model = NeuralProgrammer(task, dim=2).eval()  # only its task is used
                traced = trace(model, asked, table, _by_hand(task, asked))
                console.print(Text("a program written by hand", "dim"))
            else:
                model = trained(self.folder, Wanted(self.row, self.arm, self.seed), console)
                asked, table = self._read(model.task)
                traced = trace(model, asked, table)
        except PopulationError as error:  # a question or table that is none
            raise StudyError(str(error)) from error
        show(self.question, table, traced, console)

    def _read(self, task: Task) -> tuple[Asked, Table]:
        asked = question_of(task, self.question)
        table = random_table(task, self.number) if self.table is None else read_csv(task, self.table)
        check_columns(task, asked, table)
        return asked, table


def read_csv(task: Task, path: Path) -> Table:
    """Read a table from a CSV file whose first line names the columns.

    Raises:
        StudyError: the file cannot be read, or its lines have different lengths.
        PopulationError: it is no table of the task.
    """
    try:
        content = read_bytes(path, LARGEST_FILE).decode("utf-8-sig")
        lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(content, newline="")) if line]
    except OSError as error:
        raise StudyError(f"--table {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"--table {path}: {error}") from error
    if not lines:
        raise StudyError(f"--table {path}: the file is empty; its first line names the columns")
    for i, line in enumerate(lines):
        if len(line) != len(lines[0]):
            raise StudyError(f"--table {path}: line {i + 1} has {len(line)} cells; the first has {len(lines[0])}")
    return table_of(task, [(name, [line[j] for line in lines[1:]]) for j, name in enumerate(lines[0])])


def random_table(task: Task, number: int) -> Table:
    """Make a small table with all columns, two decimals; the same for the same number."""
    rng = np.random.default_rng(number)
    columns = [(letter, [CELL_WORDS[i] for i in rng.integers(len(CELL_WORDS), size=ROWS)]) for letter in task.text]
    for letter in task.numeric:
        columns.append((letter, [f"{x:.2f}" for x in rng.uniform(-LARGEST, LARGEST, ROWS)]))
    return table_of(task, columns)


def _by_hand(task: Task, asked: Asked) -> Choices:
    """Return the program of a question as choices.

    Raises:
        StudyError: the grammar has no such question, or it is about words, which only a network's text_match finds.
    """
    template = next((t for t in all_templates(task) if t.tokens == asked.tokens), None)
    if template is None:
        raise StudyError(f"the grammar of the task {task.name!r} has no question {' '.join(asked.tokens)!r}")
    if any(c.word is not None for c in template.conditions):
        raise StudyError("words are found by a network's text_match; a program written by hand has none")
    a, b, beta = as_choices(task, [program(template)])
    return Choices(a, b, beta, torch.zeros(1, 2), torch.zeros(1, 1, 2), torch.ones(1, 1))
