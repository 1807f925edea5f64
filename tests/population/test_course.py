"""What a replica keeps beside its weights: hidden states of language models, generated data, states that swap."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from support.toys import assert_close, assert_same, changed, parameters_of, replica, trajectories
from torch import Tensor, nn

from gradnoise.noise.gaussian import normal, stream_key
from gradnoise.noise.schedule import Annealed, Relative
from gradnoise.population import Course, Draws, Experiment, Population, PopulationError, check_experiment
from gradnoise.population.randomness import seeded

WORDS, STREAMS, WINDOW, UNITS = 7, 3, 4, 5
#: 3 texts of 40 words, read side by side.
CORPUS = torch.randint(0, WORDS, (STREAMS, 40), generator=torch.Generator().manual_seed(0))
WINDOWS = (CORPUS.shape[1] - 1) // WINDOW


class Recurrent(nn.Module):
    """A language model of one tanh layer."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(WORDS, UNITS)
        self.carry = nn.Linear(UNITS, UNITS, bias=False)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.out = nn.Linear(UNITS, WORDS)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Read one-hot words [B, T, V]; return logits [B, T, V] and the last hidden state [B, H]."""
        logits = []
        for word in self.embed(x).unbind(1):
            hidden = torch.tanh(word + 2 * self.carry(hidden))
            logits.append(self.out(self.drop(hidden)))
        return torch.stack(logits, 1), hidden


class Library(nn.Module):
    """The same with torch's own layer, which vmap cannot run."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRU(WORDS, UNITS, batch_first=True), nn.Linear(UNITS, WORDS)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        y, last = self.cell(x, hidden[None])
        return self.out(y), last[0]


class Carried(Course):
    """The hidden state at the end of a window begins the next one."""

    def start(self, config: Any) -> dict[str, Tensor]:
        return {"hidden": torch.zeros(STREAMS, UNITS)}

    def after(self, state: Any, observed: Any, t: Tensor, config: Any) -> dict[str, Tensor]:
        return {"hidden": observed["hidden"]}

    def recorded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"activity": state["hidden"].abs().mean((1, 2))}


class Text(Experiment):
    """Predict the next word of a corpus that is read in order, window by window, and again from its beginning.

    Windows of the updates in `poison` are nan for replicas whose hidden state is not.
    """

    name = "text"
    same_batches: ClassVar[bool] = True
    course: Course | None = Carried()

    def __init__(self, build: Callable[[], nn.Module] = Recurrent, poison: tuple[int, ...] = ()) -> None:
        self.build, self.poison = build, poison

    def model(self, config: Any) -> nn.Module:
        return self.build()

    def batch(self, seed: int, t: int, config: Any) -> dict[str, Tensor]:
        place = t % WINDOWS * WINDOW
        words = CORPUS[:, place : place + WINDOW + 1]
        x = nn.functional.one_hot(words[:, :-1], WORDS).float()
        fresh = torch.tensor(t % WINDOWS == 0)
        return {"x": x * (torch.nan if t in self.poison else 1.0), "y": words[:, 1:], "fresh": fresh}

    def loss(self, model: Any, batch: Any, config: Any) -> tuple[Tensor, dict[str, Tensor]]:
        text, state = batch
        hidden = torch.where(text["fresh"], 0.0, state["hidden"])
        logits, hidden = model(text["x"], hidden)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), text["y"].flatten())
        return loss, {"hidden": hidden}

    def held_out(self, config: Any) -> Tensor:
        return nn.functional.one_hot(CORPUS, WORDS).float()

    def evaluate(self, model: Any, held_out: Tensor, config: Any) -> dict[str, Tensor]:
        logits, _ = model(held_out[:, :-1], held_out.new_zeros(STREAMS, UNITS))
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), CORPUS[:, 1:].flatten())}


class OwnOrder(Text):
    """Every seed begins elsewhere in the text."""

    same_batches = False

    def batch(self, seed: int, t: int, config: Any) -> dict[str, Tensor]:
        return super().batch(seed, t + seed % 5, config)


RUNS = (
    replica(0, lr=0.3),
    replica(0, lr=0.3, noise=Annealed(0.01)),
    replica(1, lr=0.1, clip=0.5, noise=Annealed(0.1)),
    replica(2, lr=0.2, clip=0.3),
)


def population(experiment: Experiment, runs=RUNS, **options: Any) -> Population:
    return Population(experiment, runs, **({"trace": False, "dtype": torch.float64} | options))


def by_hand(experiment: Text, run: Any, steps: int, carry: bool = True) -> tuple[Tensor, Tensor]:
    """Parameters after each update [T, N] and the last hidden state: backpropagation truncated at every window."""
    with seeded(run.seed_for("init")):
        model = experiment.build().double()
    parameters, training = list(model.parameters()), run.training
    optimizer = torch.optim.SGD(parameters, lr=training.rate(0))
    hidden, path = torch.zeros(STREAMS, UNITS, dtype=torch.float64), []
    for t in range(steps):
        text = experiment.batch(run.seed_for("batches"), t, None)
        start = torch.zeros_like(hidden) if text["fresh"] or not carry else hidden
        logits, after = model(text["x"].double(), start)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), text["y"].flatten()).backward()
        norm = torch.cat([p.grad.flatten() for p in parameters]).norm()
        for p in parameters if training.clip else []:
            p.grad.mul_(min(1.0, training.clip / norm))
        for name, p in model.named_parameters() if training.noise else []:
            z = normal(stream_key(run.seed_for("noise"), name), t, p.numel()).view(p.shape)
            p.grad.add_(training.noise(t) ** 0.5 * z.double())
        if torch.isfinite(norm):
            optimizer.step()
            hidden = after.detach()
        path.append(nn.utils.parameters_to_vector(parameters).detach().clone())
    return torch.stack(path), hidden


# A hidden state that is carried on


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("kind", [Text, OwnOrder])
def test_a_carried_state_is_truncated_backpropagation(kind, trace):
    engine = population(kind(), trace=trace)
    paths = trajectories(engine, 2 * WINDOWS + 3)
    hidden = engine.state_dict()["course"]["hidden"]
    for i, run in enumerate(RUNS):
        expected, last = by_hand(kind(), run, 2 * WINDOWS + 3)
        assert_close({i: paths[i]}, {i: expected})
        assert torch.allclose(hidden[i], last, rtol=1e-11, atol=1e-11)
        forgetful, _ = by_hand(kind(), run, 2 * WINDOWS + 3, carry=False)
        assert (expected[-1] - forgetful[-1]).abs().max() > 1e-4, "the state has no say"


def test_where_vmap_cannot_run_the_layer():
    engine = population(Text(Library), trace=True)
    paths = trajectories(engine, 12)
    assert "aten::gru" in engine.modules.loop_reasons["loss"]
    for i, run in enumerate(RUNS):
        assert_close({i: paths[i]}, {i: by_hand(Text(Library), run, 12)[0]})


def test_a_replica_alone_and_in_a_population():
    together = trajectories(population(OwnOrder()), 12)
    for i, run in enumerate(RUNS):
        assert_close({i: trajectories(population(OwnOrder(), [run]), 12)[0]}, {i: together[i]})


def test_it_is_recorded_with_the_metrics():
    engine = population(Text())
    trajectories(engine, 3)
    hidden = engine.state_dict()["course"]["hidden"]
    assert torch.equal(engine.telemetry()["activity"], hidden.abs().mean((1, 2)))
    assert engine.evaluate()["loss"].shape == (4,)


@pytest.mark.parametrize("name", ["clipped", "train_loss", "skipped"])
def test_what_it_records_has_names_of_its_own(name):
    class Named(Carried):
        def recorded(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: state["hidden"].mean((1, 2))}

    class Texts(OwnOrder):
        course = Named()

    with pytest.raises(PopulationError, match=f"the course records '{name}', which is recorded of every experiment"):
        population(Texts()).telemetry()


def test_dropout_in_a_model_with_a_state():
    every_step = population(Text(lambda: Recurrent(0.5)))  # a mask for each step of the window
    without = population(Text(lambda: Recurrent(0.0)))
    seen, other = trajectories(every_step, 3), trajectories(without, 3)
    assert every_step.diverged == {} and not torch.equal(seen[0], other[0])

    class Once(Recurrent):
        def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(self.before(x), hidden)

    def build() -> nn.Module:
        model = Once()
        model.before = nn.Dropout(0.5)
        return model

    engine = population(Text(build))
    trajectories(engine, 3)
    assert engine.diverged == {} and torch.isfinite(engine.modules.theta).all()


# Checkpoints, skipped updates, departures


@pytest.mark.parametrize("trace", [False, True])
def test_resumed_is_the_same_bit_for_bit(trace):
    straight, resumed = (population(OwnOrder(), trace=trace, dtype=torch.float32) for _ in range(2))
    trajectories(straight, 7)
    resumed.load_state_dict(straight.state_dict())
    assert_same(resumed.state_dict()["course"], straight.state_dict()["course"])
    assert straight.state_dict()["course"]["hidden"].any()
    expected = trajectories(straight, 5)
    assert_same(trajectories(resumed, 5), expected)
    assert_same(resumed.state_dict()["course"], straight.state_dict()["course"])


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        (torch.zeros(4, STREAMS, UNITS + 1, dtype=torch.float64), r"course hidden .*\(3, 6\), here .*\(3, 5\)"),
        (torch.zeros(4, STREAMS, UNITS), "course hidden torch.float32 .*, here course hidden torch.float64"),
        (None, "among its tensors is none, here course hidden"),
    ],
)
def test_a_checkpoint_of_another_state(hidden, message):
    engine = population(Text())
    saved = engine.state_dict() | {"course": {} if hidden is None else {"hidden": hidden}}
    with pytest.raises(PopulationError, match=f"another population: .*{message}"):
        engine.load_state_dict(saved)


class Patient(Text):
    patience = 2


@pytest.mark.parametrize("trace", [False, True])
def test_the_state_of_a_skipped_update_is_put_back(trace):
    """The bad window is left out: the next one begins where the one before it ended."""
    engine = population(Patient(poison=(5,)), trace=trace)
    paths = trajectories(engine, 5)
    before = engine.state_dict()["course"]["hidden"].clone()
    engine.step()
    assert torch.equal(engine.state_dict()["course"]["hidden"], before)
    assert engine.telemetry()["skipped"].tolist() == [1] * 4
    rest = trajectories(engine, 4)
    assert engine.alive == [0, 1, 2, 3]
    for i, run in enumerate(RUNS):
        expected, _ = by_hand(Patient(poison=(5,)), run, 10)
        assert_close({i: torch.cat([paths[i], rest[i]])}, {i: expected[[0, 1, 2, 3, 4, 6, 7, 8, 9]]})


def test_a_state_leaves_with_its_row():
    class Sick(OwnOrder):
        def loss(self, model, batch, config):
            loss, observed = super().loss(model, batch, config)
            return loss * torch.where(batch[0]["sick"], torch.nan, 1.0), observed

        def batch(self, seed, t, config):
            sick = seed == RUNS[2].seed_for("batches") and t == 3
            return super().batch(seed, t, config) | {"sick": torch.tensor(sick)}

    engine = population(Sick())
    trajectories(engine, 3)
    hidden = engine.state_dict()["course"]["hidden"].clone()
    engine.step()
    engine.settle()
    left = engine.state_dict()["course"]["hidden"].clone()
    assert engine.alive == [0, 1, 3] and engine.diverged == {2: 3} and left.shape == (3, STREAMS, UNITS)
    assert not torch.equal(left, hidden[[0, 1, 3]])
    engine.select([2, 0])
    assert torch.equal(engine.state_dict()["course"]["hidden"], left[[2, 0]])
    engine.step()
    healthy = population(Sick(), [RUNS[3], RUNS[0]])
    trajectories(healthy, 5)
    assert_close(dict(enumerate(parameters_of(engine).values())), dict(enumerate(parameters_of(healthy).values())))


def test_the_contract():
    assert check_experiment(Text())["loss runs by"] == "vmap"


# Data that follows from the state


@dataclasses.dataclass(frozen=True)
class Begin:
    first: float = 1.0


class Doubling(Course):
    """Targets follow from the state, which doubles with every update; inputs are drawn."""

    generates = True

    def start(self, config: Begin) -> dict[str, Tensor]:
        return {"target": torch.tensor(config.first)}

    def batch(self, draws: Draws, state: dict[str, Tensor], config: Begin) -> dict[str, Tensor]:
        return {"x": draws.uniform("x", 5, 2), "y": state["target"]}

    def after(self, state: Any, observed: Any, t: Tensor, config: Begin) -> dict[str, Tensor]:
        assert t.shape == () and not t.is_floating_point()
        return {"target": state["target"] * 2}


class Follow(Experiment):
    """A linear layer whose mean output follows a target."""

    name = "follow"
    Config: ClassVar[type] = Begin
    replica_keys = frozenset({"first"})
    course: Course | None = Doubling()

    def model(self, config: Begin) -> nn.Module:
        return nn.Linear(2, 1)

    def loss(self, model: Any, batch: Any, config: Any) -> Tensor:
        made, state = batch
        return (model(made["x"]).mean() - made["y"]) ** 2 + 0 * state["target"]

    def evaluate(self, model: Any, held_out: Any, config: Any) -> dict[str, Tensor]:
        return {"bias": model.bias.sum()}


@pytest.mark.parametrize("trace", [False, True])
def test_data_follow_from_the_state_and_the_seed(trace):
    runs = [replica(seed, lr=0.01, config=Begin(first)) for seed, first in ((0, 1.0), (0, 3.0), (1, 1.0))]
    engine = population(Follow(), runs, trace=trace)
    paths = trajectories(engine, 6)
    assert engine.state_dict()["course"]["target"].tolist() == [64.0, 192.0, 64.0]
    for i, run in enumerate(runs):
        with seeded(run.seed_for("init")):
            model = nn.Linear(2, 1).double()
        for t in range(6):
            x = Draws([run.seed_for("batches")], t).uniform("x", 5, 2)[0].double()
            loss = (model(x).mean() - run.config.first * 2**t) ** 2
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.01 * p.grad
            assert torch.allclose(paths[i][t], nn.utils.parameters_to_vector(model.parameters()), rtol=1e-12)


# States that swap


class Swap(Course):
    """Two states change places, and a third turns round; they are views of what was there."""

    def start(self, config: Any) -> dict[str, Tensor]:
        return {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0]), "c": torch.arange(4.0)}

    def after(self, state: Any, observed: Any, t: Tensor, config: Any) -> dict[str, Tensor]:
        return {"a": state["b"], "b": state["a"], "c": state["c"].roll(1, -1)}


@pytest.mark.parametrize("patience", [1, 3])
def test_states_may_change_places(patience):
    class Swapping(Text):
        course = Swap()

        def loss(self, model, batch, config):
            text, _ = batch
            return super().loss(model, (text, {"hidden": torch.zeros(STREAMS, UNITS, dtype=text["x"].dtype)}), config)

    Swapping.patience = patience
    engine = population(Swapping(), RUNS[:2])
    for swaps in range(1, 4):
        engine.step()
        state = engine.state_dict()["course"]
        one, two = [1.0, 2.0], [3.0, 4.0]
        assert state["a"].tolist() == [two if swaps % 2 else one] * 2
        assert state["b"].tolist() == [one if swaps % 2 else two] * 2
        assert state["c"].tolist() == [torch.arange(4.0).roll(swaps).tolist()] * 2


def test_pairs_carry_the_same_state_at_first():
    engine = population(Text(), [RUNS[0], changed(RUNS[0], noise=Annealed(0.1))])
    engine.step()
    first = engine.state_dict()["course"]["hidden"].clone()
    engine.step()
    second = engine.state_dict()["course"]["hidden"]
    assert torch.equal(*first) and not torch.equal(*second)


# --- learning rates and weights ---------------------------------------------------------------------


class Slowing(Carried):
    """Halves the learning rate of a replica with every update, and takes its weights back to zero at the third."""

    def start(self, config: Any) -> dict[str, Tensor]:
        return super().start(config) | {"updates": torch.zeros(())}

    def after(self, state: Any, observed: Any, t: Tensor, config: Any) -> dict[str, Tensor]:
        return super().after(state, observed, t, config) | {"updates": state["updates"] + 1}

    def rate(self, state: dict[str, Tensor]) -> Tensor:
        return 0.5 ** state["updates"]

    def weights(self, parameters: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = parameters["carry.weight"]
        return {"carry.weight": torch.where(state["updates"][:, None, None] == 3, 0, weight)}


class Slowed(Text):
    course = Slowing()


def test_a_course_sets_learning_rates():
    slowed, plain = population(Slowed(), RUNS[:1]), population(Text(), RUNS[:1])
    for t in range(2):
        before = slowed.modules.theta.clone()
        plain.modules.theta.copy_(before)
        plain.state_dict()["course"]["hidden"].copy_(slowed.state_dict()["course"]["hidden"])
        slowed.step()
        plain.step()
        assert_close({0: slowed.modules.theta - before}, {0: (plain.modules.theta - before) * 0.5**t})


def test_a_course_changes_weights_after_an_update():
    engine = population(Slowed())
    place = engine.modules.names.index("carry.weight")
    for updates in range(1, 5):
        engine.step()
        weight = engine.modules.views(engine.modules.theta)[place]
        assert weight.any(2).any(1).tolist() == [updates != 3] * len(RUNS)
    together = population(Slowed())
    alone = population(Slowed(), RUNS[2:3])
    for _ in range(4):
        together.step()
        alone.step()
    assert_close({0: alone.modules.theta[0]}, {0: together.modules.theta[2]})


def test_a_skipped_update_changes_no_weights():
    """The third update is the one that would set them to zero; it is skipped, and the fourth does it."""

    class Patient(Slowed):
        patience = 5

    engine = population(Patient(poison=(2,)), RUNS[:2])
    place = engine.modules.names.index("carry.weight")
    for zero in (False, False, False, True):
        engine.step()
        weight = engine.modules.views(engine.modules.theta)[place]
        assert bool(weight.any()) != zero


# --- the strength of noise ------------------------------------------------------------------------------


class Gated(Carried):
    """Multiplies sigma_t by 1, 2, 3, ..., from update to update."""

    def start(self, config: Any) -> dict[str, Tensor]:
        return super().start(config) | {"factor": torch.ones(())}

    def after(self, state: Any, observed: Any, t: Tensor, config: Any) -> dict[str, Tensor]:
        return super().after(state, observed, t, config) | {"factor": state["factor"] + 1}

    def noise(self, state: dict[str, Tensor]) -> Tensor:
        return state["factor"]


class GatedText(Text):
    course = Gated()


@pytest.mark.parametrize("schedule", [Annealed(0.1), Relative(0.5), Relative(0.5, to="clip", clip=0.3)])
def test_a_course_sets_how_strong_noise_is(schedule):
    run = replica(3, lr=1.0, noise=schedule, clip=0.3)
    gated, plain, silent = (
        population(experiment, [r])
        for experiment, r in ((GatedText(), run), (Text(), run), (Text(), changed(run, noise=None)))
    )
    for t in range(3):
        before = gated.modules.theta.clone()
        for other in (plain, silent):
            other.modules.theta.copy_(before)
            other.state_dict()["course"]["hidden"].copy_(gated.state_dict()["course"]["hidden"])
        for one in (gated, plain, silent):
            one.step()
        noise = plain.modules.theta - silent.modules.theta
        assert_close({0: gated.modules.theta - silent.modules.theta}, {0: (t + 1) * noise})
        norms = (one.telemetry()["noise_norm"].item() for one in (gated, plain))
        assert next(norms) == pytest.approx((t + 1) * next(norms), rel=1e-9)


def test_noise_that_a_course_sets_cannot_be_taken_away_again():
    with pytest.raises(PopulationError, match="anti_pgd takes away the noise"):
        population(GatedText(), [replica(0, noise=Annealed(0.1), anti_pgd=True)])
    population(GatedText(), [replica(0, anti_pgd=True)])  # there is none


def test_a_gated_run_goes_on_from_its_checkpoint():
    runs = [replica(0, noise=Annealed(0.1)), replica(1)]
    whole, half, again = (population(GatedText(), runs) for _ in range(3))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        half.step()
    again.load_state_dict(half.state_dict())
    for _ in range(2):
        again.step()
    assert torch.equal(again.modules.theta, whole.modules.theta)
    assert torch.equal(again.telemetry()["noise_norm"], whole.telemetry()["noise_norm"])
