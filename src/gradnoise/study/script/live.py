"""A comparison while it runs: a line for each seed that ends, and a page that is written again each time."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gradnoise.study.analysis import Summary, conclusions, summarise
from gradnoise.study.console import keep_look
from gradnoise.study.report import write_report
from gradnoise.study.results import StudyResults
from gradnoise.study.run.planning import Plan
from gradnoise.study.run.runner import Observer, Progress
from gradnoise.study.spec import Study
from gradnoise.study.store import Store

#: The page is written again when this many times what it takes to write it has gone by.
PATIENCE = 4.0


class Live(Observer):
    """Tells a terminal how a comparison goes, and keeps its page up to date.

    Args:
        study: what is asked.
        folder: of the study.
        console: where to print.
        blind: whether to keep quiet about results before the end: then the study is looked at once.
        at_once: how many pairs run at once.
    """

    def __init__(self, study: Study, folder: Path, console: Console, *, blind: bool, at_once: int) -> None:
        self.study, self.folder, self.console, self.blind, self.at_once = study, folder, console, blind, at_once
        self._ended, self._to_do = 0, 0
        self._said: set[str] = set()
        self._started, self._first, self._written, self._cost = time.monotonic(), 0.0, -math.inf, 0.0

    def planned(self, plan: Plan) -> None:
        """Say what will be done."""
        self._to_do, self._started = len(plan.chunks), time.monotonic()
        if not plan.chunks:
            self.console.print("Nothing to run: every run has ended before.")
            return
        runs = sum(len(job.trials) for job, _ in plan.chunks)
        at_once = f", {self.at_once} seeds at once after the first" if self.at_once > 1 else ""
        done = f"; {plan.done} ended before" if plan.done else ""
        self.console.print(f"{runs} runs of {len(self.study.arms)} arms and {self._to_do} seeds{at_once}{done}.")

    def progressed(self, progress: Progress) -> None:
        """Tell of the seed that ended."""
        if progress.result is None:
            return
        self._ended += 1
        with Store(self.folder, readonly=True) as store:
            results = store.results()
        self.console.print(Text(self._line(results, set(progress.result.diverged) | set(progress.result.finished))))
        for sentence in progress.result.events:
            self.console.print(Text(f"  {sentence}", style="yellow"), soft_wrap=True)
        for sentence in progress.result.notes:  # each once, at the first seed of which it is true
            if sentence not in self._said:
                self._said.add(sentence)
                self.console.print(Text(f"  {sentence}.", style="cyan"), soft_wrap=True)
        last = self._ended == self._to_do
        if not self.blind and not last:
            self._show(results)

    def _line(self, results: StudyResults, ids: set[str]) -> str:
        name = self.study.metric.measured
        trials = [t for t in results.trials if t.id in ids]
        said = ", ".join(f"{t.arm} {t.final[name]:.6g}" if name in t.final else f"{t.arm} –" for t in trials)
        values = f": {name} {said}" if not self.blind else ""
        return f"seed {trials[0].seed} has ended, {self._ended} of {self._to_do}{values}{self._time_left()}"

    def _time_left(self) -> str:
        passed, left = time.monotonic() - self._started, self._to_do - self._ended
        if not left:
            return ""
        if self._ended == 1:  # the first seed runs alone
            self._first = passed
            seconds = passed * left / min(self.at_once, left)
        else:
            seconds = (passed - self._first) / (self._ended - 1) * left
        return f"; about {duration(seconds)} left"

    def _show(self, results: StudyResults) -> None:
        """Print the verdict so far and write the page, unless that would take more of the time than it is worth."""
        now = time.monotonic()
        if now - self._written < PATIENCE * self._cost:
            return
        summary = summarise(results)
        write_report(results, self.folder, summary=summary)
        self._written = time.monotonic()
        self._cost = self._written - now
        keep_look(self.folder, summary, self.console)
        self.console.print(Text(f"  so far: {so_far(summary)}", style="dim"), soft_wrap=True)


def so_far(summary: Summary) -> str:
    """Return the first sentence on a study that goes on."""
    return re.split(r"(?<=\.) (?=[A-Z])", conclusions(summary)[0])[0]


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
