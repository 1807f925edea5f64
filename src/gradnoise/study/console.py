"""Running a study in a terminal: what it will do, how far it is, what came out."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradnoise.errors import StudyError
from gradnoise.study.analysis import Summary, summarise
from gradnoise.study.progress import duration, terminal, workers
from gradnoise.study.report import Extras, print_summary, print_table, write_report
from gradnoise.study.results import StudyResults
from gradnoise.study.run.executors import AUTO, SPOOL, Executor
from gradnoise.study.run.options import Options
from gradnoise.study.run.planning import Plan
from gradnoise.study.run.runner import run_study
from gradnoise.study.spec import Study
from gradnoise.study.status import status_of
from gradnoise.study.store import Store, note_look
from gradnoise.terminal import Terminal

Figures = Callable[[StudyResults], Extras]


def no_figures(results: StudyResults) -> Extras:
    """Add nothing to a report."""
    return ()


def run_and_report(
    study: Study,
    folder: str | Path,
    *,
    options: Options | None = None,
    command: str | None = None,
    executor: Executor | str = AUTO,
    console: Console | None = None,
    figures: Figures = no_figures,
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
    folder, console = Path(folder), console or Terminal()
    command = command or shlex.join(["python", *sys.argv])
    if executor == SPOOL:
        console.print(f"Workers, on machines that reach the folder: gradnoise worker --study {folder}", soft_wrap=True)
    try:
        with terminal(study, console) as observer:
            results = run_study(
                study, folder, options=options, command=command, executor=executor, observer=observer, adds=adds
            )
    except KeyboardInterrupt:
        _say_how_to_go_on(folder, command, console)
        sys.exit(130)
    keep_look(folder, conclude(results, folder, console, figures), console)
    return results


def conclude(
    results: StudyResults,
    folder: Path,
    console: Console,
    figures: Figures = no_figures,
    *,
    table: bool = False,
    study: Path | None = None,
) -> Summary:
    """Write the report, print the answer and where the report is, and return what was concluded.

    Args:
        results: a study.
        folder: where to write.
        console: where to print.
        figures: further figures and tables for the report, made from the results.
        table: whether to print the whole table, too.
        study: folder of the study; None for the same.
    """
    summary = summarise(results)
    standing = () if all(t.done for t in results.trials) else _standing(study or folder)
    path = write_report(results, folder, figures(results), summary=summary, standing=standing)
    if table:
        print_table(summary, console)
        console.print()
    print_summary(summary, console)
    console.print(Text(f"Report: {path}"), soft_wrap=True)
    return summary


def _standing(folder: Path) -> tuple[tuple[str, str], ...]:
    """Say where a study stands; nothing where its store is not at hand or its spool not to be trusted."""
    with suppress(StudyError):
        return status_of(folder).lines
    return ()


def keep_look(folder: Path, summary: Summary, console: Console) -> None:
    """Keep in a study's store that its verdicts were read: a test must know how often it was looked at."""
    seen = {seed for effect in summary.effects for seed in effect.seeds}
    if seen:
        try:
            note_look(folder, len(summary.record.seeds), seen)
        except StudyError as error:
            console.print(Text(str(error), style="yellow"))


def describe_plan(plan: Plan, study: Study, folder: Path, console: Console, *, before: float = 0.0) -> None:
    """Print what a run will do.

    Args:
        plan: of the run.
        study: what is asked.
        folder: where.
        console: where to print.
        before: seconds that the run will take before it trains, as this look did.
    """
    sizes = Counter(len(job.trials) for job, _ in plan.chunks)
    chunks = ", ".join(f"{n} of {size}" for size, n in sorted(sizes.items(), reverse=True))
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    rows = {
        "study": study.heading,
        "data": study.experiment.data_title,
        "folder": f"{folder}{' (exists: finished trials are kept)' if plan.done else ''}",
        "trials": f"{plan.trials} = {_cells(study)} x {len(study.seeds)} seeds, {_updates(study)} each; {plan.done}"
        " finished already",
    }
    if plan.chunks:
        rows |= {
            "populations": f"{chunks} replicas, in {workers(plan)}",
            "speed": f"{1000 * plan.seconds_per_step:.2f} ms per replica and update in one worker (timed now)",
            "time": _time(plan.seconds, before),
            "memory": f"about {plan.bytes / 2**30:.1f} GiB",
        }
    else:
        rows["left"] = "nothing to train; the command writes the report again"
    for name, value in rows.items():
        if value:
            table.add_row(Text(name, style="bold"), value)
    console.print(table)
    for note in plan.notes:
        console.print(Text(note, style="yellow"))


def _time(training: float, before: float) -> str:
    """Say how long a run takes; where its start is a good part of that, how much."""
    whole = training + before
    part = f", {duration(before)} of it to start, check and time" if before > whole / 10 else ""
    return f"about {duration(whole)}{part}"


def _say_how_to_go_on(folder: Path, command: str, console: Console) -> None:
    counts: dict[str, int] = {}
    with suppress(StudyError), Store(folder, readonly=True) as store:  # there may be none yet
        counts = store.counts()
    done = counts.get("finished", 0) + counts.get("diverged", 0)
    left = "the others stand at their last checkpoint" if counts else "training had not begun"
    console.print(f"\nStopped: {done} of {sum(counts.values())} trials are finished, {left}.", soft_wrap=True)
    console.print(f"Go on with: {command}", soft_wrap=True)


def _cells(study: Study) -> str:
    first, *others = study.settings
    return f"{1 + len(others)} settings x arms" if others else f"{len(first.arms or study.arms)} arms"


def _updates(study: Study) -> str:
    lengths = sorted({study.lengths(s)[0] for s in study.settings})
    return " to ".join(f"{n:,}" for n in dict.fromkeys((lengths[0], lengths[-1]))) + " updates"
