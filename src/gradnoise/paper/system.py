"""What a system of the paper is, and how a request becomes a study: the floor plan that all systems share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """

    arms: tuple[Arm, ...]
    seeds: int
    length: int
    eval_every: int | None = None
    departures: tuple[str, ...] = ()
    data: str = AUTO
    tests_claims: bool = True


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
    """

    system: System[S]
    recipe: Recipe
    scale: S
    seeds: tuple[int, ...]
    length: int
    departures: tuple[str, ...]

    @property
    def data(self) -> str:
        """What to load: the data asked for, or what "auto" stands for at this scale."""
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
    ) -> Study:
        """Return the study of this request; name, arms, seeds, claims and recipe follow from what was asked.

        Args:
            title, experiment, metric, settings, base, protocol, selection: of the study.
            silent: what the paper does not say and what is done here.
            notes: departures that show only when the data is there.
            data: name of the data that was loaded; None for the name asked for.
            steps, eval_every: updates, and updates between evaluations; None for the request's.
        """
        scale = self.scale
        rows, arms = {s.row for s in settings}, {a.name for a in scale.arms}
        claims = self.system.claims if scale.tests_claims else ()
        recipe = dataclasses.replace(self.recipe, data=data or self.recipe.data)
        return Study(
            name=self.system.name,
            title=title,
            experiment=experiment,
            arms=scale.arms,
            metric=metric,
            settings=settings,
            seeds=self.seeds,
            steps=steps or self.length,
            eval_every=eval_every or min(scale.eval_every or self.length, self.length),
            base=base,
            scale=recipe.label(self.system.main_study),
            claims=tuple(c for c in claims if c.row in rows and c.treatment in arms),
            deviations=(*silent, *scale.departures, *self.departures, *notes),
            protocol=protocol,
            selection=selection,
            recipe=recipe.plain(),
        )


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
    ) -> Study:
        """Build a study.

        Args:
            scale: name of one of the study's scales.
            data: "auto", or one of the system's `data`.
            seeds: number of seeds; None for the scale's own.
            steps: length of a run in the system's unit; None for the scale's own.
            study: which one; None for the main study.
            rows: only these rows of the table; none for all.
            arms: only these arms and the baseline; none for all.

        Raises:
            StudyError: a name is unknown or a number below 1; the message says what is allowed.
            DataError: the data is not there.
        """
        recipe = Recipe(self.name, study or self.main_study, scale, seeds, steps, data, tuple(rows), tuple(arms))
        built = self.build(sized(self, recipe))
        built = built.with_arms(arms) if arms else built
        return built.with_rows(rows) if rows else built


def sized(system: System[S], recipe: Recipe) -> Request[S]:
    """Look up what a recipe names, and say how its numbers depart from the scale's.

    Raises:
        StudyError: a name is unknown or a number below 1.
    """
    scales = _known(system.studies, recipe.study, f"study of {system.name}", "studies")
    scale = _known(scales, recipe.scale, f"scale of {system.name}/{recipe.study}", "scales")
    _check_data(system, recipe.data)
    for option, number in (("seeds", recipe.seeds), ("steps", recipe.steps)):
        if number is not None and number < 1:
            raise StudyError(f"--{option} {number}: give 1 or more")
    seeds = scale.seeds if recipe.seeds is None else recipe.seeds
    length = scale.length if recipe.steps is None else recipe.steps
    departures = []
    if length != scale.length:
        departures.append(f"{length:,} {system.length_unit} a run instead of {scale.length:,}.")
    if seeds < scale.seeds:
        departures.append(f"{seeds} {system.seeds_are} instead of {scale.seeds}.")
    return Request(system, recipe, scale, tuple(range(seeds)), length, tuple(departures))


T = TypeVar("T")


def _known(choices: Mapping[str, T], name: str, what: str, many: str) -> T:
    if name not in choices:
        raise StudyError(f"no {what} is called {name!r}; {many} are {', '.join(choices)}{nearest(name, choices)}")
    return choices[name]


def _check_data(system: System[Any], name: str) -> None:
    allowed = (AUTO, *system.data)
    if name in allowed:
        return
    if not system.data:
        raise StudyError(f"--data {name}: {system.name} makes its data itself; leave --data out")
    raise StudyError(f"--data {name}: {system.name} has {', '.join(allowed)}{nearest(name, allowed)}")
