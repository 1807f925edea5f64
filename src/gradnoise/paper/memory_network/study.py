"""Table 2 of the paper as a study: one-stage and two-stage training on bAbI, jointly and task by task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradnoise.data.babi import BabiData, load_babi
from gradnoise.paper.memory_network.experiment import JOINT, MemoryNetworkExperiment, encoded
from gradnoise.paper.memory_network.scales import JOINTLY, LEARNING_RATE, NOISE, NONE, Grid
from gradnoise.paper.memory_network.schedule import Halving
from gradnoise.paper.system import Request
from gradnoise.study import Claim, Metric, Selection, Setting, Study

SOURCE = "Neelakantan et al., Table 2"

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


def _claim(id: str, row: str, statement: str) -> Claim:
    figures = {}
    for arm in (NONE.name, NOISE.name):
        train, validation = TABLE_2[row.partition("-")[2], arm]
        figures[arm] = {"best": validation, TRAIN.name: train}
    return Claim(id, row, statement, SOURCE, NOISE.name, "helps", figures)


#: The paper does not say whether it trained jointly or task by task: each claim is tested in both.
CLAIMS = (
    _claim("T2.1-val/joint", "joint-one", "Noise lowers the validation error of one-stage training (jointly)"),
    _claim("T2.2-val/joint", "joint-two", "Noise lowers the validation error after a linear start (jointly)"),
    _claim("T2.1-val/tasks", "tasks-one", "Noise lowers the validation error of one-stage training (by task)"),
    _claim("T2.2-val/tasks", "tasks-two", "Noise lowers the validation error after a linear start (by task)"),
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


def build(request: Request[Grid]) -> Study:
    """Make the study of a request; of the scale's tasks, those that the data has."""
    experiment = MemoryNetworkExperiment(load_babi(request.data))
    data = experiment.stories
    tasks = [t for t in request.scale.tasks if t in data.tasks]
    settings = tuple(_settings(experiment, request.scale, tasks, request.length))
    return request.study(
        title="End-to-end memory networks on bAbI (Table 2)",
        experiment=experiment,
        metric=METRIC,
        settings=settings,
        base={"batch_size": 32, "hops": 3, "clip": 40.0, "clip_per": "tensor", "time_noise": 0.1},
        protocol=PROTOCOL,
        silent=SILENT,
        notes=tuple(_notes(data, tasks)),
        data="generated" if data.is_stand_in else "babi",
        selection=SELECTION,
        steps=max(s.steps or 0 for s in settings),
        eval_every=max(s.eval_every or 0 for s in settings),
        unit=lambda setting: experiment.epoch(setting.values["task"]),
    )


def _notes(data: BabiData, tasks: Sequence[int]) -> Iterator[str]:
    """Say which tasks are left out, and which answers cannot be learned."""
    if len(tasks) < 20:
        yield f"{len(tasks)} of the 20 tasks: {', '.join(map(str, tasks))}."
    for task in tasks:
        if unseen := encoded(data, task).unseen_answers:
            yield (
                f"Task {task}: {', '.join(map(repr, unseen))} is an answer in the validation or test part and never in"
                " training; such questions count like all others."
            )


def _settings(experiment: MemoryNetworkExperiment, scale: Grid, tasks: Sequence[int], epochs: int) -> Iterator[Setting]:
    """Make the rows of the table; the settings of a row by task are its tasks, over which a restart is averaged."""
    for mode in scale.modes:
        over = "all tasks jointly" if mode is JOINTLY else f"mean over {len(tasks)} tasks"
        for stage, title in STAGES.items():
            linear = scale.linear(mode) if stage == "two" else 0
            for task in (JOINT,) if mode is JOINTLY else tasks:
                epoch = experiment.epoch(task)
                steps = epoch * (linear + epochs)
                rate = Halving(LEARNING_RATE[stage], mode.halve_every, epoch, warmup=linear, until=mode.halve_until)
                yield Setting(
                    row=f"{mode.name}-{stage}",
                    title=f"{title}, {over}",
                    values={"task": task, "dim": mode.dim, "linear_epochs": linear, "lr": rate},
                    arms=mode.arms,
                    name="all tasks" if task == JOINT else f"task {task}",
                    steps=steps,
                    eval_every=-(-steps // (scale.evaluations * epoch)) * epoch,
                )
