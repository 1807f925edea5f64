"""The population engine: many replicas of an ordinary `nn.Module` trained as one program."""

from gradnoise.errors import PopulationError
from gradnoise.population.check import check_experiment
from gradnoise.population.chunks import best_size, plan
from gradnoise.population.draws import Draws
from gradnoise.population.experiment import Experiment, Minibatches
from gradnoise.population.optimizers import SGD, AdaGrad, Adam, Optimizer, RMSProp
from gradnoise.population.population import Population
from gradnoise.population.randomness import derive_seed
from gradnoise.population.replica import Replica

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "Draws",
    "Experiment",
    "Minibatches",
    "Optimizer",
    "Population",
    "PopulationError",
    "RMSProp",
    "Replica",
    "best_size",
    "check_experiment",
    "derive_seed",
    "plan",
]
