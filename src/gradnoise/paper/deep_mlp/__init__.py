"""Table 1: 20 hidden layers of 50 ReLU units on MNIST, from good, plain and zero initialisations."""

from gradnoise.paper.deep_mlp.contrasts import CONTRASTS
from gradnoise.paper.deep_mlp.experiment import DeepMLPExperiment
from gradnoise.paper.deep_mlp.extras import mechanism
from gradnoise.paper.deep_mlp.model import DeepMLP, weight_sd
from gradnoise.paper.deep_mlp.study import CLAIMS, STUDIES, build
from gradnoise.paper.system import System

SYSTEM = System(
    name="deep-mlp",
    title="20-layer MLP on MNIST",
    table="Table 1",
    claims=CLAIMS,
    contrasts=CONTRASTS,
    studies=STUDIES,
    build=build,
    data=("mnist", "fashion-mnist", "digits"),
    extras=mechanism,
    results="deep_mlp",
)

__all__ = ["CLAIMS", "SYSTEM", "DeepMLP", "DeepMLPExperiment", "mechanism", "weight_sd"]
