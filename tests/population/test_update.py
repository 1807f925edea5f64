"""One update is a function of tensors: no value is read on the host, nothing moves, and a recording replays it."""

import dataclasses
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from support.toys import all_with, replica
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from gradnoise.noise.gaussian import add_rows_
from gradnoise.noise.schedule import Annealed, Fixed
from gradnoise.population import SGD, AdaGrad, Adam, RMSProp
from gradnoise.population.constants import LENGTH, Tables
from gradnoise.population.update import Live, Rule, update

NAMES, OFFSETS = ("weight", "bias", "scale"), (0, 6, 8, 9)
P, N = 4, OFFSETS[-1]
MODULE = "gradnoise.population.update.add_rows_"

#: Runs that differ in everything that may differ; one ends, and one is bad now and then.
RUNS = [
    replica(0, lr=0.1),
    replica(1, lr=lambda t: 0.1 / (1 + t), noise=Annealed(0.1), clip=0.5),
    replica(2, lr=0.02, noise=Fixed(0.3), noise_first=True, clip=0.3),
    replica(3, lr=0.05, weight_noise=Annealed(0.01)),
]
CASES = {
    "plain": [replica(seed, lr=0.1) for seed in range(P)],
    "noise": [replica(seed, lr=0.1, noise=Annealed(0.1)) for seed in range(P)],
    "clip": [replica(seed, lr=0.1, clip=0.5) for seed in range(P)],
    "all": RUNS,
    "by name": [*RUNS[:2], replica(2, lr=0.02, noise=Fixed(0.3), clip=0.3, noise_on=("!bias",)), RUNS[3]],
    "momentum": all_with(RUNS, optimizer=SGD(0.9)),
    "each tensor": all_with(RUNS, clip_per="tensor"),
    "AdaGrad": all_with(RUNS, optimizer=AdaGrad()),
    "RMSProp": all_with(RUNS, optimizer=RMSProp(momentum=0.5)),
    "Adam": all_with(RUNS, optimizer=Adam()),
}
cases = pytest.mark.parametrize("case", CASES)
patience = pytest.mark.parametrize("patience", [1, 2])


def carried(state: dict[str, Tensor], observed: dict[str, Tensor], t: Tensor) -> dict[str, Tensor]:
    """A hidden state that is carried on and an update that is remembered: two states change places."""
    last = torch.where(observed["wrong"] > 0, t, state["last"])
    return {"hidden": observed["hidden"], "older": state["hidden"], "last": last}


@dataclass
class Setting:
    """What `update` is called with."""

    rule: Rule
    live: Live
    tables: Tables
    g: Tensor

    def segments(self, g: Tensor) -> list[Tensor]:
        return [g[:, a:b] for a, b in pairwise(OFFSETS)]

    def inputs(self, t: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Gradients [P, N], losses [P] and observed of update t; row 1 is bad at 2, and row 3 from 4 to the end."""
        generator = torch.Generator().manual_seed(t)
        g = torch.randn(P, N, generator=generator, dtype=torch.float64)
        losses = torch.rand(P, generator=generator, dtype=torch.float64)
        if t == 2:
            losses[1] = torch.nan
        if t >= 4:
            g[3, 5] = torch.inf
        hidden = torch.randn(P, 2, 3, generator=generator, dtype=torch.float64)
        return g, losses, {"hidden": hidden, "wrong": losses - 0.5}

    def step(self, t: int) -> None:
        g, losses, observed = self.inputs(t)
        self.g.copy_(g)
        update(self.rule, self.live, self.g, self.segments(self.g), losses, observed, self.tables.at(t))


def setting(case: str, patience: int) -> Setting:
    runs = CASES[case]
    training = runs[0].training
    theta = torch.linspace(-1, 1, P * N, dtype=torch.float64).view(P, N)
    live = Live(
        t=torch.zeros((), dtype=torch.int64),
        clock=torch.zeros((), dtype=torch.int64),
        theta=theta,
        optimizer=training.optimizer.init(theta),
        course={
            "hidden": torch.zeros(P, 2, 3, dtype=torch.float64),
            "older": torch.zeros(P, 2, 3, dtype=torch.float64),
            "last": torch.zeros(P, dtype=torch.int64),
        },
        failures=torch.zeros(2, P, dtype=torch.int64),
        diverged_at=torch.full((P,), -1),
        sums=torch.zeros(3, P, dtype=torch.float64),
    )
    rule = Rule(training.optimizer, training.clip_per, patience, carried)
    return Setting(rule, live, Tables(runs, NAMES, OFFSETS, theta), torch.empty_like(theta))


def values(live: Live) -> dict[str, object]:
    return {f.name: getattr(live, f.name) for f in dataclasses.fields(Live)}


def tensors(live: Live) -> list[Tensor]:
    return pytree.tree_leaves(values(live))


def nothing(x: Tensor, *_: object, **__: object) -> None:
    """Stands for the kernel that adds noise, which a graph holds as one opaque operation."""


# No value is read


def under_fake_tensors(found: Setting) -> None:
    """Run an update on tensors without values: to read one, or to make a shape of one, is an error."""
    mode, rows = FakeTensorMode(), found.tables.at(0)

    def fake(x: Tensor | None) -> Tensor | None:
        return None if x is None else mode.from_tensor(x)

    live = Live(**pytree.tree_map(fake, values(found.live)))
    constants = pytree.tree_map(fake, rows)
    g, losses, observed = pytree.tree_map(fake, found.inputs(0))
    with mode:
        update(found.rule, live, g, found.segments(g), losses, observed, constants)


@pytest.fixture
def by_operations(monkeypatch):
    """Have Adam's rule done by torch's operations, as on a device."""
    monkeypatch.setattr("gradnoise.population.adam.kernel", lambda *_: None)


@cases
@patience
@pytest.mark.usefixtures("by_operations")
def test_no_value_is_read_on_the_host(case, patience, monkeypatch):
    monkeypatch.setattr(MODULE, nothing)
    under_fake_tensors(setting(case, patience))


def test_a_value_that_is_read_would_be_found(monkeypatch):
    def after(state, observed, t):
        return state if observed["wrong"].any() else carried(state, observed, t)

    monkeypatch.setattr(MODULE, nothing)
    found = setting("all", 1)
    found.rule = dataclasses.replace(found.rule, after=after)
    with pytest.raises(DataDependentOutputException):
        under_fake_tensors(found)


# Nothing moves


@cases
@patience
def test_nothing_moves(case, patience):
    found = setting(case, patience)
    places = [x.data_ptr() for x in tensors(found.live)]
    before = [x.clone() for x in tensors(found.live)]
    for t in range(6):
        found.step(t)
        assert [x.data_ptr() for x in tensors(found.live)] == places
    changed = {n: not torch.equal(x, y) for n, x, y in zip(names(found), tensors(found.live), before, strict=True)}
    assert all(changed.values()), changed


def names(found: Setting) -> list[str]:
    return [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(values(found.live))[0]]


# Recorded and replayed


@torch.library.custom_op("gradnoise_tests::add_rows", mutates_args=("x",))
def opaque(x: Tensor, offsets: Tensor, keys: Tensor, t: Tensor, sigma: Tensor, scale: Tensor | None = None) -> None:
    add_rows_(x, offsets=offsets, keys=keys, t=t, sigma=sigma, scale=scale)


opaque.register_fake(nothing)


@cases
@patience
@pytest.mark.usefixtures("by_operations")
def test_an_update_that_is_recorded_once_replays_all_others(case, patience, monkeypatch):
    """Bit for bit, over updates that are bad for some rows and over the border of the tables."""
    called, replayed = (setting(case, patience) for _ in range(2))
    flat, spec = pytree.tree_flatten((values(replayed.live), replayed.g, *replayed.inputs(0)[1:]))
    leaves, of_rows = pytree.tree_flatten(replayed.tables.at(0))
    rows = [x for x in leaves if x is not None]

    def run(flat: list[Tensor], rows: list[Tensor]) -> None:
        live, g, losses, observed = pytree.tree_unflatten(flat, spec)
        left = iter(rows)
        constants = pytree.tree_unflatten([None if x is None else next(left) for x in leaves], of_rows)
        update(replayed.rule, Live(**live), g, replayed.segments(g), losses, observed, constants)

    with monkeypatch.context() as patch:
        patch.setattr(MODULE, opaque)
        graph = make_fx(run, tracing_mode="fake")([x.clone() for x in flat], rows)
    constants = [n.name for n in graph.graph.nodes if n.op == "get_attr"]
    assert constants == [], "a constant of one update went into the recording"
    for t in [*range(8), LENGTH - 1, LENGTH, LENGTH + 1]:
        for one in (called, replayed):
            one.live.t.fill_(t)
            one.live.clock.fill_(t)
        called.step(t)
        g, losses, observed = replayed.inputs(t)
        replayed.g.copy_(g)
        inputs = pytree.tree_leaves((values(replayed.live), replayed.g, losses, observed))
        graph(inputs, [x for x in pytree.tree_leaves(replayed.tables.at(t)) if x is not None])
        for name, x, y in zip(names(called), tensors(called.live), tensors(replayed.live), strict=True):
            assert torch.equal(x.nan_to_num(7), y.nan_to_num(7)), (t, name)


# What becomes of bad rows


@patience
def test_bad_rows_are_counted_and_end(patience):
    found = setting("all", patience)
    for t in range(7):
        found.step(t)
    ends = {1: {1: 2, 3: 4}, 2: {3: 5}}[patience]
    assert found.live.diverged_at.tolist() == [ends.get(row, -1) for row in range(P)]
    assert found.live.failures.tolist() == [[0, 0, 0, 3], [0, 1, 0, 3]]
    assert found.live.t.item() == 7


def test_a_bad_row_that_may_go_on_keeps_everything():
    found = setting("Adam", 2)
    for t in range(2):
        found.step(t)
    before = dict(zip(names(found), (x.clone() for x in tensors(found.live)), strict=True))
    found.step(2)
    after = dict(zip(names(found), tensors(found.live), strict=True))
    kept = [name for name in after if name.startswith(("['theta']", "['optimizer']", "['course']"))]
    assert len(kept) == 1 + 2 + 3
    for name in kept:
        assert torch.equal(before[name][1], after[name][1]), name
        assert not torch.equal(before[name][0], after[name][0]) or name == "['course']['last']", name
    assert torch.equal(before["['sums']"][:, 1], after["['sums']"][:, 1])
    assert not torch.equal(before["['sums']"][:, 0], after["['sums']"][:, 0])


@cases
@patience
def test_a_bad_row_changes_no_bit_of_the_others(case, patience):
    sick, well = (setting(case, patience) for _ in range(2))
    inputs = well.inputs
    well.inputs = lambda t: pytree.tree_map(lambda x: torch.where(torch.isfinite(x), x, 1.0), inputs(t))
    for t in range(6):
        sick.step(t), well.step(t)
    for name, x, y in zip(names(sick), tensors(sick.live), tensors(well.live), strict=True):
        if x.dim():
            rows = (slice(None), [0, 2]) if name in ("['failures']", "['sums']") else [0, 2]
            assert torch.equal(x[rows], y[rows]), name
