"""The diagonal Neural GPU: one layer on a state without height, cheap enough for populations on a CPU."""

from gradnoise.paper.neural_gpu.diagonal.adamax import BoundedAdaMax
from gradnoise.paper.neural_gpu.diagonal.config import DiagonalConfig
from gradnoise.paper.neural_gpu.diagonal.experiment import DiagonalExperiment
from gradnoise.paper.neural_gpu.diagonal.model import DiagonalNeuralGPU

__all__ = ["BoundedAdaMax", "DiagonalConfig", "DiagonalExperiment", "DiagonalNeuralGPU"]
