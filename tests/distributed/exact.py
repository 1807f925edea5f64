"""A model whose gradients are exact: the same bits come out, however they are summed over ranks.

They are means of small integers over a power of two of samples, and do not depend on the weights. Learning rate
and momentum are powers of two as well, so two runs can differ by their noise alone.
"""

import torch
from torch import nn

from gradnoise import Annealed, attach

SEED = 3
SCHEDULE = Annealed(eta=1.0)
SHAPES = {
    "even": (8, 4),
    "uneven": (5, 3),
    "scarce": (1, 6),  # fewer rows than ranks
    "cube": (6, 4, 3),
    "vector": (7,),
}
BATCH, FEATURES = 8, 8 * 4 * 3


class Piece(nn.Module):
    """One parameter, whose gradient is the mean of the samples."""

    def __init__(self, shape, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape, dtype=dtype))

    def forward(self, x):
        w = self.weight.flatten()
        return (x[:, : len(w)] @ w).mean()


class Model(nn.Module):
    """Parameters of many shapes; `forward` gives the loss."""

    def __init__(self, shapes=SHAPES, dtype=torch.float32):
        super().__init__()
        self.pieces = nn.ModuleDict({name: Piece(shape, dtype) for name, shape in shapes.items()})

    def forward(self, x):
        return torch.stack([piece(x) for piece in self.pieces.values()]).sum()


def batch(k, rank=0, size=1, dtype=torch.float32):
    """A rank's share of the k-th global batch."""
    x = torch.randint(-8, 9, (BATCH, FEATURES), generator=torch.Generator().manual_seed(k))
    return x.to(dtype).chunk(size)[rank]


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.5)


def noisy(optimizer, model):
    return attach(optimizer, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())


def naive(optimizer, model):
    """What stands in most training scripts; a test that it passes is none."""

    def add(*_):
        for _, p in model.named_parameters():
            p.grad.add_(torch.randn_like(p.grad) * sigma)

    sigma = SCHEDULE.eta**0.5
    return optimizer.register_step_pre_hook(add)


def train(model, optimizer, updates, first=0, rank=0, size=1):
    for k in range(first, first + updates):
        optimizer.zero_grad()
        model(batch(k, rank, size)).backward()
        optimizer.step()


def full(x):
    """A tensor's value, of a DTensor on all ranks together."""
    x = x.detach()
    return (x.full_tensor() if hasattr(x, "full_tensor") else x).clone()


def weights(model):
    return {name.removeprefix("module."): full(p) for name, p in model.named_parameters()}


def gradients(model):
    return {name.removeprefix("module."): full(p.grad) for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
