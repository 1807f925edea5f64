"""Table 2 of the paper as a study: one-stage and two-stage training on bAbI, jointly and task by task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradnoise.data.babi import load_babi
from gradnoise.noise.schedule import Annealed, Fixed
from gradnoise.paper.memory_network.experiment import JOINT, MemoryNetworkExperiment, encoded
from gradnoise.paper.memory_network.schedule import Halving
from gradnoise.paper.scales import resized, scale_of
from gradnoise.study import Arm, Claim, Metric, Selection, Setting, Study

SOURCE = "Neelakantan et al., Table 2"

NONE = Arm("none", title="no noise")
NOISE = Arm("noise", {"noise": Annealed(0.01)}, title="noise")
#: Dose-response of eta, and the paper's fixed noise "0.001", read as a standard deviation and as a variance.
ABLATIONS = (
    Arm("eta-0.1", {"noise": Annealed(0.1)}, title="noise, eta 0.1"),
    Arm("eta-1", {"noise": Annealed(1.0)}, title="noise, eta 1"),
    Arm("fixed-sd", {"noise": Fixed(0.001)}, title="fixed, sd 0.001"),
    Arm("fixed-variance", {"noise": Fixed(math.sqrt(0.001))}, title="fixed, variance 0.001"),
)

METRIC, TRAIN, TEST = (
    Metric(name=f"{part}_error", title=f"{title} error", unit="%", higher_is_better=False, margin=1.0)
    for part, title in (("validation", "validation"), ("train", "training"), ("test", "test"))
)
#: "The run with the lowest training error of ten": all training questions, final weights.
SELECTION = Selection(by=("train_error", "train_cross_entropy"), report=(TRAIN, METRIC, TEST))

#: Stage -> its name in titles; published errors in % of the run with the lowest training error: train, validation.
STAGES = {"one": "one-stage", "two": "two-stage"}
TABLE_2 = {
    ("one", "none"): (10.5, 19.5),
    ("one", "noise"): (9.6, 16.6),
    ("two", "none"): (6.2, 10.9),
    ("two", "noise"): (5.9, 10.8),
}


def _claim(id: str, row: str, stage: str, statement: str, expects: str) -> Claim:
    figures = {}
    for arm in ("none", "noise"):
        train, validation = TABLE_2[stage, arm]
        figures[arm] = {"best": validation, TRAIN.name: train}
    return Claim(id, row, statement, SOURCE, "noise", expects, figures)


#: The paper does not say whether it trained jointly or task by task: each claim is tested in both.
CLAIMS = (
    _claim("M1", "joint-one", "one", "Noise helps one-stage training (all tasks jointly)", "helps"),
    _claim("M2", "joint-two", "two", "Noise makes little difference after a linear start (jointly)", "no difference"),
    _claim("M3", "tasks-one", "one", "Noise helps one-stage training (task by task)", "helps"),
    _claim("M4", "tasks-two", "two", "Noise makes little difference after a linear start (by task)", "no difference"),
)

PROTOCOL = (
    ("network", "3 hops, adjacent tying, position and temporal encoding, D = 20 for a task, 50 for all jointly"),
    ("training", "plain SGD on cross-entropy summed over minibatches of 32 questions drawn with replacement"),
    ("learning rate, by task", "one-stage 0.01, two-stage 0.005; halved at softmax epochs 25, 50, 75, 100, then held"),
    ("learning rate, joint", "one-stage 0.01, two-stage 0.005; halved every 15 softmax epochs to the end"),
    ("two-stage", "attention without softmax for 20 epochs (by task) or 30 (jointly) at 0.005, in addition"),
    ("one update", "gradient; each table clipped to norm 40; noise N(0, eta / (1 + t)^0.55), eta = 0.01; step"),
    ("temporal noise", "up to 10 % random empty memories in training, none at evaluation"),
    ("validation", "by task the last 100 training questions; jointly a random tenth, the same in every run"),
    ("pairs", "same seed: same initial weights, minibatches and temporal noise in every arm"),
)

SILENT = (
    "The paper does not say whether it trained jointly or task by task, with 1,000 or 10,000 questions, nor which"
    " training error it gives; both modes run here, on 1,000 questions a task, with errors of the final weights.",
    "Learning rates after epoch 100 (by task) and 60 (jointly), where the original schedules end, are our choice:"
    " held by task, halved on jointly.",
    "The linear stage has a fixed length, as in the authors' program; it does not wait for the validation loss.",
    "Each embedding table is clipped by its Frobenius norm; the authors' program takes the spectral norm.",
)


@dataclass(frozen=True)
class Mode:
    """How the authors of memory networks train: on one task, or on all jointly."""

    dim: int
    linear_epochs: int
    halve_every: int
    halve_until: int | None


BY_TASK = Mode(dim=20, linear_epochs=20, halve_every=25, halve_until=100)
JOINTLY = Mode(dim=50, linear_epochs=30, halve_every=15, halve_until=None)
LEARNING_RATE = {"one": 0.01, "two": 0.005}


@dataclass(frozen=True)
class Scale:
    """How much of the protocol to run."""

    tasks: tuple[int, ...]
    epochs: int
    seeds: int
    arms: tuple[Arm, ...] = (NONE, NOISE)
    joint: bool = False
    data: str | None = None
    evaluations: int = 10
    linear_epochs: int | None = None
    """Of the linear start; None for the mode's own."""
    deviations: tuple[str, ...] = ()


SCALES = {
    "paper": Scale(tuple(range(1, 21)), epochs=200, seeds=10, arms=(NONE, NOISE, *ABLATIONS), joint=True),
    "quick": Scale(
        (1, 4, 6, 11, 12, 15, 16, 20),
        epochs=100,
        seeds=3,
        deviations=("Quick scale: single tasks, 3 restarts, 100 epochs.",),
    ),
    "smoke": Scale(
        (1, 15),
        epochs=3,
        seeds=1,
        data="generated",
        evaluations=3,
        linear_epochs=1,
        deviations=(
            "Smoke scale: generated stories, one restart, 3 epochs, a linear start of 1; too short to show anything.",
        ),
    ),
}


def memory_network(
    scale: str = "paper", data: str = "auto", seeds: int | None = None, steps: int | None = None
) -> Study:
    """The study of one scale.

    - "paper": all 20 tasks jointly and one by one, 200 epochs, 10 restarts; ablations by task only.
    - "quick": eight tasks one by one (of generated stories those of them that there are), 100 epochs, 3 restarts.
    - "smoke": seconds, for tests; generated stories.

    Args:
        scale: "paper", "quick" or "smoke".
        data: "auto", "babi" or "generated".
        seeds: number of restarts; None for the scale's own.
        steps: softmax epochs per run; None for the scale's own.
    """
    chosen = scale_of(SCALES, scale)
    epochs = steps or chosen.epochs
    restarts, shortened = resized(seeds, chosen.seeds, epochs, chosen.epochs, seed="restarts", unit="epochs")
    deviations = SILENT + chosen.deviations + shortened
    experiment = MemoryNetworkExperiment(load_babi(chosen.data or data if data == "auto" else data))
    tasks = [t for t in chosen.tasks if t in experiment.data.tasks]
    if len(tasks) < 20:
        deviations += (f"{len(tasks)} of the 20 tasks: {', '.join(map(str, tasks))}.",)
    deviations += tuple(_unseen(experiment, tasks))
    settings = _settings(experiment, chosen, tasks, epochs)
    rows = {s.row for s in settings}
    return Study(
        name="memn2n",
        title="End-to-end memory networks on bAbI (Table 2)",
        experiment=experiment,
        arms=chosen.arms,
        metric=METRIC,
        settings=settings,
        seeds=restarts,
        steps=max(s.steps or 0 for s in settings),
        eval_every=max(s.eval_every or 0 for s in settings),
        base={"batch_size": 32, "hops": 3, "clip": 40.0, "clip_per": "tensor", "time_noise": 0.1},
        scale=scale,
        claims=tuple(c for c in CLAIMS if c.row in rows),
        deviations=deviations,
        protocol=PROTOCOL,
        selection=SELECTION,
    )


def _unseen(experiment: MemoryNetworkExperiment, tasks: Sequence[int]) -> Iterator[str]:
    """What a reader must know of answers that cannot be learned."""
    for task in tasks:
        if unseen := encoded(experiment.data, task).unseen_answers:
            yield (
                f"Task {task}: {', '.join(map(repr, unseen))} is an answer in the validation or test part and never in"
                " training; such questions count like all others."
            )


def _settings(
    experiment: MemoryNetworkExperiment, scale: Scale, tasks: Sequence[int], epochs: int
) -> tuple[Setting, ...]:
    """Rows of the table; the settings of a row by task are its tasks, over which a restart is averaged."""
    settings: list[Setting] = []
    for stage, title in STAGES.items():
        if scale.joint:
            row = ("joint-" + stage, f"{title}, all tasks jointly")
            settings.append(_setting(experiment, row, stage, JOINT, JOINTLY, epochs, scale, ("none", "noise")))
    for stage, title in STAGES.items():
        for task in tasks:
            row = ("tasks-" + stage, f"{title}, mean over {len(tasks)} tasks")
            settings.append(_setting(experiment, row, stage, task, BY_TASK, epochs, scale, None))
    return tuple(settings)


def _setting(
    experiment: MemoryNetworkExperiment,
    row: tuple[str, str],
    stage: str,
    task: int | str,
    mode: Mode,
    epochs: int,
    scale: Scale,
    arms: Sequence[str] | None,
) -> Setting:
    epoch = experiment.epoch(task)
    length = mode.linear_epochs if scale.linear_epochs is None else scale.linear_epochs
    linear = length if stage == "two" else 0
    rate = Halving(LEARNING_RATE[stage], mode.halve_every, epoch, warmup=linear, until=mode.halve_until)
    steps = epoch * (linear + epochs)
    return Setting(
        *row,
        {"task": task, "dim": mode.dim, "linear_epochs": linear, "lr": rate},
        None if arms is None else tuple(arms),
        name="all tasks" if task == JOINT else f"task {task}",
        steps=steps,
        eval_every=-(-steps // (scale.evaluations * epoch)) * epoch,
    )
