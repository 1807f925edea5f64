"""Dropout masks belong to a replica: a pure function of (seed, layer, update)."""

import math

import pytest
import torch
from support.toys import FEATURES, Config, Regression, changed, replica
from torch import nn

from gradnoise.population import Population, PopulationError, Replica
from gradnoise.population.dropout import MaskedDropout


def wide(rate: float = 0.5) -> nn.Module:
    first, last = nn.Linear(FEATURES, 400), nn.Linear(400, 1)
    return nn.Sequential(first, nn.Dropout(rate), nn.Tanh(), nn.Dropout(rate), last, nn.Flatten(0))


def population(*replicas: Replica, build=wide, **options) -> Population:
    return Population(Regression(lambda config: build()), replicas, trace=False, **options)


def masks(population: Population, t: int) -> list[torch.Tensor]:
    assert population._masks is not None
    return [mask.clone() for mask in population._masks.refill(torch.tensor(t)).values()]


def test_the_law():
    # Rate 0.2: 4800 elements, of which 0.8 are kept, each 1.25; the binomial sd is 0.006.
    first, second = masks(population(replica(0, lr=0.1), build=lambda: wide(0.2)), 0)
    for mask in (first, second):
        assert mask.shape == (1, 6, 400)
        assert set(mask.unique().tolist()) == {0.0, 1.25}
        assert abs((mask > 0).float().mean() - 0.8) < 0.03
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.1


def test_masks_depend_on_seed_layer_and_update_alone():
    mine = replica(0, lr=0.1)
    crowd = population(replica(3, lr=0.1), mine, changed(mine, lr=0.9, clip=1.0), changed(mine, study_seed=1))
    alone = population(mine)
    for t in (7, 0):
        for both, own in zip(masks(crowd, t), masks(alone, t), strict=True):
            assert torch.equal(both[1], own[0]) and torch.equal(both[1], both[2])
            assert not torch.equal(both[0], both[1]) and not torch.equal(both[3], both[1])
    seen = [mask[0] for t in range(3) for mask in masks(alone, t)]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_each_replica_has_its_own_rate():
    mixed = population(replica(0, lr=0.1), replica(0, lr=0.1, dropout=0.9), replica(0, lr=0.1, dropout=0.0))
    mask, _ = masks(mixed, 0)
    assert [(row > 0).float().mean().item() for row in mask] == pytest.approx([0.5, 0.1, 1.0], abs=0.05)
    assert mask[2].eq(1).all()
    # The same words decide: what is kept at rate 0.9 is kept at 0.5.
    assert (mask[0] > 0)[mask[1] > 0].all()


def test_an_update_uses_the_mask():
    engine = population(replica(0, lr=0.5), dtype=torch.float64)
    before = engine.modules.theta.clone()
    first, second = masks(engine, 0)
    engine.step()
    x, y = Regression().batch(replica(0, lr=0.5).seed_for("batches"), 0, Config())
    w1, b1, w2, b2 = leaves = [view[0].requires_grad_() for view in engine.modules.views(before)]
    h = torch.tanh((x @ w1.T + b1) * first[0]) * second[0]
    ((h @ w2.T + b2).flatten() - y).square().mean().backward()
    for leaf, after in zip(leaves, engine.modules.views(engine.modules.theta), strict=True):
        assert torch.allclose(after[0], leaf.detach() - 0.5 * leaf.grad, rtol=1e-12, atol=1e-12)


def test_rate_0_is_no_dropout_bit_for_bit():
    def bare() -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, 400), nn.Tanh(), nn.Linear(400, 1), nn.Flatten(0))

    runs = population(replica(0, lr=0.1, dropout=0.0)), population(replica(0, lr=0.1), build=bare)
    for run in runs:
        for _ in range(3):
            run.step()
    assert torch.equal(runs[0].modules.theta, runs[1].modules.theta)


def test_off_in_evaluation():
    engine = population(replica(0, lr=0.1), replica(1, lr=0.1))
    first, again = engine.evaluate(), engine.evaluate()
    for _ in range(2):
        engine._masks.refill(torch.tensor(5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    module = wide().eval()
    with torch.no_grad():
        for parameter, (_, value) in zip(module.parameters(), engine.modules.named_rows(1), strict=True):
            parameter.copy_(value)
        held_out = Regression().held_out(Config()).float()
        for name, value in Regression().evaluate(module, held_out, Config()).items():
            assert value.item() == pytest.approx(first[name][1].item(), rel=1e-5)


def test_masks_of_those_who_stay():
    engine = population(*(replica(seed, lr=0.1) for seed in range(4)))
    before = masks(engine, 2)
    engine.select([3, 1])
    for old, new in zip(before, masks(engine, 2), strict=True):
        assert torch.equal(old[[3, 1]], new)


def test_layers_deep_inside_and_shared_objects():
    class Block(nn.Module):
        def __init__(self, drop: nn.Dropout) -> None:
            super().__init__()
            self.linear, self.drop = nn.Linear(FEATURES, FEATURES), drop
            self.again = drop  # one object under two names: two places, two masks
            self.missing = None
            self.register_module("none", None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.again(self.drop(self.linear(x)))

    def build() -> nn.Module:
        drop = nn.Dropout(0.3)
        return nn.Sequential(Block(drop), nn.Sequential(Block(drop)), nn.Linear(FEATURES, 1), nn.Flatten(0))

    engine = population(replica(0, lr=0.1), build=build)
    assert engine._masks.names == ["0.drop.mask", "0.again.mask", "1.0.drop.mask", "1.0.again.mask"]
    engine.step()
    assert math.isfinite(engine.telemetry()["train_loss"].item())


def test_a_layer_that_the_loss_does_not_pass():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.idle = nn.Linear(FEATURES, 1), nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x).flatten()

    engine = population(replica(0, lr=0.1), build=Idle)
    engine.step()
    assert engine._masks.names == [] and engine.t == 1


def test_building_and_training_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    engine = population(replica(0, lr=0.1))
    engine.step()
    engine.evaluate()
    assert torch.equal(torch.get_rng_state(), state)


class Often(nn.Module):
    """A dropout layer that is used twice, and one that the first pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.drop, self.late = nn.Linear(FEATURES, FEATURES), nn.Dropout(0.5), nn.Dropout(0.5)
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.drop(self.linear(self.drop(x if self.passes == 1 else self.late(x)))).sum(-1)


def test_a_layer_used_twice_draws_twice_at_the_rate_of_its_replica():
    runs = [replica(0, lr=0.1), replica(0, lr=0.1, dropout=0.0), replica(1, lr=0.1)]
    crowd, alone = (population(*some, build=Often, dtype=torch.float64) for some in (runs, runs[:1]))
    bare = population(runs[1], build=lambda: nn.Sequential(nn.Linear(FEATURES, FEATURES), Sum()), dtype=torch.float64)
    for _ in range(3):
        for run in (crowd, alone, bare):
            run.step()
    assert crowd.modules.loop_reasons == {}
    assert torch.allclose(crowd.modules.theta[0], alone.modules.theta[0], rtol=1e-12)
    assert torch.allclose(crowd.modules.theta[1], bare.modules.theta[0], rtol=1e-12)
    assert not torch.allclose(crowd.modules.theta[0], crowd.modules.theta[1], rtol=1e-3)


class Sum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(-1)


@pytest.mark.parametrize("rows", [1, 4])
def test_minibatches_of_another_shape(rows):
    class Shrinking(Regression):
        def batch(self, seed, t, config):
            x, y = super().batch(seed, t, config)
            return (x[:rows], y[:rows]) if t == 2 else (x, y)

    engine = Population(Shrinking(lambda config: wide()), [replica(0, lr=0.1)], trace=False)
    engine.step()
    engine.step()
    with pytest.raises(PopulationError, match=rf"shape \({rows}, 400\) after \(6, 400\) .* minibatches of one shape"):
        engine.step()


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.linear(x), 0.5, self.training).flatten()


@pytest.mark.parametrize(
    "build",
    [
        Functional,
        *(
            (lambda kind=kind: nn.Sequential(nn.Linear(FEATURES, 8), kind(0.5), nn.Linear(8, 1), nn.Flatten(0)))
            for kind in (nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Dropout1d)
        ),
    ],
)
def test_other_random_layers_draw_for_their_replica(build):
    runs = [replica(seed, lr=0.1) for seed in (0, 1, 0)]
    crowd, alone = (population(*some, build=build, dtype=torch.float64) for some in (runs, runs[:1]))
    before = alone.evaluate()
    for _ in range(3):
        crowd.step()
        alone.step()
    assert crowd.modules.loop_reasons == {}
    assert torch.allclose(crowd.modules.theta[0], alone.modules.theta[0], rtol=1e-12)
    assert torch.equal(crowd.modules.theta[0], crowd.modules.theta[2])
    assert before.keys() == alone.evaluate().keys()


def test_a_rate_without_a_layer():
    with pytest.raises(PopulationError, match=r"asks for dropout, but .* has no nn\.Dropout layer"):
        Population(Regression(), [replica(0, lr=0.1), replica(0, lr=0.1, dropout=0.5)])
    Population(Regression(), [replica(0, lr=0.1, dropout=0.0)])  # nothing is asked for


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_out_of_range(rate):
    with pytest.raises(PopulationError, match=r"is outside \[0, 1\)"):
        replica(0, lr=0.1, dropout=rate)


def test_the_stand_in_outside_a_population():
    layer = MaskedDropout(0.5)
    x = torch.ones(3)
    assert torch.equal(layer.eval()(x), x) and torch.equal(layer.train()(x), x)
