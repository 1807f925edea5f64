"""Table 4: Neural Random-Access Machines learn to follow linked lists."""

from gradnoise.paper.nram.contrasts import CONTRASTS
from gradnoise.paper.nram.experiment import NRAMExperiment
from gradnoise.paper.nram.extras import learning
from gradnoise.paper.nram.machine.hard import run_hard
from gradnoise.paper.nram.machine.model import NRAM
from gradnoise.paper.nram.machine.wiring import Wiring
from gradnoise.paper.nram.problems.curriculum import Curriculum
from gradnoise.paper.nram.problems.lesson import Lesson
from gradnoise.paper.nram.problems.tasks import TASKS
from gradnoise.paper.nram.scales import STUDIES
from gradnoise.paper.nram.study import CLAIMS, build
from gradnoise.paper.nram.watch.command import Trace
from gradnoise.paper.system import System

SYSTEM = System(
    name="nram",
    title="Neural Random-Access Machine on linked lists",
    table="Table 4",
    claims=CLAIMS,
    contrasts=CONTRASTS,
    studies=STUDIES,
    build=build,
    extras=learning,
    commands={"trace": Trace},
    results="nram",
)

__all__ = [
    "CLAIMS",
    "NRAM",
    "SYSTEM",
    "TASKS",
    "Curriculum",
    "Lesson",
    "NRAMExperiment",
    "Wiring",
    "learning",
    "run_hard",
]
