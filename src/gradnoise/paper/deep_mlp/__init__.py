"""Table 1: 20 hidden layers of 50 ReLU units on MNIST, from good, plain and zero initialisations."""

from gradnoise.paper.deep_mlp.experiment import DeepMLPExperiment
from gradnoise.paper.deep_mlp.figures import mechanism
from gradnoise.paper.deep_mlp.model import DeepMLP, weight_sd
from gradnoise.paper.deep_mlp.study import CLAIMS, deep_mlp

__all__ = ["CLAIMS", "DeepMLP", "DeepMLPExperiment", "deep_mlp", "mechanism", "weight_sd"]
