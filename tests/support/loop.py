"""What the conformance tests share: a small model, training as it is usually written, and noise added by hand."""

import math

import torch
from torch import nn

from gradnoise import Annealed, attach
from gradnoise.noise.gaussian import normal, stream_key

SEED = 3
SCHEDULE = Annealed(eta=1.0)


def make_model(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model


def loss_of(model, k=0):
    """The loss on the k-th minibatch."""
    p = next(model.parameters())
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(k)).to(p.dtype)
    return model(x).square().mean()


def closure_for(model, optimizer, k=0):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, k)
        loss.backward()
        return loss

    return closure


def train(model, optimizer, steps, first=0):
    for k in range(first, first + steps):
        closure_for(model, optimizer, k)()
        optimizer.step()


def values(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def flat(*shapes, dtype=torch.float32):
    """Parameters that are 0 and so are their gradients: what stands there after a step is noise."""
    parameters = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    return parameters


def noisy_sgd(shape, schedule=SCHEDULE):
    """A flat parameter, its optimizer and its noise."""
    (p,) = flat(shape)
    optimizer = torch.optim.SGD([p], lr=1.0)
    return p, optimizer, attach(optimizer, schedule, seed=SEED)


def noise_of(name, t, deviation, shape, dtype=torch.float32, seed=SEED):
    """The noise that a parameter is promised, as the guide defines it; for 16 bits before it is rounded."""
    real = torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32
    parts = 2 if dtype.is_complex else 1
    z = normal(stream_key(seed, name), t, parts * math.prod(shape)).to(real)
    noise = torch.tensor(deviation / math.sqrt(parts), dtype=real) * z
    return torch.view_as_complex(noise.view(*shape, 2)) if dtype.is_complex else noise.view(shape)


def promised(name, t, p):
    """The noise of update t under SCHEDULE."""
    return noise_of(name, t, math.sqrt(SCHEDULE(t)), p.shape, p.dtype)


def added(gradient, noise):
    """A dense gradient plus noise, in float32 at least and rounded once."""
    return (gradient.to(torch.promote_types(gradient.dtype, noise.dtype)) + noise).to(gradient.dtype)


def plus_noise(model, clean, t):
    """Gradients of a model, by name, with the noise of update t."""
    return {name: clean[name] + promised(name, t, p) for name, p in model.named_parameters()}


class CallsItsParent(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


class CallsItsGrandparent(CallsItsParent):
    def step(self, closure=None):
        loss = None if closure is None else closure()
        super().step()
        return loss


class Wrapper(torch.optim.Optimizer):
    """As those of Accelerate and Opacus: an Optimizer that never ran `Optimizer.__init__`."""

    def __init__(self, optimizer, attribute="optimizer"):
        setattr(self, attribute, optimizer)
        self.inner = optimizer

    def step(self, closure=None):
        self.inner.step(closure)
