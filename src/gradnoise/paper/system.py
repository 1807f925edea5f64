"""What a system of the paper is, and how a request becomes a study: the floor plan that all systems share."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from gradnoise.errors import StudyError, nearest
from gradnoise.paper.contrast import Contrast
from gradnoise.paper.recipe import MAIN_SCALE, Recipe
from gradnoise.population import Experiment
from gradnoise.study import Arm, Claim, Metric, Selection, Setting, Study, StudyResults
from gradnoise.study.report import Extras

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much of a protocol to run. A system whose scales say more than this inherits from it.

    Args:
        arms: treatments, the baseline first.
        seeds: how many.
        length: of a run, in the system's unit.
        eval_every: updates between evaluations; None where the system's `build` decides.
        departures: from the published protocol, one sentence each.
        data: what "auto" stands for at this scale.
        tests_claims: whether the published claims speak of this scale's rows.
        first_seed: seeds count from here; above 0 where those before it were looked at when the question was put.
    """

    arms: tuple[Arm, ...]
    seeds: int
    length: int
    eval_every: int | None = None
    departures: tuple[str, ...] = ()
    data: str = AUTO
    tests_claims: bool = True
    first_seed: int = 0


@dataclass(frozen=True)
class NoOptions:
    """The options of a system that has none."""


S = TypeVar("S", bound=Scale)


@dataclass(frozen=True)
class Request(Generic[S]):
    """What a user asked of a system, every default filled in: what `System.build` makes a study of.

    Args:
        system: the system.
        recipe: what was asked.
        scale: the scale of that name.
        seeds: trial seeds.
        length: of a run, in the system's unit.
        departures: how seeds and length depart from the scale's.
        options: the system's own options, an instance of `System.options`.
    """

    system: System[S]
    recipe: Recipe
    scale: S
    seeds: tuple[int, ...]
    length: int
    departures: tuple[str, ...]
    options: Any

    @property
    def data(self) -> str:
        """What to load: the name or folder asked for, or what "auto" stands for at this scale."""
        return self.scale.data if self.recipe.data == AUTO else self.recipe.data

    def study(
        self,
        *,
        title: str,
        experiment: Experiment,
        metric: Metric,
        settings: tuple[Setting, ...],
        base: Mapping[str, Any],
        protocol: tuple[tuple[str, str], ...],
        silent: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        data: str | None = None,
        selection: Selection | None = None,
        steps: int | None = None,
        eval_every: int | None = None,
        unit: Callable[[Setting], int] = lambda setting: 1,
    ) -> Study:
        """Return the study of this request; name, arms, seeds, claims and recipe follow from what was asked.

        Args:
            title, experiment, metric, settings, base, protocol, selection: of the study.
            silent: what the paper does not say and what is done here.
            notes: departures that show only when the data is there.
            data: name of the data that "auto" came to be; None for the name asked for.
            steps, eval_every: updates, and updates between evaluations; None for the request's.
            unit: updates in one unit of length in a setting.
        """
        scale = self.scale
        rows, arms = {s.row for s in settings}, {a.name for a in scale.arms}
        claims = self.system.claims if scale.tests_claims else ()
        recipe = dataclasses.replace(self.recipe, data=data) if data and self.recipe.data == AUTO else self.recipe
        steps, eval_every = steps or self.length, eval_every or min(scale.eval_every or self.length, self.length)
        settings, rarer = self._evaluated(settings, steps, eval_every, unit)
        return Study(
            name=self.system.name,
            title=title,
            experiment=experiment,
            arms=scale.arms,
            metric=metric,
            settings=settings,
            seeds=self.seeds,
            steps=steps,
            eval_every=eval_every,
            base=base,
            scale=recipe.label(self.system.main_study),
            claims=tuple(c for c in claims if c.row in rows and c.treatment in arms),
            deviations=(*silent, *scale.departures, *self.departures, *rarer, *notes),
            protocol=protocol,
            selection=selection,
            recipe=recipe.plain(),
        )

    def _evaluated(
        self, settings: tuple[Setting, ...], steps: int, eval_every: int, unit: Callable[[Setting], int]
    ) -> tuple[tuple[Setting, ...], tuple[str, ...]]:
        """Return the settings with evaluations as often as was asked for, and in what way that is a departure."""
        asked, name = self.recipe.eval_every, self.system.length_unit
        if asked is None:
            return settings, ()
        own = [s.eval_every or eval_every for s in settings]
        wanted = [min(asked * unit(s), s.steps or steps) for s in settings]
        if wanted == own:
            return settings, ()
        units = {every / unit(s) for every, s in zip(own, settings, strict=True)}
        usual = f"every {units.pop():,g}" if len(units) == 1 else "as often as the scale has them"
        changed = (dataclasses.replace(s, eval_every=n) for s, n in zip(settings, wanted, strict=True))
        return tuple(changed), (f"Evaluations every {asked:,} {name} instead of {usual}.",)


@dataclass(frozen=True, kw_only=True)
class System(Generic[S]):
    """One system of the paper: the sign on the door of its folder.

    Args:
        name: on the command line.
        title: what it is.
        table: where the paper reports it.
        claims: published figures that it tests. An id is that of one of the paper's statements, alone or with parts
            behind slashes, and unique in the project.
        studies: study -> name of a scale -> the scale. The first study is meant where none is named.
        build: makes a study of a request, see `Request.study`.
        data: names that `--data` takes besides "auto"; none where the system makes its data itself.
        folder: what a folder that `--data` names must hold; empty where it takes no folder.
        options: further options of its studies: a frozen dataclass whose fields, with their docstrings, become
            options of `gradnoise run NAME`.
        length_unit: what `Scale.length` and `--steps` count.
        seeds_are: what seeds are called.
        extras: figures and tables that it adds to a report.
        contrasts: statements that compare something else than an arm with the baseline of its row.
        commands: name -> command of its own, mounted as `gradnoise NAME COMMAND`: a dataclass whose fields are the
            options, its docstring the help, and which is called with a console.
        results: folder of the committed results, below `results/`.
    """

    name: str
    title: str
    table: str
    claims: tuple[Claim, ...]
    studies: Mapping[str, Mapping[str, S]]
    build: Callable[[Request[S]], Study]
    data: tuple[str, ...] = ()
    folder: str = ""
    options: type[Any] = NoOptions
    length_unit: str = "updates"
    seeds_are: str = "seeds"
    extras: Callable[[StudyResults], Extras] = lambda _: ()
    contrasts: tuple[Contrast, ...] = ()
    commands: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    results: str = ""

    @property
    def main_study(self) -> str:
        """The study that is meant where none is named."""
        return next(iter(self.studies))

    @property
    def data_names(self) -> tuple[str, ...]:
        """The names that `--data` takes."""
        return (AUTO, *self.data)

    def study(
        self,
        scale: str = MAIN_SCALE,
        data: str = AUTO,
        seeds: int | None = None,
        steps: int | None = None,
        *,
        study: str | None = None,
        rows: Sequence[str] = (),
        arms: Sequence[str] = (),
        eval_every: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Study:
        """Build a study.

        Args:
            scale: name of one of the study's scales.
            data: "auto", one of the system's `data`, or the path of a folder where the system takes one. A folder
                that is called like one of the names is not meant by it.
            seeds: number of seeds; None for the scale's own.
            steps: length of a run in the system's unit; None for the scale's own.
            study: which one; None for the main study.
            rows: only these rows of the table; none for all.
            arms: only these arms and the baseline; none for all.
            eval_every: length between evaluations in the system's unit; None for the scale's own.
            options: the system's own options by name.

        Raises:
            StudyError: a name is unknown or a number out of range; the message says what is allowed.
            DataError: the data is not there.
        """
        usual = self.options()
        changed = {k: v for k, v in (options or {}).items() if not hasattr(usual, k) or v != getattr(usual, k)}
        place = data if data in self.data_names else _folder(self, data)
        recipe = Recipe(
            self.name,
            study or self.main_study,
            scale,
            seeds,
            steps,
            place,
            tuple(rows),
            tuple(arms),
            eval_every,
            changed,
        )
        built = self.build(sized(self, recipe))
        built = built.with_arms(arms) if arms else built
        return built.with_rows(rows) if rows else built


def sized(system: System[S], recipe: Recipe) -> Request[S]:
    """Look up what a recipe names, and say how its numbers depart from the scale's.

    Raises:
        StudyError: a name is unknown or a number out of range.
    """
    scales = _known(system.studies, recipe.study, f"study of {system.name}", "studies")
    scale = _known(scales, recipe.scale, f"scale of {system.name}/{recipe.study}", "scales")
    options = _own_options(system, recipe.options)
    for option, number in (("seeds", recipe.seeds), ("steps", recipe.steps), ("eval-every", recipe.eval_every)):
        if number is not None and number < 1:
            raise StudyError(f"--{option} {number}: give 1 or more")
    seeds = scale.seeds if recipe.seeds is None else recipe.seeds
    length = scale.length if recipe.steps is None else recipe.steps
    if recipe.eval_every is not None and recipe.eval_every > length:
        raise StudyError(
            f"--eval-every {recipe.eval_every}: a run has {length:,} {system.length_unit}; give at most that"
        )
    departures = []
    if length != scale.length:
        departures.append(f"{length:,} {system.length_unit} a run instead of {scale.length:,}.")
    if seeds < scale.seeds:
        departures.append(f"{seeds} {system.seeds_are} instead of {scale.seeds}.")
    trial_seeds = tuple(range(scale.first_seed, scale.first_seed + seeds))
    return Request(system, recipe, scale, trial_seeds, length, tuple(departures), options)


T = TypeVar("T")


def _known(choices: Mapping[str, T], name: str, what: str, many: str) -> T:
    if name not in choices:
        raise StudyError(f"no {what} is called {name!r}; {many} are {', '.join(choices)}{nearest(name, choices)}")
    return choices[name]


def _folder(system: System[Any], name: str) -> str:
    """Return the absolute path of a folder of data, so that a study is resumed from anywhere."""
    if not system.data:
        raise StudyError(f"--data {name}: {system.name} makes its data itself; leave --data out")
    place = Path(name).expanduser()
    if system.folder and place.is_dir():
        return os.path.abspath(place)
    allowed = system.data_names
    folders = f", or a folder with {system.folder}; there is no such folder" if system.folder else ""
    raise StudyError(f"--data {name}: {system.name} has {', '.join(allowed)}{folders}{nearest(name, allowed)}")


def _own_options(system: System[Any], values: Mapping[str, Any]) -> Any:
    """Return a system's own options with some values changed."""
    usual = {f.name: getattr(system.options(), f.name) for f in dataclasses.fields(system.options)}
    for name, value in values.items():
        if name not in usual:
            own = f": there are {', '.join(usual)}{nearest(name, usual)}" if usual else " of its own"
            raise StudyError(f"{system.name} has no option {name!r}{own}")
        if type(value) is not type(usual[name]):
            raise StudyError(f"option {name} = {value!r} of {system.name}: a {type(usual[name]).__name__} is needed")
    return system.options(**values)
