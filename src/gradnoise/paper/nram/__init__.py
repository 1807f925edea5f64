"""Table 4: Neural Random-Access Machines learn to follow linked lists."""

from gradnoise.paper.nram.experiment import NRAMExperiment
from gradnoise.paper.nram.figures import learning
from gradnoise.paper.nram.machine.hard import run_hard
from gradnoise.paper.nram.machine.model import NRAM
from gradnoise.paper.nram.machine.wiring import Wiring
from gradnoise.paper.nram.problems.curriculum import Curriculum
from gradnoise.paper.nram.problems.lesson import Lesson
from gradnoise.paper.nram.problems.tasks import TASKS
from gradnoise.paper.nram.study import CLAIMS, nram
from gradnoise.paper.nram.watch.command import trace_oracle, trace_run

__all__ = [
    "CLAIMS",
    "NRAM",
    "TASKS",
    "Curriculum",
    "Lesson",
    "NRAMExperiment",
    "Wiring",
    "learning",
    "nram",
    "run_hard",
    "trace_oracle",
    "trace_run",
]
