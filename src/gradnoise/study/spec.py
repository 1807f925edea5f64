"""What a study asks: experiment x settings x arms x seeds, as frozen values with content-hash ids."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradnoise.errors import StudyError
from gradnoise.population import Experiment
from gradnoise.study.canonical import canonical, dataclasses_in

Config = Mapping[str, Any]

#: Keys of a trial's configuration that the study itself sets.
STUDY_KEYS = ("steps", "eval_every", "study_seed")


@dataclass(frozen=True)
class Arm:
    """A treatment under comparison: a name and what it changes in the configuration.

    The first arm of a study is the baseline. `Arm("none")` changes nothing;
    `Arm("noise", {"noise": Annealed(0.01)})` adds annealed gradient noise.

    Args:
        name: what the study calls it.
        values: configuration over the study's `base` and the setting's values.
        title: what tables call it; empty for the name.
        may_equal_baseline: whether the arm may train exactly what the baseline trains, such as a control with
            eta = 0 or a clip that may never bind. Any other arm that does so stops the study.
    """

    name: str
    values: Config = field(default_factory=dict)
    title: str = ""
    may_equal_baseline: bool = False

    @property
    def label(self) -> str:
        """What tables call this arm."""
        return self.title or self.name


@dataclass(frozen=True)
class Setting:
    """One point of the grid, pooled into a table row.

    Args:
        row: id of the table row; settings that share it (two learning rates, say) are pooled there.
        title: what tables call the row.
        values: configuration of this point, over the study's `base`.
        arms: names of the arms that run here; None for all of them.
        name: what tells this setting from the others of its row, such as "lr 0.1"; None names all values.
        steps: updates per trial here; None for the study's.
        eval_every: updates between evaluations here; None for the study's.
    """

    row: str
    title: str
    values: Config = field(default_factory=dict)
    arms: tuple[str, ...] | None = None
    name: str | None = None
    steps: int | None = None
    eval_every: int | None = None

    @property
    def label(self) -> str:
        """The name, or the values in short, such as "lr=0.1, clip=10"."""
        return ", ".join(f"{k}={v}" for k, v in self.values.items()) if self.name is None else self.name


@dataclass(frozen=True)
class Claim:
    """A published figure that a study tests.

    Args:
        id: short name, such as "C1".
        row: the table row that it speaks of.
        statement: the claim in a sentence.
        source: where it was published, with table or section number.
        treatment: the arm that it speaks of, compared with the study's baseline.
        expects: what the claim says of the treatment: "helps", "hurts", "no difference",
            or "chance" (the treatment arm stays at chance).
        figures: published numbers: arm name -> {"best": ..., "mean": ...}, in the metric's unit. Where a
            `Selection` chooses the run to report, "best" is of that run, and so are figures that go by the
            names of other reported metrics.
    """

    id: str
    row: str
    statement: str
    source: str
    treatment: str
    expects: str
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """The primary metric of a study and how to read it.

    Args:
        name: a key of what the experiment's `evaluate` returns.
        title: what tables and axes call it.
        unit: shown behind numbers, such as "%".
        higher_is_better: direction.
        chance: what guessing scores; None when there is no such value.
        margin: differences smaller than this count as none (equivalence margin), in the metric's unit.
        success: a run succeeds when its final value is at least this (at most, when lower is better).
        rate: whether every run has either 0 or `success` > 0, so that means are rates of success: tests and intervals
            are then those for rates.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    chance: float | None = None
    margin: float = 1.0
    success: float | None = None
    rate: bool = False

    def __post_init__(self) -> None:
        """Check that a rate has a success."""
        if self.rate and not (self.success and self.success > 0 and self.higher_is_better):
            raise StudyError(
                f"metric {self.name!r}: a rate needs success > 0, the value of a run that succeeds, and"
                " higher_is_better=True"
            )

    def succeeded(self, value: float) -> bool:
        """Whether a final value counts as success; nan never does."""
        if self.success is None or math.isnan(value):
            return False
        return value >= self.success if self.higher_is_better else value <= self.success


@dataclass(frozen=True)
class Selection:
    """Which of the restarts stands for a setting where a paper reports one run, such as the best of ten.

    Args:
        by: metrics whose final value is to be lowest: the first decides, the next ones break ties, then the
            lower seed does; nan counts as infinite. Measures of training alone: neither the primary metric
            nor anything else that was held out, else choosing would be part of the result.
        report: what to tell of the chosen run, the study's primary metric among it.
    """

    by: tuple[str, ...]
    report: tuple[Metric, ...]


@dataclass(frozen=True)
class Trial:
    """One run: a configuration, an arm and a seed. Two trials that differ in the arm alone are a pair.

    Args:
        experiment: name and data fingerprint of the experiment.
        row: table row.
        setting: what was varied, as a label such as "lr=0.1"; pairs share row, setting and seed.
        arm: name of the arm.
        seed: trial seed.
        config: everything that decides the run.
    """

    experiment: str
    row: str
    setting: str
    arm: str
    seed: int
    config: Config

    @property
    def id(self) -> str:
        """Content hash: the same question has the same id in every session and on every machine.

        Row, setting label and arm name are labels and do not enter: what is trained does.
        """
        content = canonical({"experiment": self.experiment, "seed": self.seed, "config": self.config})
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Study:
    """A paired comparison: experiment x settings x arms x seeds.

    Args:
        name: short name, used in file names.
        title: heading of the report.
        experiment: what is trained and how it is measured.
        arms: treatments; the first is the baseline.
        settings: the grid.
        seeds: trial seeds; the same seeds run in every arm and setting.
        steps: optimizer updates per trial.
        eval_every: updates between evaluations.
        metric: the primary metric.
        base: configuration shared by all trials (learning rate, batch size, depth, ...).
        seed: study seed; every random choice is keyed by it, the trial seed and a purpose.
        scale: "smoke", "quick", "paper" or "custom".
        claims: published figures to put beside ours.
        deviations: how this study departs from the published protocol, one sentence each.
        protocol: what was done, as (name, value) lines for the report.
        selection: which restart to report beside the mean over restarts; None for none. Verdicts never use it.
        recipe: plain values from which the same study can be built again, such as {"system": "nram", "scale":
            "paper"}; kept in the store, so that a folder is enough to go on; None for none.
    """

    name: str
    title: str
    experiment: Experiment
    arms: tuple[Arm, ...]
    metric: Metric
    settings: tuple[Setting, ...] = (Setting("all", "All runs"),)
    seeds: tuple[int, ...] = tuple(range(5))
    steps: int = 1000
    eval_every: int = 100
    base: Config = field(default_factory=dict)
    seed: int = 0
    scale: str = "custom"
    claims: tuple[Claim, ...] = ()
    deviations: tuple[str, ...] = ()
    protocol: tuple[tuple[str, str], ...] = ()
    selection: Selection | None = None
    recipe: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before anything is trained."""
        if len(self.arms) < 2:
            raise StudyError(f"study {self.name!r} has {len(self.arms)} arm(s); a comparison needs two or more")
        for what, names in (("arm", [a.name for a in self.arms]), ("seed", list(self.seeds))):
            if len(set(names)) != len(names):
                raise StudyError(f"study {self.name!r} names the same {what} twice: {names}")
        if not self.seeds:
            raise StudyError(f"study {self.name!r} has no seeds; give at least one")
        self._check_settings()
        self._check_selection()
        for setting in self.settings:
            steps, every = self.lengths(setting)
            if not 1 <= every <= steps:
                raise StudyError(f"steps = {steps} and eval_every = {every}: need 1 <= eval_every <= steps")

    def _check_settings(self) -> None:
        if not self.settings:
            raise StudyError(f"study {self.name!r} has no settings; give at least one, or leave them out")
        for setting in self.settings:
            for name in setting.arms or ():
                self._check_arm(name)
        for values in (self.base, *(s.values for s in self.settings), *(a.values for a in self.arms)):
            if taken := [key for key in STUDY_KEYS if key in values]:
                raise StudyError(
                    f"study {self.name!r} sets {taken[0]!r} in a configuration; give it to the Study itself"
                )

    def _check_selection(self) -> None:
        if self.selection is None:
            return
        if not self.selection.by or self.metric.name in self.selection.by:
            raise StudyError(
                f"study {self.name!r} chooses runs by {', '.join(self.selection.by) or 'nothing'};"
                f" choose by measures of training, and not by {self.metric.name!r}, which is to be compared"
            )
        if self.metric.name not in [m.name for m in self.selection.report]:
            raise StudyError(f"study {self.name!r} does not report its metric {self.metric.name!r} of the chosen runs")

    def _check_arm(self, name: str) -> None:
        known = [a.name for a in self.arms]
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StudyError(f"no arm {name!r} in study {self.name!r}: arms are {', '.join(known)}{hint}")

    @property
    def baseline(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    def with_arms(self, names: Sequence[str]) -> Study:
        """The same study restricted to some arms; the baseline always stays, settings without a comparison go."""
        for name in names:
            self._check_arm(name)
        keep = tuple(a for a in self.arms if a.name in names or a is self.baseline)
        if len(keep) < 2:
            others = ", ".join(a.name for a in self.arms[1:])
            raise StudyError(
                f"arm {self.baseline.name!r} alone is no comparison: it is the baseline and always runs;"
                f" name one or more of {others}"
            )
        settings = []
        for setting in self.settings:
            arms = None if setting.arms is None else tuple(n for n in setting.arms if n in {a.name for a in keep})
            if arms is None or set(arms) - {self.baseline.name}:
                settings.append(dataclasses.replace(setting, arms=arms))
        return dataclasses.replace(self, arms=keep, settings=tuple(settings))

    def trials(self) -> Iterator[Trial]:
        """All trials, seed by seed, so that a half-finished study holds whole pairs."""
        for seed in self.seeds:
            for setting in self.settings:
                for arm in self.arms:
                    if setting.arms is None or arm.name in setting.arms:
                        yield self.trial(setting, arm, seed)

    def lengths(self, setting: Setting) -> tuple[int, int]:
        """Updates per trial and between evaluations in one setting."""
        return setting.steps or self.steps, setting.eval_every or self.eval_every

    def with_rows(self, names: Sequence[str]) -> Study:
        """The same study restricted to some rows of its table."""
        known = list(dict.fromkeys(s.row for s in self.settings))
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise StudyError(f"no row {name!r} in study {self.name!r}: rows are {', '.join(known)}{hint}")
        return dataclasses.replace(self, settings=tuple(s for s in self.settings if s.row in names))

    def dataclasses(self) -> set[type]:
        """Dataclasses that configurations in this study's store may hold: its own, and the experiment's module's."""
        values = (self.base, *(s.values for s in self.settings), *(a.values for a in self.arms))
        module = vars(sys.modules[type(self.experiment).__module__])
        own = {x for x in module.values() if isinstance(x, type) and dataclasses.is_dataclass(x)}
        return own | {kind for value in values for kind in dataclasses_in(value)}

    def trial(self, setting: Setting, arm: Arm, seed: int) -> Trial:
        """The trial of one setting, arm and seed."""
        config = {**self.base, **setting.values, **arm.values}
        steps, every = self.lengths(setting)
        config |= {"steps": steps, "eval_every": every, "study_seed": self.seed}
        experiment = f"{self.experiment.name}@{self.experiment.fingerprint}"
        return Trial(experiment, setting.row, setting.label, arm.name, seed, config)
