"""Table 2: end-to-end memory networks on bAbI, with and without a linear start."""

from gradnoise.paper.memory_network.calibration import calibration
from gradnoise.paper.memory_network.experiment import JOINT, MemoryNetworkExperiment
from gradnoise.paper.memory_network.memories import Batch, Memories, noisy_times
from gradnoise.paper.memory_network.model import MemoryNetwork
from gradnoise.paper.memory_network.reader import Reader, Reading, read, trained
from gradnoise.paper.memory_network.schedule import Halving
from gradnoise.paper.memory_network.show import check_figure, print_reading, save_figure
from gradnoise.paper.memory_network.study import CLAIMS, TABLE_2, memory_network

__all__ = [
    "CLAIMS",
    "JOINT",
    "TABLE_2",
    "Batch",
    "Halving",
    "Memories",
    "MemoryNetwork",
    "MemoryNetworkExperiment",
    "Reader",
    "Reading",
    "calibration",
    "check_figure",
    "memory_network",
    "noisy_times",
    "print_reading",
    "read",
    "save_figure",
    "trained",
]
