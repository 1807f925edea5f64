"""A generator and a discriminator so small that an update takes a millisecond."""

import torch
from torch import nn
from torch.nn import functional as F

from gradnoise.population import Experiment, Turn, derive_seed


class Gan(Experiment):
    """A generator of two numbers, and a discriminator; the order of the model's parameters is not that of turns."""

    name = "gan"
    turns = (Turn("d", updates=2), Turn("g"))

    def model(self, config):
        g = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
        return nn.ModuleDict({"g": g, "d": nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))})

    def batch(self, seed, t, config):
        generator = torch.Generator().manual_seed(derive_seed(seed, t, "gan"))
        return torch.randn(7, 2, generator=generator) + 1, torch.randn(7, 3, generator=generator)

    def loss(self, model, batch, config, turn):
        real, z = batch
        if turn == "d":
            return F.softplus(-model["d"](real)).mean() + F.softplus(model["d"](model["g"](z))).mean()
        return F.softplus(-model["d"](model["g"](z))).mean()

    def held_out(self, config):
        return self.batch(99, 0, config)

    def evaluate(self, model, held_out, config):
        return {"mean": model["g"](held_out[1]).mean()}
