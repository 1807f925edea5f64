"""What an experiment's code keeps between calls is told of, even where it shows in no number yet."""

import collections
import itertools
import warnings

import pytest
import torch
from support.toys import Regression, plain, replica
from torch import nn

from gradnoise.errors import PopulationError
from gradnoise.population import Population
from gradnoise.population.kept import Kept, KeptState
from gradnoise.population.probe import probe
from gradnoise.population.seeds import check_purity

RUNS = [replica(0, lr=0.05), replica(1, lr=0.02)]
COUNT = 0
CACHE: dict[int, int] = {}


def experiment(**methods):
    return type("Own", (Regression,), methods)(lambda config: plain())


def counts_itself(self, model, batch, config):
    """Weigh the loss by a counter that makes itself felt only after a thousand calls."""
    self.calls = getattr(self, "calls", 0) + 1
    return Regression.loss(self, model, batch, config) * (2.0 if self.calls > 1000 else 1.0)


def in_a_global(self, model, batch, config):
    global COUNT
    COUNT += 1
    return Regression.loss(self, model, batch, config)


def helper():
    CACHE[len(CACHE)] = 0


def in_a_function_that_it_calls(self, model, batch, config):
    helper()
    return Regression.loss(self, model, batch, config)


def enclosing():
    numbers, seen = itertools.count(), collections.Counter()

    def loss(self, model, batch, config):
        next(numbers)
        seen["calls"] += 1
        return Regression.loss(self, model, batch, config)

    return loss


class Calls(nn.Module):
    """Counts its own calls."""

    def __init__(self):
        super().__init__()
        self.inner, self.state = plain(), {"calls": 0}

    def forward(self, x):
        self.state["calls"] += 1
        return self.inner(x)


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        ({"loss": counts_itself}, r"changes Own\.calls \(1, then 2\), which"),
        ({"loss": in_a_global}, r"changes COUNT \(\d+, then \d+\), which"),
        ({"loss": in_a_function_that_it_calls}, r"changes CACHE \(\d+ entries, then \d+ entries\), which"),
        ({"loss": enclosing()}, r"changes numbers \(count\(\d\), then count\(\d\)\), seen\['calls'\] \("),
        ({"model": lambda self, config: Calls()}, r"changes model\.state\['calls'\] \(\d, then \d\), which"),
    ],
    ids=["attribute", "global", "called function", "closure", "model"],
)
def test_state_that_shows_in_no_number_is_told_of(methods, names):
    found = experiment(**methods)
    with pytest.warns(KeptState, match=f"the code of the loss {names}.*ask for the update as a tensor"):
        Population(found, RUNS).step()
    assert any("the code of the loss changes" in note for note in probe(found, {}, steps=10).notes)
    assert not probe(found, {}, steps=10, recorded=False).notes


def test_a_cache_that_is_filled_once_is_no_state():
    def loss(self, model, batch, config):
        if not hasattr(self, "scale"):
            self.scale, self.memo = 1.0, {"a": [1, 2]}
        return Regression.loss(self, model, batch, config) * self.scale

    with warnings.catch_warnings():
        warnings.simplefilter("error", KeptState)
        Population(experiment(loss=loss), RUNS).step()
    assert not probe(experiment(loss=loss), {}, steps=10).notes


def test_without_a_recording_nothing_has_to_be_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error", KeptState)
        Population(experiment(loss=counts_itself), RUNS, trace=False).step()


# Caches in what makes minibatches


class Ordered(Regression):
    """Data by the order in which seeds are asked for first."""

    order: dict[int, int] = {}  # noqa: RUF012

    def batch(self, seed, t, config):
        place = self.order.setdefault(seed, len(self.order))
        x, y = super().batch(place, t, config)
        return x, y


class Remembered(Regression):
    """A cache of pure values."""

    def batch(self, seed, t, config):
        memo = self.__dict__.setdefault("memo", {})
        if (seed, t) not in memo:
            memo[seed, t] = super().batch(seed, t, config)
        return memo[seed, t]


def test_a_cache_that_depends_on_the_order_of_calls_is_refused():
    Ordered.order.clear()
    with pytest.raises(PopulationError, match="keep nothing between calls that depends on their order, such as"):
        check_purity(Ordered(lambda config: plain()), RUNS[:2], 10)


def test_a_cache_of_pure_values_is_none():
    found = Remembered(lambda config: plain())
    check_purity(found, RUNS[:2], 10)
    assert found.memo


def test_containers_go_back_to_what_they_held():
    class Root:
        def __init__(self):
            self.a, self.b, self.c, self.deep = [1], {"x": 1}, {1}, {"l": [torch.zeros(1)]}

    root = Root()
    before = Kept(root)
    root.a.append(2), root.b.update(y=2), root.c.add(3), root.deep["l"].clear()
    assert len(before.changes(Kept(root))) == 4
    before.empty_caches()
    assert (root.a, root.b, root.c, len(root.deep["l"])) == ([1], {"x": 1}, {1}, 1)
    assert not before.changes(Kept(root))
