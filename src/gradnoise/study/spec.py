"""What a study asks: experiment x settings x arms x seeds, as frozen values with content-hash ids."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Annotated, Any, Protocol

from gradnoise.errors import StudyError, nearest
from gradnoise.given import STORED, Between, Name, checked, scalar, settle
from gradnoise.study.canonical import dataclasses_in
from gradnoise.study.description import EXPECTATIONS, Arm, Claim, Config, Description, Metric, Selection
from gradnoise.study.trial import Trial

__all__ = [
    "STUDY_KEYS",
    "Arm",
    "Claim",
    "Config",
    "Description",
    "Metric",
    "Selection",
    "Setting",
    "Study",
    "Subject",
    "Trial",
]

#: More than anybody trains; a number with too many zeros would fill the memory before anything is said.
MOST_SEEDS = 1_000_000
#: Keys of a trial's configuration that the study itself sets.
STUDY_KEYS = ("steps", "eval_every", "study_seed")


class Subject(Protocol):
    """What a study must know of the experiment or engine that it asks about.

    It may also have a method `keys()` that returns all keys a configuration may have; a study then refuses others. With
    a method `given(configuration)` it returns values in its own terms, such as "adam" as Adam(). An engine may have an
    attribute `hardware`, text on what it trains on, and a method `facts(trials)`, (name, value) lines on what it
    trains, one trial of each group given; both go into the provenance.
    """

    @property
    def name(self) -> str:
        """Short name; part of every trial's id."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the data; part of every trial's id."""
        ...

    @property
    def data_title(self) -> str:
        """What reports call the data."""
        ...

    @property
    def stand_in(self) -> bool:
        """Whether the data only stands in for a published data set."""
        ...


def known_keys(subject: Subject) -> frozenset[str] | None:
    """Return all keys that a configuration may have; None where the experiment does not say."""
    keys: Any = getattr(subject, "keys", None)
    known = keys() if callable(keys) else None
    return None if known is None else frozenset(known)  # type: ignore[call-overload]


def in_its_terms(subject: Subject, values: Config) -> Config:
    """Return a configuration, or part of one, as an experiment keeps it; the same object where nothing changes."""
    given: Any = getattr(subject, "given", None)
    plain = {key: scalar(value) for key, value in values.items()}
    found = given(plain) if callable(given) else plain
    return values if all(found[key] is value for key, value in values.items()) else found  # type: ignore[index]


def seeds_of(value: Any) -> tuple[int, ...]:
    """Return trial seeds: those given, or 0 .. n - 1 for a number n of them.

    Raises:
        StudyError: it is no number and no whole numbers.
    """
    value = scalar(value)
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    many = (value.stop - value.start) // value.step if isinstance(value, range) else number
    if many is not None and many > MOST_SEEDS:
        raise StudyError(f"seeds are {many:,}; a study has {MOST_SEEDS:,} at most")
    if number is not None:
        return tuple(range(number))
    return checked("Study: ", "seeds", tuple[int, ...], value, StudyError)


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

    row: Name
    title: str
    values: Config = field(default_factory=dict)
    arms: tuple[str, ...] | None = None
    name: str | None = None
    steps: Annotated[int | None, Between(1, STORED.high)] = None
    eval_every: Annotated[int | None, Between(1, STORED.high)] = None

    def __post_init__(self) -> None:
        """Check types."""
        settle(self, StudyError)

    @property
    def label(self) -> str:
        """The name, or the values in short, such as "lr=0.1, clip=10"."""
        return ", ".join(f"{k}={v}" for k, v in self.values.items()) if self.name is None else self.name


@dataclass(frozen=True, kw_only=True)
class Study(Description):
    """A paired comparison: experiment x settings x arms x seeds. See `Description` for the other arguments.

    Args:
        experiment: what is trained and how it is measured; or an engine that trains it.
        settings: the grid.
        seeds: trial seeds, or how many; the same seeds run in every arm and setting. Fewer than six can decide nothing.
        steps: optimizer updates per trial.
        eval_every: updates between evaluations.
        base: configuration shared by all trials (learning rate, batch size, depth, ...).
        seed: study seed; every random choice is keyed by it, the trial seed and a purpose.
        part: whether rows or arms of a larger study were left out, of which its claims may still speak.
    """

    experiment: Subject
    settings: tuple[Setting, ...] = (Setting("all", "All runs"),)
    seeds: tuple[Annotated[int, STORED], ...] = tuple(range(8))
    steps: Annotated[int, Between(1, STORED.high)] = 1000
    eval_every: Annotated[int, Between(1, STORED.high)] = 100
    base: Config = field(default_factory=dict)
    seed: Annotated[int, STORED] = 0
    part: bool = False

    def __post_init__(self) -> None:
        """Bring values to their types, and check what can be checked before anything is trained."""
        self._settle()
        if len(self.arms) < 2:
            raise StudyError(f"study {self.name!r} has {len(self.arms)} arm(s); a comparison needs two or more")
        for what, names in (("arm", [a.name for a in self.arms]), ("seed", list(self.seeds))):
            if len(set(names)) != len(names):
                raise StudyError(f"study {self.name!r} names the same {what} twice: {names}")
        if self.max_seeds is not None and self.max_seeds < len(self.seeds):
            raise StudyError(
                f"study {self.name!r} has {len(self.seeds)} seeds and max_seeds = {self.max_seeds}; declare as many as"
                " it may ever have"
            )
        if not self.seeds:
            raise StudyError(f"study {self.name!r} has no seeds; give at least one")
        self._check_settings()
        self._check_keys()
        self._check_selection()
        self._check_claims()
        for setting in self.settings:
            steps, every = self.lengths(setting)
            if not 1 <= every <= steps:
                raise StudyError(f"steps = {steps} and eval_every = {every}: need 1 <= eval_every <= steps")

    def _settle(self) -> None:
        object.__setattr__(self, "seeds", seeds_of(self.seeds))
        settle(self, StudyError)
        if isinstance(self.experiment, type):
            kind = self.experiment.__name__
            raise StudyError(f"study {self.name!r}: experiment is the class {kind} itself; give an object, {kind}()")
        if known_keys(self.experiment) is not None:
            self._check_keys()  # a wrong name comes before a wrong value
        arms = tuple(dataclasses.replace(a, values=in_its_terms(self.experiment, a.values)) for a in self.arms)
        settings = tuple(dataclasses.replace(s, values=in_its_terms(self.experiment, s.values)) for s in self.settings)
        for name, value in (("base", in_its_terms(self.experiment, self.base)), ("arms", arms), ("settings", settings)):
            object.__setattr__(self, name, value)

    def _check_settings(self) -> None:
        if not self.settings:
            raise StudyError(f"study {self.name!r} has no settings; give at least one, or leave them out")
        titles: dict[str, str] = {}
        places: set[tuple[str, str, str]] = set()
        for setting in self.settings:
            for name in setting.arms or ():
                self._check_arm(name)
            taken = {(setting.row, setting.label, arm) for arm in setting.arms or [a.name for a in self.arms]}
            if places & taken:  # their runs could not be told apart, and none would have its pair
                raise StudyError(
                    f"study {self.name!r}: two settings of row {setting.row!r} are called {setting.label!r}; give each"
                    " a name of its own, such as name='40 updates'"
                )
            places |= taken
            if (title := titles.setdefault(setting.row, setting.title)) != setting.title:
                raise StudyError(
                    f"study {self.name!r}: row {setting.row!r} is called {title!r} and {setting.title!r}; settings of"
                    " one row have one title, and a name each"
                )

    def _check_keys(self) -> None:
        """Check every key of every configuration: one that nobody reads would make a verdict about nothing."""
        known = known_keys(self.experiment)
        for where, values in self._values():
            for key in values:
                if key in STUDY_KEYS:
                    raise StudyError(
                        f"study {self.name!r}: {where} sets {key!r} in a configuration; give it to the Study itself"
                    )
                if known is not None and key not in known:
                    raise StudyError(
                        f"study {self.name!r}: {where} sets {key!r}, which {self.experiment.name} does not know:"
                        f" allowed are {', '.join(sorted(known))}{nearest(key, known)}"
                    )

    def _values(self) -> Iterator[tuple[str, Config]]:
        """Yield all partial configurations, each with a word on where it stands."""
        yield "base", self.base
        for setting in self.settings:
            yield f"setting {setting.label!r} of row {setting.row!r}", setting.values
        for arm in self.arms:
            yield f"arm {arm.name!r}", arm.values

    def _check_claims(self) -> None:
        """Check that every claim speaks of rows and arms that there are, and says something that can be judged."""
        rows, arms = list(dict.fromkeys(s.row for s in self.settings)), [a.name for a in self.arms]
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) != len(ids):
            raise StudyError(f"study {self.name!r} names the same claim twice: {ids}")
        for claim in self.claims:
            places = [("expects", claim.expects, EXPECTATIONS)]
            if not self.part:
                places += [("row", claim.row, rows), ("treatment", claim.treatment, arms)]
                places += [("figures of arm", arm, arms) for arm in claim.figures]
            for what, name, known in places:
                if name not in known:
                    raise StudyError(
                        f"study {self.name!r}: claim {claim.id!r} has {what} {name!r}: there are"
                        f" {', '.join(map(repr, known))}{nearest(name, known)}"
                    )

    def _check_selection(self) -> None:
        if self.selection is None:
            return
        if not self.selection.by or self.metric.name in self.selection.by:
            raise StudyError(
                f"study {self.name!r} chooses runs by {', '.join(self.selection.by) or 'nothing'};"
                f" choose by measures of training, and not by {self.metric.name!r}, which is to be compared"
            )
        same = next((m for m in self.selection.report if m.name == self.metric.name), None)
        if same is None:
            raise StudyError(f"study {self.name!r} does not report its metric {self.metric.name!r} of the chosen runs")
        if same.at != self.metric.at:
            raise StudyError(
                f"study {self.name!r} compares {self.metric.name!r} at {self.metric.at!r} and reports it of the chosen"
                f" runs at {same.at!r}; give both metrics the same `at`"
            )

    def _check_arm(self, name: str) -> None:
        known = [a.name for a in self.arms]
        if name not in known:
            raise StudyError(
                f"no arm {name!r} in study {self.name!r}: arms are {', '.join(known)}{nearest(name, known)}"
            )

    @property
    def baseline(self) -> Arm:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def subject(self) -> str:
        """Name and data fingerprint of the experiment, as they enter the ids of trials."""
        return f"{self.experiment.name}@{self.experiment.fingerprint}"

    def with_arms(self, names: Sequence[str]) -> Study:
        """Return the study restricted to some arms; the baseline stays, settings without a comparison go."""
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
        return dataclasses.replace(self, arms=keep, settings=tuple(settings), part=True)

    def with_rows(self, names: Sequence[str]) -> Study:
        """Return the study restricted to some rows of its table."""
        known = list(dict.fromkeys(s.row for s in self.settings))
        for name in names:
            if name not in known:
                raise StudyError(
                    f"no row {name!r} in study {self.name!r}: rows are {', '.join(known)}{nearest(name, known)}"
                )
        return dataclasses.replace(self, settings=tuple(s for s in self.settings if s.row in names), part=True)

    def lengths(self, setting: Setting) -> tuple[int, int]:
        """Return updates per trial and between evaluations in one setting."""
        return setting.steps or self.steps, setting.eval_every or self.eval_every

    def trials(self) -> Iterator[Trial]:
        """Enumerate all trials, seed by seed, so that a half-finished study holds whole pairs."""
        first = [
            self.trial(setting, arm, self.seeds[0])
            for setting in self.settings
            for arm in self.arms
            if setting.arms is None or arm.name in setting.arms
        ]
        yield from first
        for seed in self.seeds[1:]:
            for t in first:
                yield Trial(t.experiment, t.row, t.setting, t.arm, seed, t.config, t.text)

    def trial(self, setting: Setting, arm: Arm, seed: int) -> Trial:
        """Return the trial of one setting, arm and seed."""
        config = {**self.base, **setting.values, **arm.values}
        steps, every = self.lengths(setting)
        config |= {"steps": steps, "eval_every": every, "study_seed": self.seed}
        return Trial(self.subject, setting.row, setting.label, arm.name, seed, config)

    def dataclasses(self) -> set[type | FunctionType]:
        """Return the dataclasses and functions that configurations in this study's store may hold.

        These are its own ones, and those of the module that the experiment's class is defined in.
        """
        experiments = (self.experiment, getattr(self.experiment, "experiment", self.experiment))
        modules = [vars(sys.modules[type(x).__module__]) for x in experiments]
        own = {x for module in modules for x in module.values() if isinstance(x, type) and dataclasses.is_dataclass(x)}
        return {*own, *(kind for _, values in self._values() for kind in dataclasses_in(values))}
