"""Whether what an experiment makes is a function of what it is given: a study pairs its runs by that.

Global random numbers (torch's, numpy's, Python's), an iterator or a generator that is kept between calls give every run
other data, and then an arm and its baseline are no pair.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradnoise.errors import PopulationError
from gradnoise.population.minibatches import fetched
from gradnoise.population.randomness import kept_generators

T = TypeVar("T")

#: Names of the global generators, in the order of `states`.
SOURCES = ("torch", "numpy", "random")
#: Reading the states of numpy and `random` takes as long as a small minibatch, so later calls are watched now and then.
ALL_UNTIL, THEN_EVERY = 100, 10


def states(all_of_them: bool = True) -> tuple[object, ...]:
    """Return the states of the global generators on the host, torch's alone if that is enough, to be compared."""
    mine = torch.get_rng_state().numpy().tobytes()
    if not all_of_them:
        return (mine,)
    name, key, *rest = np.random.get_state()
    return mine, (name, np.asarray(key).tobytes(), *rest), random.getstate()


@contextmanager
def elsewhere(seed: int = 20_150_515) -> Iterator[None]:
    """Run a block with all global generators in another state, and put them back."""
    with kept_generators():
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield


def same(a: Any, b: Any) -> bool:
    """Tell whether two nestings of tensors are equal, nan included."""
    mine, theirs = (pytree.tree_leaves(fetched(x)) for x in (a, b))
    return len(mine) == len(theirs) and all(map(_equal, mine, theirs))


def _equal(x: Any, y: Any) -> bool:
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        return x is y or bool(x == y)
    if x.shape != y.shape or x.dtype != y.dtype:
        return False
    return torch.equal(x, y) or bool(((x == y) | ((x != x) & (y != y))).all())


class Guard:
    """Calls what makes minibatches, and refuses what the global random numbers decide.

    A function that seeds these itself gives the same data from any state of them, and is left alone.

    Args:
        name: of the experiment.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._seeds_them = False

    def __call__(self, t: int, make: Callable[[], T]) -> T:
        """Return what `make` makes for update t.

        Raises:
            PopulationError: it depends on a global generator.
        """
        if self._seeds_them:
            return make()
        watched = t < ALL_UNTIL or t % THEN_EVERY == 0
        before = states(watched)
        made = make()
        after = states(watched)
        if before == after:
            return made
        with elsewhere():
            again = make()
        if not same(made, again):
            source = next(n for n, x, y in zip(SOURCES, before, after, strict=False) if x != y)
            raise PopulationError(
                f"{self._name}.batch draws from the global random numbers of {source}, so that runs of one seed see"
                " different data; draw with a generator made from `seed` and `t`, such as torch.Generator()"
                ".manual_seed(derive_seed(seed, t, 'data')), and take no minibatch from a DataLoader"
            )
        self._seeds_them = True
        return made
