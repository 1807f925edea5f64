"""The population engine: many replicas of an ordinary `nn.Module` trained as one program."""

from gradnoise.errors import PopulationError
from gradnoise.population.check import check_experiment
from gradnoise.population.chunks import best_size
from gradnoise.population.course import Course, Goal
from gradnoise.population.cuda_graph import CudaGraphs
from gradnoise.population.dataset import Loaded
from gradnoise.population.draws import Draws
from gradnoise.population.experiment import Data, Experiment
from gradnoise.population.goals import Patience
from gradnoise.population.groups import Group, Groups
from gradnoise.population.minibatches import Examples, Minibatches
from gradnoise.population.optimizers import L2, SGD, AdaGrad, Adam, AdamW, NAdam, Optimizer, RMSProp
from gradnoise.population.population import Population
from gradnoise.population.randomness import derive_seed
from gradnoise.population.rates import Cosine, Exponential, InverseSqrt, LinearDecay, Steps
from gradnoise.population.replica import Replica
from gradnoise.population.training import Training
from gradnoise.population.turns import Turn
from gradnoise.population.vmapping import side_by_side, vmap_rule

__all__ = [
    "L2",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Cosine",
    "Course",
    "CudaGraphs",
    "Data",
    "Draws",
    "Examples",
    "Experiment",
    "Exponential",
    "Goal",
    "Group",
    "Groups",
    "InverseSqrt",
    "LinearDecay",
    "Loaded",
    "Minibatches",
    "NAdam",
    "Optimizer",
    "Patience",
    "Population",
    "PopulationError",
    "RMSProp",
    "Replica",
    "Steps",
    "Training",
    "Turn",
    "best_size",
    "check_experiment",
    "derive_seed",
    "side_by_side",
    "vmap_rule",
]
