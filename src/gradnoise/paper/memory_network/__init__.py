"""Table 2: end-to-end memory networks on bAbI, with and without a linear start."""

from gradnoise.paper.memory_network.answer import Answer
from gradnoise.paper.memory_network.contrasts import CONTRASTS
from gradnoise.paper.memory_network.experiment import JOINT, MemoryNetworkExperiment
from gradnoise.paper.memory_network.extras import calibration
from gradnoise.paper.memory_network.memories import Batch, Memories, noisy_times
from gradnoise.paper.memory_network.model import MemoryNetwork
from gradnoise.paper.memory_network.reader import Reader, Reading, read, trained
from gradnoise.paper.memory_network.scales import SCALES
from gradnoise.paper.memory_network.schedule import Halving
from gradnoise.paper.memory_network.show import print_reading, save_figure
from gradnoise.paper.memory_network.study import CLAIMS, TABLE_2, build
from gradnoise.paper.system import System

SYSTEM = System(
    name="memn2n",
    title="End-to-end memory network on bAbI",
    table="Table 2",
    claims=CLAIMS,
    contrasts=CONTRASTS,
    studies={"table2": SCALES},
    build=build,
    data=("babi", "generated"),
    length_unit="epochs",
    seeds_are="restarts",
    extras=calibration,
    commands={"answer": Answer},
    results="memn2n",
)

__all__ = [
    "CLAIMS",
    "JOINT",
    "SYSTEM",
    "TABLE_2",
    "Batch",
    "Halving",
    "Memories",
    "MemoryNetwork",
    "MemoryNetworkExperiment",
    "Reader",
    "Reading",
    "calibration",
    "noisy_times",
    "print_reading",
    "read",
    "save_figure",
    "trained",
]
