"""Table 5: Neural GPUs learn to multiply binary numbers."""

from gradnoise.paper.neural_gpu.config import EARLY, MARCH, PROFILES, Config, Profile
from gradnoise.paper.neural_gpu.experiment import NeuralGPUExperiment
from gradnoise.paper.neural_gpu.model import NeuralGPU
from gradnoise.paper.neural_gpu.tasks import TASKS, decode, encode

__all__ = [
    "EARLY",
    "MARCH",
    "PROFILES",
    "TASKS",
    "Config",
    "NeuralGPU",
    "NeuralGPUExperiment",
    "Profile",
    "decode",
    "encode",
]
