"""Table 3, Figure 2 and the single column of section 4.3: Neural Programmers answer questions about tables."""

from gradnoise.paper.neural_programmer.config import Config
from gradnoise.paper.neural_programmer.contrasts import CONTRASTS
from gradnoise.paper.neural_programmer.experiment import TableQuestions
from gradnoise.paper.neural_programmer.extras import answers
from gradnoise.paper.neural_programmer.machine.model import NeuralProgrammer
from gradnoise.paper.neural_programmer.problems.tasks import TASKS
from gradnoise.paper.neural_programmer.scales import STUDIES
from gradnoise.paper.neural_programmer.study import CLAIMS, build
from gradnoise.paper.neural_programmer.watch.ask import Ask
from gradnoise.paper.system import System

SYSTEM = System(
    name="neural-programmer",
    title="Neural Programmer on tables",
    table="Section 4.3",
    claims=CLAIMS,
    contrasts=CONTRASTS,
    studies=STUDIES,
    build=build,
    length_unit="epochs",
    extras=answers,
    commands={"ask": Ask},
    results="neural_programmer",
)

__all__ = ["CLAIMS", "SYSTEM", "TASKS", "Config", "NeuralProgrammer", "TableQuestions", "answers", "build"]
