"""What a study is, in words and figures alone: the part of it that its store keeps and its report reads."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, cast

from gradnoise.directions import BEST, LEAST, MOST, Directed, directed, told_higher
from gradnoise.errors import StudyError, nearest
from gradnoise.given import FINITE, STORED, Between, Name, settle
from gradnoise.study.threshold import KEPT, Threshold, threshold

Config = Mapping[str, Any]

#: The evaluation that counts, besides the best one by another measure: see `Metric`.
LAST = "last"

#: What a note says of runs of one seed that turned out to share nothing, so that no two of them are a pair.
INDEPENDENT = "compared as independent runs"
#: What a claim may say of its treatment.
EXPECTATIONS = ("helps", "hurts", "no difference", "no help", "chance")


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

    name: Name
    values: Config = field(default_factory=dict)
    title: str = ""
    may_equal_baseline: bool = False

    def __post_init__(self) -> None:
        """Check types."""
        settle(self, StudyError)

    @property
    def label(self) -> str:
        """What tables call this arm."""
        return self.title or self.name


@dataclass(frozen=True)
class Claim:
    """A published figure that a study tests.

    Args:
        id: short name, such as "C1".
        row: the table row that it speaks of.
        statement: the claim in a sentence.
        source: where it was published, with table or section number.
        treatment: the arm that it speaks of, compared with the study's baseline.
        expects: what the claim says of the treatment: "helps", "hurts", "no difference", "no help" (one of the two
            before), or "chance" (the treatment arm stays at chance).
        figures: published numbers: arm name -> {"best": ..., "mean": ...}, in the metric's unit. Where a
            `Selection` chooses the run to report, "best" is of that run, and so are figures that go by the
            names of other reported metrics.
    """

    id: Name
    row: str
    statement: str
    source: str
    treatment: str
    expects: str
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check types, and that figures are numbers."""
        settle(self, StudyError)
        for arm, figures in self.figures.items():
            for name, figure in figures.items():
                if not math.isfinite(figure):
                    raise StudyError(f"claim {self.id!r}: the {name} of {arm!r} is {figure}; leave out what is unknown")


@dataclass(frozen=True)
class Metric:
    """The primary metric of a study and how to read it.

    Args:
        name: a key of what the experiment's `evaluate` returns.
        title: what tables and axes call it.
        unit: shown behind numbers, such as "%".
        higher_is_better: direction; by default what the name tells, as those of losses, errors and accuracies do, and
            True for a rate. A name that tells nothing needs it said; one that tells the opposite is warned of.
        chance: what guessing scores; None when there is no such value.
        margin: differences smaller than this count as none (equivalence margin), in the metric's unit: 1.0 is one
            point of an accuracy in %, and more than everything of an accuracy between 0 and 1. None where you do
            not say: then nothing is ever called "no difference" or "at chance".
        success: a run succeeds when its final value is at least this (at most, when lower is better).
        broken: what a run counts as that ended without a finite value: it diverged, or a script ran into its time limit
            or failed. None where you do not say, and the experiment does not either: then one such run leaves its
            comparison without a verdict.
        rate: whether every run has either 0 or `success` > 0, so that means are rates of success: tests and intervals
            are then those for rates.
        at: the evaluation of a run that counts: "last"; "best", its best by this metric; "min:NAME" or "max:NAME", the
            one where another measure of the same evaluations is lowest or highest, such as "min:validation_loss" for
            early stopping, the first of several equal ones. "best:NAME" does for a name that tells its direction. Away
            from "last" a run that diverged counts with what it had reached by then.
        of: a bound on what is measured, such as "accuracy >= 90": the metric then is the rate, in %, of the runs that
            keep it, each of which counts as 100 and any other as 0. It follows that `rate` is True, `success` 100, the
            unit "%", and more is better; a run without a finite value has not kept it.
    """

    name: Name
    title: str
    unit: str = ""
    higher_is_better: bool = cast(bool, None)  # until the name has told
    chance: Annotated[float, FINITE] | None = None
    margin: float | None = None
    success: Annotated[float, FINITE] | None = None
    rate: bool = False
    broken: float | None = None
    at: str = field(default=LAST, metadata={"later": True})
    of: str | None = field(default=None, metadata={"later": True})

    def __post_init__(self) -> None:
        """Check types, that a margin is one, that a rate has a success, and that a broken run counts as a number."""
        if isinstance(self.of, str):
            self._settle_of(self.of)
        said = cast(bool | None, self.higher_is_better)
        if said is None:
            object.__setattr__(self, "higher_is_better", True)
        settle(self, StudyError)
        self._settle_direction(said)
        self._settle_at()
        if self.broken is not None and not math.isfinite(self.broken):
            raise StudyError(f"metric {self.name!r}: broken is {self.broken}; it must be a finite number, or None")
        if self.margin is not None and not 0.0 <= self.margin < math.inf:
            raise StudyError(
                f"metric {self.name!r}: margin is {self.margin}; it must be a finite number >= 0, in the unit of the"
                " metric, or None"
            )
        if self.rate and not (self.success and self.success > 0 and self.higher_is_better):
            raise StudyError(
                f"metric {self.name!r}: a rate needs success > 0, the value of a run that succeeds, and"
                " higher_is_better=True"
            )

    def _settle_of(self, of: str) -> None:
        where = f"metric {self.name!r}: of"
        bound = threshold(of, where)
        if bound.name == self.name:
            raise StudyError(f"{where} = {of!r} is a bound on {bound.name!r}, whose name the metric cannot have, too")
        follows = {"unit": ("", "%"), "higher_is_better": (None, True), "success": (None, KEPT), "rate": (False, True)}
        for name, (silent, value) in follows.items():
            if (said := getattr(self, name)) not in (silent, value):
                raise StudyError(f"{where} = {of!r} makes {name} {value!r}, and it is given as {said!r}: leave it out")
            object.__setattr__(self, name, value)
        if self.broken is not None:
            raise StudyError(f"{where} = {of!r} counts a run without a finite value as 0: leave out broken")
        object.__setattr__(self, "of", str(bound))

    def _settle_direction(self, said: bool | None) -> None:
        told = True if self.rate else told_higher(self.name)
        if said is None and told is None:
            raise StudyError(
                f"metric {self.name!r}: its name does not tell which direction is better; write higher_is_better=True,"
                " or higher_is_better=False"
            )
        if said is None:
            object.__setattr__(self, "higher_is_better", told)
        elif told not in (None, said) and not self.rate:
            given, other = ("more", "less") if said else ("less", "more")
            warnings.warn(
                f"metric {self.name!r}: you say that {given} of it is better, its name that {other} is; verdicts go by"
                " what you say",
                stacklevel=4,
            )

    def _settle_at(self) -> None:
        where, said = f"metric {self.name!r}: at", self.at.partition(":")[0]
        if self.at in (LAST, BEST):
            return
        if ":" not in self.at or said not in (LEAST, MOST, BEST):
            name = self.at.partition(":")[2] or ("NAME" if said in (LEAST, MOST) else self.at)
            known = (LAST, BEST, f"{LEAST}:{name}", f"{MOST}:{name}")
            near = nearest(said, (LEAST, MOST, BEST) if ":" in self.at else (LAST, BEST))
            raise StudyError(f"{where} = {self.at!r}; allowed are {', '.join(map(repr, known))}{near}")
        if self.at == f"{BEST}:{self.name}":
            by = Directed(self.name, self.higher_is_better)
        else:
            by = directed(self.at, where, StudyError)
        if by.name == self.name and by.higher_is_better != self.higher_is_better:
            raise StudyError(f"{where} = {self.at!r} counts the worst evaluation of the metric itself; write {BEST!r}")
        object.__setattr__(self, "at", BEST if by.name == self.name else str(by))

    @property
    def by(self) -> Directed | None:
        """The measure whose best evaluation counts; None where the last one does."""
        if self.at in (LAST, BEST):
            return Directed(self.name, self.higher_is_better) if self.at == BEST else None
        return directed(self.at, self.name, StudyError)

    @cached_property
    def bound(self) -> Threshold | None:
        """The bound of `of`, read once; None without one."""
        return None if self.of is None else threshold(self.of, self.name)

    @property
    def measured(self) -> str:
        """The name of what has to be measured for it: its own, without a bound."""
        return self.name if self.bound is None else self.bound.name

    def read(self, value: float) -> float:
        """Return what a measured value counts as."""
        return value if self.bound is None else self.bound.share(value)

    def succeeded(self, value: float) -> bool:
        """Say whether a value counts as success; nan never does."""
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

    def __post_init__(self) -> None:
        """Check types."""
        settle(self, StudyError)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a `Study` and the record of it in a store have in common.

    Args:
        name: short name, used in file names.
        title: heading of the report.
        arms: treatments; the first is the baseline.
        metric: the primary metric.
        seeds: trial seeds; the same seeds run in every arm and setting.
        steps: optimizer updates per trial.
        scale: "smoke", "quick", "paper" or "custom".
        claims: published figures to put next to ours.
        deviations: how this study departs from the published protocol, one sentence each.
        protocol: what was done, as (name, value) lines for the report.
        selection: which restart to report next to the mean over restarts; None for none. Verdicts never use it.
        max_seeds: the largest number of seeds that the study will ever have, declared before the first look, so that
            it may be read and go on; None where the seeds asked for at the first look are all.
        notes: what a reader of its verdicts must know of how the study was made, one sentence each.
        recipe: plain values from which the same study can be built again, such as {"system": "nram", "scale":
            "paper"}, so that a folder is enough to go on; None for none, and in stores of older versions.
    """

    name: Name
    title: str
    arms: tuple[Arm, ...]
    metric: Metric
    seeds: tuple[Annotated[int, STORED], ...]
    steps: Annotated[int, Between(1, STORED.high)]
    scale: str = "custom"
    claims: tuple[Claim, ...] = ()
    deviations: tuple[str, ...] = ()
    protocol: tuple[tuple[str, str], ...] = ()
    selection: Selection | None = None
    max_seeds: int | None = None
    notes: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None

    @property
    def heading(self) -> str:
        """Title and scale; a study of the user's own has one scale, which is not named."""
        return f"{self.title}, scale {self.scale}" if self.scale not in ("", "custom") else self.title

    @property
    def independent(self) -> bool:
        """Whether runs of one seed were found to share nothing: then runs are compared, not pairs."""
        return any(INDEPENDENT in note for note in self.notes)
