"""A population's minibatches are those of plain indexing, bit for bit, whoever is fed together."""

from collections import Counter
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toys import Regression, replica
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gradnoise.population import Course, Examples, Experiment, Minibatches, Population
from gradnoise.population.feed import Feed
from gradnoise.population.randomness import permutation

N, B = 23, 4
CPU, META = torch.device("cpu"), torch.device("meta")
GENERATOR = torch.Generator().manual_seed(0)
#: A data set with a tensor of every kind.
BYTES = torch.randint(0, 256, (N, 3, 2), dtype=torch.uint8, generator=GENERATOR)
FLOATS = torch.randn(N, 5, generator=GENERATOR)
DOUBLES = torch.randn(N, dtype=torch.float64, generator=GENERATOR)
LABELS = torch.randint(0, 9, (N,), generator=GENERATOR)
FLAGS = torch.rand(N, 2, generator=GENERATOR) > 0.5
DATA = (BYTES, FLOATS, DOUBLES, LABELS, FLAGS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def rows_of(seed: int, t: int) -> Tensor:
    """Which examples update t of a seed sees."""
    epoch, i = divmod(t, N // B)
    return permutation(seed, epoch, N)[i * B : (i + 1) * B]


def plain(rows: Tensor, over: float | None, dtype: torch.dtype) -> list[Tensor]:
    """Index, cast, divide, as anybody would."""
    pixels = BYTES[rows] if over is None else BYTES[rows].to(dtype) / over
    return [pixels, FLOATS[rows].to(dtype), DOUBLES[rows].to(dtype), LABELS[rows], FLAGS[rows]]


def assert_bits(found: Any, expected: list[Tensor]) -> None:
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y)


class InMemory(Experiment):
    """Serves a data set in memory."""

    name = "in memory"

    def __init__(self, over: float | None = 255) -> None:
        self.minibatches = Minibatches(DATA, B, over)
        self.calls: list[tuple[int, int]] = []

    def model(self, config: Any) -> nn.Module:
        return nn.Sequential(nn.Linear(11, 1), nn.Flatten(0))

    def batch(self, seed: int, t: int, config: Any) -> Any:
        self.calls.append((seed, t))
        return self.minibatches(seed, t)

    def loss(self, model: Any, batch: Any, config: Any) -> Tensor:
        pixels, floats, doubles, labels, flags = batch
        y = model(torch.cat([pixels.flatten(1).to(floats.dtype), floats], 1))
        return ((y - doubles - labels) * (1 + flags.sum(1))).square().mean()

    def held_out(self, config: Any) -> Any:
        return {"x": FLOATS, "labels": [LABELS]}

    def evaluate(self, model: Any, held_out: Any, config: Any) -> dict[str, Tensor]:
        return {"sum": held_out["x"].sum() + model[0].bias.sum()}


class Fetched(InMemory):
    """The same minibatches, fetched by hand."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def batch(self, seed: int, t: int, config: Any) -> Any:
        return tuple(plain(rows_of(seed, t), 255, self.dtype))


def runs(seeds: list[int]) -> list[Any]:
    return [replica(seed) for seed in seeds]


def feed_of(experiment: Experiment, seeds: list[int], device=CPU, dtype=torch.float32) -> Feed:
    feed = Feed(experiment, experiment.Config(), device, dtype)
    feed.select(runs(seeds))
    return feed


def batch_seeds(seeds: list[int]) -> list[int]:
    return [run.seed_for("batches") for run in runs(seeds)]


# Examples


@pytest.mark.parametrize("over", [None, 255, 3.0])
def test_examples_are_plain_indexing(over):
    for seed, t in ((0, 0), (0, 4), (0, 5), (7, 123)):
        examples = Minibatches(DATA, B, over)(seed, t)
        assert isinstance(examples, Examples) and len(examples) == 5 and torch.equal(examples.rows, rows_of(seed, t))
        assert_bits(examples, [x if i != 2 else DOUBLES[examples.rows] for i, x in enumerate(plain(
            examples.rows, over, torch.float32))])  # fmt: skip
        assert torch.equal(examples[3], LABELS[examples.rows])


def test_bytes_become_numbers_of_the_default_type():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        pixels, *_ = Minibatches(DATA, B, 255)(0, 0)
    finally:
        torch.set_default_dtype(before)
    assert pixels.dtype == torch.float64 and torch.equal(pixels, BYTES[rows_of(0, 0)].double() / 255)


@pytest.mark.parametrize("row", [N, -1])
def test_an_example_that_is_not_there_is_an_error(row):
    with pytest.raises(IndexError, match="out of range"):
        Examples(Minibatches(DATA, B, 255), torch.tensor([0, 1, 2, row]))[0]


def test_without_numba_the_numbers_are_the_same(monkeypatch):
    compiled = Minibatches(DATA, B, 255)(0, 0)[0]
    monkeypatch.setattr("gradnoise.population.minibatches.kernel", lambda *_: None)
    assert torch.equal(Minibatches(DATA, B, 255)(0, 0)[0], compiled)


def test_examples_unpack_and_can_be_asked_twice():
    pixels, floats, doubles, labels, flags = examples = Minibatches(DATA, B)(1, 2)
    assert_bits((pixels, floats, doubles, labels, flags), [*examples])
    with pytest.raises(IndexError):
        examples[5]


# A population's minibatches


@dtypes
@pytest.mark.parametrize("over", [None, 255])
@pytest.mark.parametrize(
    "seeds", [[0], [3, 3, 3], [0, 1, 2], [2, 0, 1], [0, 0, 1, 1], [1, 0, 1, 0], [5, 2, 5, 5, 0, 2]], ids=str
)
def test_a_population_gets_what_each_would_get_alone(seeds, over, dtype):
    feed = feed_of(InMemory(over), seeds, dtype=dtype)
    for t in (0, 4, 5, 6):  # over the end of an epoch
        batch, shared = feed(t, {})
        assert shared == (len(set(seeds)) == 1)
        for p, seed in enumerate(batch_seeds(seeds)):
            mine = batch if shared else [x[p] for x in batch]
            assert_bits(mine, plain(rows_of(seed, t), over, dtype))


@settings(max_examples=40, deadline=None)
@given(seeds=st.lists(st.integers(0, 4), min_size=1, max_size=9), t=st.integers(0, 20))
def test_any_mixture_of_seeds(seeds, t):
    batch, shared = feed_of(InMemory(), seeds)(t, {})
    for p, seed in enumerate(batch_seeds(seeds)):
        assert_bits(batch if shared else [x[p] for x in batch], plain(rows_of(seed, t), 255, torch.float32))


def test_those_of_one_seed_share_a_minibatch():
    experiment = InMemory()
    feed = feed_of(experiment, [4, 4, 9, 4])
    feed(3, {})
    assert experiment.calls == [(seed, 3) for seed in batch_seeds([4, 9])]


def test_after_some_have_left():
    feed = feed_of(InMemory(), [0, 1, 2])
    feed(0, {})
    for seeds in ([2, 0], [1], [1, 1], []):
        feed.select(runs(seeds))
        if seeds:
            batch, shared = feed(1, {})
            for p, seed in enumerate(batch_seeds(seeds)):
                assert_bits(batch if shared else [x[p] for x in batch], plain(rows_of(seed, 1), 255, torch.float32))


def test_minibatches_of_several_data_sets():
    """One for each seed; what cannot be fetched in one go is put together afterwards."""

    class Several(InMemory):
        def batch(self, seed, t, config):
            return Minibatches(tuple(x.flip(0) if seed % 2 else x for x in DATA), B)(seed, t)

    seeds = list(range(6))
    assert {seed % 2 for seed in batch_seeds(seeds)} == {0, 1}
    batch, shared = feed_of(Several(), seeds)(2, {})
    assert not shared
    for p, seed in enumerate(batch_seeds(seeds)):
        rows = N - 1 - rows_of(seed, 2) if seed % 2 else rows_of(seed, 2)
        assert_bits([x[p] for x in batch], plain(rows, None, torch.float32))


@dtypes
def test_nested_minibatches_are_placed_and_cast(dtype):
    class Nested(InMemory):
        def batch(self, seed, t, config):
            rows = rows_of(seed, t)
            return {"x": FLOATS[rows], "rest": [(DOUBLES[rows], torch.tensor(t)), LABELS[rows]]}

    for seeds in ([0, 0], [1, 0, 1]):
        batch, shared = feed_of(Nested(), seeds, dtype=dtype)(3, {})
        (doubles, t), labels = batch["rest"]
        for p, seed in enumerate(batch_seeds(seeds)):
            mine = [x if shared else x[p] for x in (batch["x"], doubles, t, labels)]
            rows = rows_of(seed, 3)
            assert_bits(mine, [FLOATS[rows].to(dtype), DOUBLES[rows].to(dtype), torch.tensor(3), LABELS[rows]])


class Ragged(InMemory):
    """Minibatches of other lengths for other seeds, padded with nan."""

    def batch(self, seed, t, config):
        self.calls.append((seed, t))
        return FLOATS[: 1 + seed % 5]

    def stack(self, batches):
        longest = max(len(x) for x in batches)
        return torch.stack([nn.functional.pad(x, (0, 0, 0, longest - len(x)), value=torch.nan) for x in batches])


def test_a_padded_stack():
    seeds = [3, 0, 3, 1, 2]
    lengths = [1 + seed % 5 for seed in batch_seeds(seeds)]
    assert len(set(lengths)) > 1
    experiment = Ragged()
    batch, shared = feed_of(experiment, seeds)(0, {})
    assert not shared and batch.shape == (5, max(lengths), 5) and len(experiment.calls) == 4
    for mine, length in zip(batch, lengths, strict=True):
        assert torch.equal(mine[:length], FLOATS[:length]) and mine[length:].isnan().all()
    alone, shared = feed_of(experiment, [3, 3])(0, {})
    assert shared and len(alone) == lengths[0]


def test_minibatches_that_no_seed_decides():
    class Ordered(InMemory):
        same_batches: ClassVar[bool] = True

    experiment = Ordered()
    batch, shared = feed_of(experiment, [4, 9, 2])(6, {})
    assert shared and experiment.calls == [(0, 6)]
    assert_bits(batch, plain(rows_of(0, 6), 255, torch.float32))


def test_a_course_that_generates():
    class Sums(Course):
        generates = True

        def start(self, config):
            return {"count": torch.tensor(0.0)}

        def batch(self, draws, state, config):
            return {"u": draws.uniform("u", 3), "count": state["count"], "t": torch.tensor([draws.t])}

    experiment = InMemory()
    experiment.course = Sums()
    count = torch.arange(3.0, dtype=torch.float64)
    batch, shared = feed_of(experiment, [1, 0, 1], dtype=torch.float64)(4, {"count": count})
    assert not shared and not experiment.calls and torch.equal(batch["count"], count) and batch["t"] == 4
    assert batch["u"].dtype == torch.float64
    assert torch.equal(batch["u"][0], batch["u"][2]) and not torch.equal(batch["u"][0], batch["u"][1])


@dtypes
@pytest.mark.parametrize("seeds", [[0, 0], [0, 1, 0]], ids=str)
def test_training_on_examples_is_training_on_what_they_stand_for(dtype, seeds):
    engines = [Population(kind, runs(seeds), dtype=dtype, trace=False) for kind in (InMemory(), Fetched(dtype))]
    for engine in engines:
        for _ in range(7):
            engine.step()
    assert torch.equal(engines[0].modules.theta, engines[1].modules.theta)


# Held-out data


@dtypes
def test_held_out_data_are_placed_once(dtype):
    class Counting(InMemory):
        asked = 0

        def held_out(self, config):
            self.asked += 1
            return super().held_out(config)

    experiment = Counting()
    feed = feed_of(experiment, [0, 1], dtype=dtype)
    first = feed.held_out()
    feed.select(runs([1]))
    again = feed.held_out()
    assert experiment.asked == 1 and first["x"] is again["x"]
    assert_bits([first["x"], *first["labels"]], [FLOATS.to(dtype), LABELS])


def test_no_held_out_data():
    class Nothing(InMemory):
        held_out = Experiment.held_out

        def evaluate(self, model, held_out, config):
            assert held_out == ()
            return {"bias": model[0].bias.sum()}

    assert Population(Nothing(), runs([0, 1]), trace=False).evaluate()["bias"].shape == (2,)


# Where things lie


class Moves(TorchDispatchMode):
    """Counts copies of whole data sets to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[int, ...]] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        copied = isinstance(out, Tensor) and func is torch.ops.aten._to_copy.default
        if copied and len(args[0].shape) and args[0].shape[0] == N and args[0].device != out.device:
            self.seen[tuple(args[0].shape)] += 1
        return out


@pytest.mark.parametrize("seeds", [[0, 0], [0, 1, 2]], ids=str)
def test_a_data_set_moves_to_the_device_once(seeds):
    with Moves() as moves:
        feed = feed_of(InMemory(), seeds, device=META)
        for t in range(4):
            batch, _ = feed(t, {})
            assert {x.device for x in batch} == {META}
        feed.select(runs(seeds[:1]))
        feed(4, {})
        shapes = [tuple(x.shape) for x in DATA]
        assert moves.seen == Counter(shapes)
        feed.held_out(), feed.held_out()
        assert moves.seen == Counter([*shapes, *(tuple(x.shape) for x in (FLOATS, LABELS))])


def snapshot(thing: Any) -> dict[str, Any]:
    """What an object holds: tensors as copies, all else as it is."""
    return {name: pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, value) for name, value in
            vars(thing).items()}  # fmt: skip


@pytest.mark.parametrize("make", [Regression, InMemory], ids=["regression", "in memory"])
@pytest.mark.parametrize("trace", [False, True])
def test_nothing_is_written_into_the_users_object(make, trace):
    class Quiet(make):
        def batch(self, seed, t, config):
            self.__dict__.pop("calls", None)  # the test's own
            return self.minibatches(seed, t) if make is InMemory else super().batch(seed, t, config)

    experiment = Quiet()
    experiment.__dict__.pop("calls", None)
    before, kind = snapshot(experiment), dict(vars(Quiet))
    data = [x.clone() for x in DATA]
    engine = Population(experiment, runs([0, 1, 0]), dtype=torch.float64, trace=trace)
    for _ in range(3):
        engine.step()
    engine.evaluate()
    engine.load_state_dict(engine.state_dict())
    after = vars(experiment)
    assert after.keys() == before.keys() and dict(vars(Quiet)) == kind
    for name, value in before.items():
        assert value is after[name] or value == after[name] or name == "shape", name
    assert all(torch.equal(x, y) for x, y in zip(data, DATA, strict=True))
