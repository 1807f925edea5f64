"""What the driver of a large study costs, its report, a finished study run again; and how well two workers share.

Trials train nothing here: what is left is planning, handing out, taking in and storing. Slices of the second part sleep
instead of training, so that the figure is that of handing out alone, on a machine that is busy, too.

    python benchmarks/scale.py
    python benchmarks/scale.py --trials 1000 10000 100000
    python benchmarks/scale.py --trials --pause 0 --rows 100 300 600 --points 1000000   # tables and curves alone
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from gradnoise.study import Arm, Metric, Observer, Options, Progress, Setting, SpoolExecutor, Study, run_study
from gradnoise.study.engine import Job, Keep, Measurement, SliceResult
from gradnoise.study.exported import read_folder
from gradnoise.study.report import write_report
from gradnoise.study.run.processes import Processes

SPAWN = multiprocessing.get_context("spawn")
CHUNK, EVALUATIONS = 40, 5


@dataclass(frozen=True)
class Idle:
    """An engine whose trials are evaluated a few times and need no training; a slice takes `pause` seconds."""

    pause: float = 0.0
    slices: int = 1
    metrics: tuple[str, ...] = ("error", "train_loss", "gradient_norm")
    name: str = "idle"
    fingerprint: str = "0"
    data_title: str = "none"
    stand_in: bool = False

    def keys(self) -> None:
        """Accept any key."""

    def check(self, seed: int, config: Any) -> None:
        """Accept any value."""

    def group(self, config: Any) -> int:
        """Train any trials together."""
        return 0

    def local_workers(self) -> int:
        """Return two."""
        return 2

    def worker(self, keep: Keep) -> Idle:
        """Return itself."""
        return self

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Choose the size of chunks."""
        return Measurement(min(CHUNK, len(job.trials)), 1e-6, 0)

    def advance(self, job: Job, step: int, seconds: float) -> SliceResult:
        """Sleep, and make up what was measured."""
        time.sleep(self.pause)
        reached = step + job.steps // self.slices
        points = range(step + 1, reached + 1)
        rows = [
            (t.id, metric, s, 1.0 + t.seed + s + t.config["arm"])  # the arms differ, as they do in a study
            for t in job.trials
            for s in points
            for metric in self.metrics
        ]
        done = reached >= job.steps
        final = {t.id: {"error": float(t.seed)} for t in job.trials} if done else {}
        return SliceResult(job.chunk, reached, done, rows, {}, final, self.pause)


def study(engine: Idle, trials: int, rows: int = 10, points: int = EVALUATIONS) -> Study:
    """Return a study of so many trials, a multiple of 2 rows, whose slices have so many evaluations."""
    return Study(
        name="scale",
        title="Scale",
        experiment=engine,
        arms=(Arm("none", {"arm": 0}), Arm("noise", {"arm": 1})),
        metric=Metric("error", "error", higher_is_better=False),
        settings=tuple(Setting(str(i), str(i), {"setting": i}) for i in range(rows)),
        seeds=tuple(range(trials // (2 * rows))),
        steps=points * engine.slices,
        eval_every=1,
    )


def pull(folder: Path) -> None:
    """What a worker process does."""
    from gradnoise.study.run.spool.worker import SpoolWorker

    SpoolWorker(folder, say=lambda line: None).work()


class Clock(Observer):
    """Times a run from some commits on, when every worker has begun."""

    def __init__(self, after: int) -> None:
        self.after, self.times = after, []

    def progressed(self, progress: Progress) -> None:
        """Note the time."""
        self.times.append(time.monotonic())

    @property
    def rate(self) -> float:
        """Slices per second; nan where there were too few."""
        if len(self.times) < self.after + 2:
            return math.nan
        return (len(self.times) - 1 - self.after) / (self.times[-1] - self.times[self.after])


@dataclass(frozen=True)
class Cost:
    """What a study cost its driver: processor seconds, unless it says otherwise."""

    rate: float
    """Slices per second."""
    run: float
    again: float = 0.0
    """Of the same command when all is finished."""
    report: float = 0.0
    """Of reading the study and writing its report."""
    page: int = 0
    """Bytes of the report's page."""
    peak: float = 0.0
    """Most memory of the driver, MiB."""


def run(asked: Study, executor: str, workers: int, chunk: int, finished: bool = False) -> Cost:
    """Run a study; where `finished`, also run it again and report it."""
    cloudpickle.register_pickle_by_value(sys.modules[Idle.__module__])
    clock = Clock(after=2 * workers)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pulling = [SPAWN.Process(target=pull, args=(folder,)) for _ in range(workers if executor == "spool" else 0)]
        for process in pulling:
            process.start()
        made = {"spool": SpoolExecutor(workers, folder=folder), "processes": Processes(workers), "here": "here"}[
            executor
        ]
        options = Options(chunk=chunk, slice_seconds=0.0)
        used = [timed(lambda: run_study(asked, folder, options=options, executor=made, observer=clock))]
        for process in pulling:
            process.join()
        page = 0
        if finished:
            used.append(timed(lambda: run_study(asked, folder, options=options, executor=made)))
            used.append(timed(lambda: write_report(read_folder(folder), folder)))
            page = (folder / "report.html").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Cost(clock.rate, *used, page=page, peak=peak)


def timed(work: Callable[[], object]) -> float:
    """Return the processor seconds that some work takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def apart(*arguments: Any) -> Cost:
    """Run in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(run, *arguments).result()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--pause", type=float, default=2.0, help="seconds of a slice in the second part; 0 for none")
    parser.add_argument("--executors", nargs="+", default=["here", "spool"], choices=["here", "spool"])
    parser.add_argument("--rows", type=int, nargs="*", default=[], help="rows of tables with 8 seeds")
    parser.add_argument("--points", type=int, nargs="*", default=[], help="points of two curves")
    asked = parser.parse_args()
    shapes = [(f"{rows:,} rows", study(Idle(), 16 * rows, rows)) for rows in asked.rows]
    shapes += [(f"{n:,} points", study(Idle(metrics=("error",)), 2, 1, n)) for n in asked.points]
    for title, table in shapes:
        c = apart(table, "here", 1, CHUNK, True)
        found = f"run {c.run:6.1f} s, report {c.report:6.1f} s, page {c.page / 1000:6.0f} kB, peak {c.peak:5.0f} MiB"
        print(f"{title:>16}: {found}", flush=True)
    if not asked.trials:
        return
    print(f"driver, in processor seconds: chunks of {CHUNK} trials, {EVALUATIONS} evaluations of 3 metrics, one slice")
    print("executor   trials  slices/s  run s  per 1,000 trials  again s  report s  page kB  peak MiB")
    for trials in asked.trials:
        for executor in asked.executors:
            c = apart(study(Idle(), trials), executor, 1, CHUNK, executor == "here")
            after = f"{c.again:8.2f} {c.report:9.1f} {c.page / 1000:8.0f}" if c.page else f"{'':27}"
            each = 1000 * c.run / trials
            print(f"{executor:9} {trials:7,} {c.rate:9.1f} {c.run:6.1f} {each:17.2f} {after} {c.peak:9.0f}", flush=True)
    if asked.pause <= 0.0:
        return
    print(f"\ntwo workers, slices of {asked.pause:g} s that sleep")
    for executor in ("processes", "spool"):
        engine = Idle(pause=asked.pause, slices=4)
        one, two = (apart(study(engine, 80 * workers), executor, workers, 20).rate for workers in (1, 2))
        print(
            f"{executor:9} {one:6.3f} and {two:6.3f} slices/s with one and two: {two / (2 * one):.2f} of twice one",
            flush=True,
        )


if __name__ == "__main__":
    main()
