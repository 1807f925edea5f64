"""Habits of plain training loops: what a population takes as it is, and the one sentence for what it cannot."""

import cProfile
import pstats
import sys
from types import FrameType

import pytest
import torch
from support.toys import FEATURES, Regression, assert_close, parameters_of, plain, replica
from torch import nn
from torch.func import grad, vmap
from torch.utils.checkpoint import checkpoint

from gradnoise.population import Population, PopulationError, check_experiment

RUNS = (replica(0, lr=0.05), replica(1, lr=0.1))


def trained(experiment, runs=RUNS, **options) -> Population:
    engine = Population(experiment, runs, **options)
    for _ in range(3):
        engine.step()
    engine.evaluate()
    return engine


def whole() -> nn.Module:
    return torch.compile(plain())  # type: ignore[return-value]


def part() -> nn.Module:
    model = plain()
    model[0] = torch.compile(model[0])
    return model


def in_place() -> nn.Module:
    model = plain()
    model.compile()
    return model


@pytest.mark.parametrize("build", [whole, part, in_place])
def test_a_compiled_model_trains_as_the_model_inside(build):
    compiled = trained(Regression(lambda config: build()), dtype=torch.float64)
    ordinary = trained(Regression(), dtype=torch.float64)
    assert compiled.modules.names == ordinary.modules.names and compiled.modules.loop_reasons == {}
    assert_close(parameters_of(compiled), parameters_of(ordinary))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool, looped: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(FEATURES, 5), nn.Linear(5, 1)
        self.reentrant, self.looped = reentrant, looped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.looped:
            x.sum().item()
        h = checkpoint(lambda x: torch.tanh(self.first(x)), x, use_reentrant=self.reentrant)
        return self.last(h).squeeze(-1)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("looped", [True, False])
def test_activation_checkpointing_is_refused(reentrant, looped):
    # in a loop nothing else would tell: the gradients would be those of other parameters
    message = r"its loss uses torch.utils.checkpoint \(test_habits.py, line \d+, in forward\); .*leave activation"
    with pytest.raises(PopulationError, match=message):
        trained(Regression(lambda config: Checkpointed(reentrant, looped)))


class Halved(Regression):
    looped = False

    def loss(self, model, batch, config):
        x, y = batch
        if self.looped:
            x.sum().item()
        with torch.autocast("cpu", torch.bfloat16):
            output = model(x)
        return ((output.float() - y) ** 2).mean()


def test_autocast_is_refused_where_it_reaches_only_some_operations():
    message = r"its loss uses torch.autocast \(test_habits.py, line \d+, in loss\), which reaches only some"
    with pytest.raises(PopulationError, match=message):
        trained(Halved())
    looped = Halved()
    looped.looped = True
    assert "loss" in trained(looped).modules.loop_reasons


def test_a_lazy_layer_is_named():
    with pytest.raises(PopulationError, match=r"regression.model: '0.weight' is of a lazy layer .*number of inputs"):
        trained(Regression(lambda config: nn.Sequential(nn.LazyLinear(1), nn.Flatten(0))))


class Slope(Regression):
    """A loss with the derivative of the output by the input, as physics-informed networks have."""

    kept = True

    def loss(self, model, batch, config):
        x, y = batch
        if self.kept:
            slope = vmap(grad(lambda row: model(row[None]).sum()))(x)
        else:
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return ((model(x) - y) ** 2).mean() + (slope**2).mean()


def test_autograd_grad_runs_as_a_loop_and_func_grad_does_not():
    kept, looped = Slope(), Slope()
    looped.kept = False
    one, other = trained(kept, dtype=torch.float64), trained(looped, dtype=torch.float64)
    assert_close(parameters_of(one), parameters_of(other), 1e-10)
    assert one.modules.loop_reasons == {}
    reason = other.modules.loop_reasons["loss"]
    assert "(test_habits.py, line " in reason and "torch.func.grad, in place of torch.autograd.grad, keeps it" in reason


def variant(change):
    class Variant(Regression):
        def loss(self, model, batch, config):
            return change(Regression.loss(self, model, batch, config))

    return Variant()


def backward(loss):
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loss: loss.item(), "regression.loss returned a float; return the scalar tensor itself"),
        (lambda loss: None, "regression.loss returned a NoneType"),
        (lambda loss: loss.detach(), "the loss has no gradient: it was detached"),
        (backward, "the loss calls `backward` itself; return it"),
        (lambda loss: loss[None], r"regression.loss returned shape \(1,\); a loss is a scalar"),
        (
            lambda loss: (loss, loss),
            "regression.loss returned 2 values; return one scalar, .* networks that are updated",
        ),
        (lambda loss: [loss], "regression.loss returned 1 values; return one scalar"),
        (lambda loss: {"d": loss, "g": loss, "r": loss}, "regression.loss returned 3 values; return one scalar"),
    ],
)
def test_a_loss_that_is_none(change, message):
    with pytest.raises(PopulationError, match=message):
        trained(variant(change))


@pytest.mark.parametrize("value", [3, "text", None, 1.5])
@pytest.mark.parametrize("runs", [RUNS, RUNS[:1]])
def test_a_minibatch_holds_tensors(value, runs):
    class Mixed(Regression):
        def batch(self, seed, t, config):
            return {"pair": super().batch(seed, t, config), "more": [value]}

    with pytest.raises(PopulationError, match=f"regression.batch returned a {type(value).__name__}; .*tensors only"):
        trained(Mixed(), runs)


def test_a_check_says_that_it_trains_in_float64():
    class Single(Regression):
        def loss(self, model, batch, config):
            return (model(batch[0])[:, None] @ torch.ones(1, 1)).mean()

    trained(Single())
    message = r"a check trains in float64, and there .*\(test_habits.py, line \d+, in loss\); make constants in"
    with pytest.raises(PopulationError, match=message):
        check_experiment(Single())


def test_a_profiler_sees_the_training_and_does_not_end_it():
    profiler = cProfile.Profile()
    with profiler:
        trained(Regression())
    names = {entry[2] for entry in pstats.Stats(profiler).stats}  # type: ignore[attr-defined]
    assert "evaluate" in names


def test_a_profile_function_is_put_back():
    seen: list[str] = []

    def count(frame: FrameType, event: str, argument: object) -> None:
        seen.append(event)

    sys.setprofile(count)
    try:
        trained(Regression())
        assert sys.getprofile() is count and seen
    finally:
        sys.setprofile(None)
