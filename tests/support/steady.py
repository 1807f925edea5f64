"""A model whose gradients do not depend on its weights: under SGD, two runs differ by their noise alone."""

import torch
from torch import nn

from gradnoise import Annealed, attach

SEED = 3
SCHEDULE = Annealed(eta=1.0)


class Steady(nn.Module):
    """Two layers, side by side; `forward` gives the loss."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.second = nn.Linear(3, 4)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape))

    def forward(self, x):
        return self.first(x).mean() + 2 * self.second(x).mean()


class Curved(nn.Module):
    """A model whose gradients do depend on its weights and, with dropout, on the global random state."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 2))
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel()).view(p.shape).sin())

    def forward(self, x):
        return self.net(x).square().mean()


def batch(k, rows=4):
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(k))


def values(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def assert_same(a, b):
    """Bit for bit."""
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def assert_differ_by_noise(noisy, plain, updates, only=""):
    """After `updates` steps of SGD with learning rate 1: by -sum_t sigma_t z(seed, name, t), and by nothing else."""
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0)
    ours = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=plain.named_parameters())
    after, before = values(noisy), values(plain)
    names = [name for name in before if name.startswith(only)]
    assert names
    for name in names:
        expected = -sum((ours.replay(name, t) for t in range(updates)), torch.zeros(()))
        torch.testing.assert_close(after[name] - before[name], expected.expand_as(before[name]), rtol=0, atol=1e-5)
