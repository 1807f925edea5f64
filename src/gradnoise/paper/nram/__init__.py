"""Table 4: Neural Random-Access Machines learn to follow linked lists."""

from gradnoise.paper.nram.command import trace_oracle, trace_run
from gradnoise.paper.nram.curriculum import Curriculum
from gradnoise.paper.nram.experiment import NRAMExperiment
from gradnoise.paper.nram.figures import learning
from gradnoise.paper.nram.interpreter import run_hard
from gradnoise.paper.nram.lesson import Lesson
from gradnoise.paper.nram.model import NRAM
from gradnoise.paper.nram.study import CLAIMS, nram
from gradnoise.paper.nram.tasks import TASKS
from gradnoise.paper.nram.wiring import Wiring

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
