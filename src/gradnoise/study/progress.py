"""A run on a terminal while it trains: a bar that moves from the first second, the time left, the means of the arms."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from gradnoise.study.engine import MetricRow
from gradnoise.study.report.numbers import decimals, number
from gradnoise.study.run.planning import Plan
from gradnoise.study.run.runner import Observer, Progress
from gradnoise.study.spec import Study

#: From this part of the work on the time left is told from the work done alone, not from the plan.
TRUSTED = 0.1
#: A bar runs on between two commits for at most this part of the work.
AHEAD = 0.05


@dataclass
class Clock:
    """How far a run is and how long it still takes, between and after what was committed.

    Args:
        planned: seconds that the plan expects, > 0; nan where it cannot tell.
        started: when training began, in seconds of any clock.
    """

    planned: float
    started: float
    done: float = 0.0
    """Part of the work that was committed, in [0, 1]."""
    told: float = field(init=False)
    """When it was committed."""

    def __post_init__(self) -> None:
        """Begin."""
        self.told = self.started

    def commit(self, done: float, now: float) -> None:
        """Note what was done by now."""
        self.done, self.told = done, now

    def total(self, now: float) -> float:
        """Return how many seconds the whole run takes: as planned at first, by what was done later."""
        if self.done <= 0.0:
            return max(self.planned, now - self.started)
        seen = (self.told - self.started) / self.done
        trust = min(1.0, self.done / TRUSTED)
        return seen if math.isnan(self.planned) else (1.0 - trust) * self.planned + trust * seen

    def part(self, now: float) -> float:
        """Return the part of the work done by now: what was committed, and what has been done since by the estimate."""
        total = self.total(now)
        since = (now - self.told) / total if total > 0.0 else 0.0
        return min(self.done + min(max(since, 0.0), AHEAD), 1.0) if self.done < 1.0 else 1.0

    def left(self, now: float) -> float:
        """Return the seconds left; nan where nothing tells them."""
        return max(self.total(now) * (1.0 - self.done) - (now - self.told), 0.0)


class Means:
    """The running means of the arms: each run counts with its last evaluation so far.

    Args:
        study: what is trained.
        plan: which trials belong to which row and arm.
    """

    def __init__(self, study: Study, plan: Plan) -> None:
        self.study, self.plan = study, plan
        self.latest: dict[tuple[str, str], dict[str, float]] = {}
        self.row = ""

    def take_in(self, rows: Iterable[MetricRow]) -> None:
        """Note what was measured; the row of the last trial is the one that is shown."""
        metric = self.study.metric
        for trial, name, _, value in rows:
            if name == metric.measured and trial in self.plan.arms and math.isfinite(metric.read(value)):
                self.row = self.plan.rows.get(trial, "")
                self.latest.setdefault((self.row, self.plan.arms[trial]), {})[trial] = metric.read(value)

    def text(self) -> str:
        """Write the means of all arms of a row, such as "test accuracy so far: no noise 11.4, noise 96.8"."""
        metric, shown = self.study.metric, []
        for arm in self.study.arms:
            if values := self.latest.get((self.row, arm.name)):
                mean = math.fsum(values.values()) / len(values)
                shown.append(f"{arm.label} {number(mean, decimals(metric))}")
        titles = {s.row: s.title for s in self.study.settings}
        where = f", {titles.get(self.row, self.row)}" if len(titles) > 1 else ""
        return f"{metric.title} so far{where}: {', '.join(shown)}" if shown else ""


class _Lines(Bars):
    """A bar that is moved by a clock, and a line of text below it."""

    clock: Clock | None = None
    below: str = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar and the line."""
        now = time.monotonic()
        for task in self.tasks:
            if self.clock and task.total:
                task.completed = self.clock.part(now) * task.total
        yield self.make_tasks_table(self.tasks)
        if self.below:
            yield Text(self.below, style="dim", no_wrap=True, overflow="ellipsis")


class _TimeLeft(ProgressColumn):
    """The time that is left, said as such; nothing where it is not known yet."""

    def __init__(self, clock: Callable[[], Clock | None]) -> None:
        super().__init__()
        self.clock = clock

    def render(self, task: Task) -> Text:
        """Write it behind the time that has passed."""
        clock = self.clock()
        left = math.nan if clock is None else clock.left(time.monotonic())
        return Text("" if math.isnan(left) else f"{duration(left)} left", style="cyan")


class _Terminal(Observer):
    """Shows a run on a terminal: a line for the plan, a bar, the means of the arms, a line for every event."""

    def __init__(self, study: Study, bars: _Lines) -> None:
        self.study, self.bars = study, bars
        self.task = bars.add_task("timing a few updates", total=None)
        self.arms: Mapping[str, str] = {}
        self.means: Means | None = None
        self.succeeded: Counter[str] = Counter()

    def planned(self, plan: Plan) -> None:
        """Say what will be done."""
        self.arms, self.means = plan.arms, Means(self.study, plan)
        for note in plan.notes:
            self.bars.console.print(Text(note, style="yellow"))
        if plan.chunks:
            left = plan.trials - plan.done
            self.bars.console.print(
                f"{_counted(left, 'trial')} in {_counted(len(plan.chunks), 'population')}, {workers(plan)},"
                f" about {duration(plan.seconds)}"
            )
            self.bars.clock = Clock(plan.seconds, time.monotonic())
        else:
            self.bars.console.print(nothing_trained(plan))

    def progressed(self, progress: Progress) -> None:
        """Move the bar, take in what was measured, tell of events."""
        if progress.result and self.means:
            metric = self.study.metric
            self.means.take_in(progress.result.rows)
            for trial, final in progress.result.final.items():
                value = metric.read(final.get(metric.measured, math.nan))
                if metric.by is None and trial in self.arms and metric.succeeded(value):
                    self.succeeded[self.arms[trial]] += 1
            for sentence in progress.result.events:
                self.bars.console.print(Text(f"chunk {progress.result.chunk}: {sentence}", style="yellow"))
            self.bars.below = ", ".join(filter(None, (self.means.text(), _successes(self.succeeded))))
        if self.bars.clock and progress.total:
            self.bars.clock.commit(progress.replica_steps / progress.total, time.monotonic())
        self.bars.update(self.task, total=progress.total, description=_status(progress))


@contextmanager
def terminal(study: Study, console: Console) -> Iterator[Observer]:
    """Show a run on a terminal within a block.

    Args:
        study: what is trained.
        console: where.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with _Lines(*columns, console=console, transient=True) as bars:
        bars.columns = (*columns, _TimeLeft(lambda: bars.clock))
        yield _Terminal(study, bars)


def _status(progress: Progress) -> str:
    done = progress.counts.get("finished", 0) + progress.counts.get("diverged", 0)
    text = f"{done}/{sum(progress.counts.values())} trials"
    if diverged := progress.counts.get("diverged"):
        text += f", {diverged} diverged"
    return text


def _successes(succeeded: Counter[str]) -> str:
    return f"successes {' '.join(f'{arm}: {n}' for arm, n in sorted(succeeded.items()))}" if succeeded else ""


def nothing_trained(plan: Plan) -> str:
    """Say that all was finished before, and when."""
    when = f" on {plan.finished}" if plan.finished else ""
    return f"{plan.done} of {plan.trials} trials were finished{when}; nothing was trained"


def workers(plan: Plan) -> str:
    """Write how many workers a plan has."""
    return f"{plan.workers} worker{'s' if plan.workers > 1 else ''}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Write a time for people: "40 s", "12 min", "3.5 h", "20 days", "4 years"."""
    for most, unit, name in ((90, 1, "s"), (5400, 60, "min")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    hours = seconds / 3600
    if hours < 72:
        return f"{hours:.1f} h"
    return f"{hours / 24:,.0f} days" if hours < 24 * 730 else f"{hours / (24 * 365):,.0f} years"
