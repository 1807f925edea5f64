"""All optimizers of torch in all their variants, times dtypes: the table that the main promises run over."""

import inspect
import io

import pytest
import torch
from support.loop import SEED, added, promised
from torch import nn
from torch.optim import LBFGS, NAdam, Optimizer

from gradnoise import Annealed, attach

CLASSES = [
    cls
    for cls in vars(torch.optim).values()
    if inspect.isclass(cls) and issubclass(cls, Optimizer) and cls is not Optimizer
]
REAL = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
ONLY_REAL = {"Adafactor", "Muon", "SparseAdam"}
SHAPES = {"Muon": [(4, 3), (2, 5)], "SparseAdam": [(4, 3), (5,)]}  # Muon takes matrices only
OPTIONS = {"LBFGS": {"max_iter": 4}}  # with more it divides 0 by 0 in float16


def table():
    for cls in CLASSES:
        variants = [option for option in ("foreach", "fused") if option in inspect.signature(cls).parameters]
        for variant in ("", *variants):
            only_real = cls.__name__ in ONLY_REAL or variant == "fused"
            options = OPTIONS.get(cls.__name__, {}) | ({variant: True} if variant else {})
            for dtype in REAL if only_real else (*REAL, torch.complex64):
                name = f"{cls.__name__} {variant} {dtype}".replace("  ", " ").replace("torch.", "")
                yield pytest.param(cls, options, dtype, id=name)


every_optimizer = pytest.mark.parametrize("cls, options, dtype", list(table()))


class Run:
    """Training on quadratics, at each update with another centre."""

    def __init__(self, cls, options, dtype):
        self.sparse = cls.__name__ == "SparseAdam"
        shapes = map(torch.Size, SHAPES.get(cls.__name__, [(4, 3), (5,), ()]))
        self.parameters = [nn.Parameter(torch.linspace(-1, 1, s.numel()).view(s).to(dtype)) for s in shapes]
        self.optimizer = cls(self.parameters, lr=0.1, **options)

    def noisy(self, eta=1.0):
        self.noise = attach(self.optimizer, Annealed(eta), seed=SEED)
        return self

    def train(self, steps, first=0, by_hand=False):
        """Train; with `by_hand` the promised noise is in the gradients when the optimizer sees them."""
        for t in range(first, first + steps):

            def closure(t=t):
                return sum(self.backward(f"0.{i}", p, t, by_hand) for i, p in enumerate(self.parameters))

            if isinstance(self.optimizer, LBFGS):
                self.optimizer.step(closure)
            else:
                closure()
                self.optimizer.step()
        return self

    def backward(self, name, p, t, by_hand):
        """Set one gradient; return its part of the loss."""
        wide = torch.complex128 if p.is_complex() else torch.float64
        centre = torch.randn(p.shape, generator=torch.Generator().manual_seed(t), dtype=wide).to(p.dtype)
        clean = p.detach() - centre
        gradient = added(clean, promised(name, t, p)) if by_hand else clean
        p.grad = self.every_other_row(gradient, t) if self.sparse else gradient
        return clean.abs().square().sum().float() / 2

    @staticmethod
    def every_other_row(x, t):
        rows = torch.arange(t % 2, len(x), 2)
        return torch.sparse_coo_tensor(rows[None], x[rows], x.shape, check_invariants=True)

    def values(self):
        return [p.detach().clone() for p in self.parameters]


def reloaded(run, fresh):
    """Bring `fresh` by way of a file to where `run` stands, and return it."""
    file = io.BytesIO()
    torch.save({"parameters": run.values(), "optimizer": run.optimizer.state_dict()}, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    with torch.no_grad():
        for p, value in zip(fresh.parameters, saved["parameters"], strict=True):
            p.copy_(value)
    fresh.optimizer.load_state_dict(saved["optimizer"])
    return fresh


def assert_equal(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@every_optimizer
def test_a_step_equals_a_plain_step_on_noisy_gradients(cls, options, dtype):
    ours = Run(cls, options, dtype).noisy().train(4)
    assert_equal(ours.values(), Run(cls, options, dtype).train(4, by_hand=True).values())
    for i, p in enumerate(ours.parameters):
        assert torch.equal(ours.noise.replay(f"0.{i}", 3), promised(f"0.{i}", 3, p))
    assert ours.noise.step == 4
    without = Run(cls, options, dtype).train(4).values()
    assert not all(map(torch.equal, ours.values(), without))


@every_optimizer
def test_eta_0_is_a_bitwise_no_op(cls, options, dtype):
    generator = torch.get_rng_state()
    quiet = Run(cls, options, dtype).noisy(eta=0.0).train(3)
    assert quiet.noise.step == 3 and torch.equal(torch.get_rng_state(), generator)
    assert_equal(quiet.values(), Run(cls, options, dtype).train(3).values())


@every_optimizer
def test_resumed_equals_uninterrupted(cls, options, dtype):
    ours = reloaded(Run(cls, options, dtype).noisy().train(2), Run(cls, options, dtype).noisy())
    assert ours.noise.step == 2
    whole = Run(cls, options, dtype).train(2, by_hand=True)
    if cls is NAdam:  # is not exact itself: a float32 product of momenta gets the parameter's dtype when it is loaded
        whole = reloaded(whole, Run(cls, options, dtype))
    whole.train(3, first=2, by_hand=True)
    assert_equal(ours.train(3, first=2).values(), whole.values())
