"""A model whose gradients are exact: the same bits come out, in whatever order they are summed over ranks.

They are means of small integers over a power of two of samples, whatever the weights. Learning rate and momentum
are powers of two as well, so that the noise alone can make two runs differ.
"""

import torch
import torch.distributed as dist
from torch import nn

from gradnoise import Annealed, attach

SEED = 3
SCHEDULE = Annealed(eta=1.0)
UPDATES = 4
SHAPES = {
    "even": (8, 4),
    "uneven": (5, 3),
    "scarce": (1, 8),  # fewer rows than ranks
    "cube": (6, 4, 2),
    "vector": (7,),
}
BATCH, FEATURES = 8, 6 * 4 * 2


class Piece(nn.Module):
    """One parameter; its gradient is the mean of the samples."""

    def __init__(self, shape, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape, dtype=dtype))

    def forward(self, x):
        return (x[:, : self.weight.numel()] @ self.weight.flatten()).mean()


class Model(nn.Module):
    """Parameters of many shapes; `forward` gives the loss."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.pieces = nn.ModuleDict({name: Piece(shape, dtype) for name, shape in SHAPES.items()})

    def forward(self, x):
        return torch.stack([piece(x) for piece in self.pieces.values()]).sum()


def rank_and_size():
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share(k, dtype=torch.float32):
    """This rank's share of the k-th global batch."""
    rank, size = rank_and_size()
    x = torch.randint(-8, 9, (BATCH, FEATURES), generator=torch.Generator().manual_seed(k))
    return x.to(dtype).chunk(size)[rank]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)


def noisy(optimizer, model):
    return attach(optimizer, SCHEDULE, seed=SEED, named_parameters=model.named_parameters())


def naive(optimizer, model):
    """The hook that most training scripts have; a promise is tested by what it breaks."""

    def add(*_):
        for p in model.parameters():
            p.grad.add_(torch.randn_like(p.grad) * SCHEDULE.eta**0.5)

    return optimizer.register_step_pre_hook(add)


def train(model, optimizer, updates=UPDATES, first=0):
    dtype = next(model.parameters()).dtype
    for k in range(first, first + updates):
        optimizer.zero_grad()
        model(share(k, dtype)).backward()
        optimizer.step()


def full(x):
    """Value of a tensor; of a DTensor, all ranks together."""
    x = x.detach()
    return (x.full_tensor() if hasattr(x, "full_tensor") else x).clone()


def weights(model):
    return {name.removeprefix("module."): full(p) for name, p in model.named_parameters()}


def gradients(model):
    return {name.removeprefix("module."): full(p.grad) for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def alone(updates=UPDATES, dtype=torch.float32):
    """The model after noisy training in one process."""
    model = Model(dtype)
    optimizer = sgd(model)
    noisy(optimizer, model)
    train(model, optimizer, updates)
    return model
