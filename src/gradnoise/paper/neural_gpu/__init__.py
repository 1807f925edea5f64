"""Table 5: Neural GPUs learn to multiply binary numbers."""

from gradnoise.paper.neural_gpu.config import EARLY, MARCH, PROFILES, Config, Profile
from gradnoise.paper.neural_gpu.diagonal import BoundedAdaMax, DiagonalConfig, DiagonalExperiment, DiagonalNeuralGPU
from gradnoise.paper.neural_gpu.diagonal.scales import SCALES as DIAGONAL
from gradnoise.paper.neural_gpu.dispatch import build
from gradnoise.paper.neural_gpu.experiment import NeuralGPUExperiment
from gradnoise.paper.neural_gpu.extras import learning
from gradnoise.paper.neural_gpu.model import NeuralGPU
from gradnoise.paper.neural_gpu.scales import STUDIES
from gradnoise.paper.neural_gpu.study import CLAIMS, CONTRASTS
from gradnoise.paper.neural_gpu.tasks import TASKS, decode, encode
from gradnoise.paper.neural_gpu.watch import Multiply
from gradnoise.paper.system import System

SYSTEM = System(
    name="neural-gpu",
    title="Neural GPU on binary multiplication",
    table="Table 5",
    claims=CLAIMS,
    studies={**STUDIES, "diagonal": DIAGONAL},
    build=build,
    extras=learning,
    contrasts=CONTRASTS,
    commands={"multiply": Multiply},
    results="neural_gpu",
)

__all__ = [
    "CLAIMS",
    "CONTRASTS",
    "EARLY",
    "MARCH",
    "PROFILES",
    "SYSTEM",
    "TASKS",
    "BoundedAdaMax",
    "Config",
    "DiagonalConfig",
    "DiagonalExperiment",
    "DiagonalNeuralGPU",
    "NeuralGPU",
    "NeuralGPUExperiment",
    "Profile",
    "build",
    "decode",
    "encode",
    "learning",
]
