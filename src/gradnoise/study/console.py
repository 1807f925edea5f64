"""Running a study in a terminal: what it will do, how far it is, what came out."""

from __future__ import annotations

import math
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from gradnoise.errors import StudyError
from gradnoise.study.analysis import Summary, summarise
from gradnoise.study.report import Extras, print_summary, write_report
from gradnoise.study.results import StudyResults
from gradnoise.study.run.executors import AUTO, SPOOL, Executor
from gradnoise.study.run.options import Options
from gradnoise.study.run.planning import Plan
from gradnoise.study.run.runner import Observer, Progress, run_study
from gradnoise.study.spec import Study
from gradnoise.study.store import Store, note_look

Figures = Callable[[StudyResults], Extras]


def run_and_report(
    study: Study,
    folder: str | Path,
    *,
    options: Options | None = None,
    command: str | None = None,
    executor: Executor | str = AUTO,
    console: Console | None = None,
    figures: Figures = lambda _: (),
    adds: bool = True,
) -> StudyResults:
    """Run a study with a progress bar, print its verdict, and write its report into `folder`.

    Ctrl-C leaves everything computed so far; call it again to go on.

    Args:
        study: what is asked.
        folder: of the study.
        options: how to run.
        command: what to repeat, for the report; None for the command line of this process.
        executor: where to train, see `run_study`.
        console: where to print.
        figures: further figures and tables for the report, made from the results.
        adds: whether trials are added that the folder lacks, see `run_study`.

    Returns:
        All trials of the folder.

    Raises:
        StudyError: the folder holds another study, is in use, or cannot be written.
    """
    folder, console = Path(folder), console or Console(highlight=False)
    command = command or shlex.join(["python", *sys.argv])
    if executor == SPOOL:
        console.print(f"Workers, on machines that reach the folder: gradnoise worker --study {folder}", soft_wrap=True)
    try:
        with _terminal(study, console) as observer:
            results = run_study(
                study, folder, options=options, command=command, executor=executor, observer=observer, adds=adds
            )
    except KeyboardInterrupt:
        _say_how_to_go_on(folder, command, console)
        sys.exit(130)
    keep_look(folder, conclude(results, folder, console, figures), console)
    return results


def conclude(results: StudyResults, folder: Path, console: Console, figures: Figures = lambda _: ()) -> Summary:
    """Print the verdict, write the report, and return what was concluded."""
    summary = summarise(results)
    print_summary(summary, console)
    console.print(f"Report: {write_report(results, folder, figures(results), summary=summary)}", soft_wrap=True)
    return summary


def keep_look(folder: Path, summary: Summary, console: Console) -> None:
    """Keep in a study's store that its verdicts were read: a test must know how often it was looked at."""
    seen = {seed for effect in summary.effects for seed in effect.seeds}
    if seen:
        try:
            note_look(folder, len(summary.record.seeds), seen)
        except StudyError as error:
            console.print(Text(str(error), style="yellow"))


def describe_plan(plan: Plan, study: Study, folder: Path, console: Console) -> None:
    """Print what a run will do."""
    sizes = Counter(len(job.trials) for job, _ in plan.chunks)
    chunks = ", ".join(f"{n} of {size}" for size, n in sorted(sizes.items(), reverse=True))
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    rows = {
        "study": f"{study.title}, scale {study.scale}",
        "data": study.experiment.data_title,
        "folder": f"{folder}{' (exists: finished trials are kept)' if plan.done else ''}",
        "trials": f"{plan.trials} = {len(study.settings)} settings x arms x {len(study.seeds)} seeds,"
        f" {_updates(study)} each; {plan.done} finished already",
    }
    if plan.chunks:
        rows |= {
            "populations": f"{chunks} replicas, in {_workers(plan)}",
            "speed": f"{1000 * plan.seconds_per_step:.2f} ms per replica and update in one worker (timed now)",
            "time": f"about {_duration(plan.seconds)}",
            "memory": f"about {plan.bytes / 2**30:.1f} GiB",
        }
    else:
        rows["left"] = "nothing to train; the command writes the report again"
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), value)
    console.print(table)


class _TimeLeft(TimeRemainingColumn):
    """The time that is left, said as such; nothing where it is not known yet."""

    def render(self, task: Task) -> Text:
        """Write it behind the time that has passed."""
        known = task.total is not None and task.time_remaining is not None
        return Text.assemble(super().render(task), " left") if known else Text("")


class _Terminal(Observer):
    """Shows a run on a terminal: a line for the plan, a bar with counts, a line for every event."""

    def __init__(self, study: Study, bars: Bars) -> None:
        self.study, self.bars = study, bars
        self.task = bars.add_task("timing a few updates", total=None)
        self.arms: Mapping[str, str] = {}
        self.succeeded: Counter[str] = Counter()

    def planned(self, plan: Plan) -> None:
        """Say what will be done."""
        self.arms = plan.arms
        if plan.chunks:
            left = plan.trials - plan.done
            self.bars.console.print(
                f"{left} trials in {len(plan.chunks)} populations, {_workers(plan)}, about {_duration(plan.seconds)}"
            )

    def progressed(self, progress: Progress) -> None:
        """Move the bar, count successes, tell of events."""
        if progress.result:
            metric = self.study.metric
            for trial, final in progress.result.final.items():
                if trial in self.arms and metric.succeeded(final.get(metric.name, math.nan)):
                    self.succeeded[self.arms[trial]] += 1
            for sentence in progress.result.events:
                self.bars.console.print(Text(f"chunk {progress.result.chunk}: {sentence}", style="yellow"))
        text = _status(progress, self.succeeded)
        self.bars.update(self.task, completed=progress.replica_steps, total=progress.total, description=text)


@contextmanager
def _terminal(study: Study, console: Console) -> Iterator[Observer]:
    """Show a run on a terminal within a block."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        _TimeLeft(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Terminal(study, bars)


def _say_how_to_go_on(folder: Path, command: str, console: Console) -> None:
    counts: dict[str, int] = {}
    with suppress(StudyError), Store(folder, readonly=True) as store:  # there may be none yet
        counts = store.counts()
    done = counts.get("finished", 0) + counts.get("diverged", 0)
    left = "the others stand at their last checkpoint" if counts else "training had not begun"
    console.print(f"\nStopped: {done} of {sum(counts.values())} trials are finished, {left}.", soft_wrap=True)
    console.print(f"Go on with: {command}", soft_wrap=True)


def _status(progress: Progress, succeeded: Counter[str]) -> str:
    done = progress.counts.get("finished", 0) + progress.counts.get("diverged", 0)
    text = f"{done}/{sum(progress.counts.values())} trials"
    if diverged := progress.counts.get("diverged"):
        text += f", {diverged} diverged"
    if succeeded:
        text += ", successes " + " ".join(f"{arm}: {n}" for arm, n in sorted(succeeded.items()))
    return text


def _workers(plan: Plan) -> str:
    return f"{plan.workers} worker{'s' if plan.workers > 1 else ''}"


def _updates(study: Study) -> str:
    lengths = sorted({study.lengths(s)[0] for s in study.settings})
    return " to ".join(f"{n:,}" for n in dict.fromkeys((lengths[0], lengths[-1]))) + " updates"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
