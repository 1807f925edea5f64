"""What the driver of a large study costs for each 1,000 trials, and how well two workers share the work.

Trials train nothing here: what is left is planning, handing out, taking in and storing. Slices of the second part sleep
instead of training, so that the figure is that of handing out alone, on a machine that is busy, too.

    python benchmarks/scale.py
    python benchmarks/scale.py --trials 1000 10000 100000
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from gradnoise.study import Arm, Metric, Observer, Options, Progress, Setting, SpoolExecutor, Study, run_study
from gradnoise.study.engine import Job, Keep, Measurement, SliceResult
from gradnoise.study.run.processes import Processes

SPAWN = multiprocessing.get_context("spawn")
CHUNK, EVALUATIONS = 40, 5


@dataclass(frozen=True)
class Idle:
    """An engine whose trials are evaluated a few times and need no training; a slice takes `pause` seconds."""

    pause: float = 0.0
    slices: int = 1
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
            for metric in ("error", "train_loss", "gradient_norm")
        ]
        done = reached >= job.steps
        final = {t.id: {"error": float(t.seed)} for t in job.trials} if done else {}
        return SliceResult(job.chunk, reached, done, rows, {}, final, self.pause)


def study(engine: Idle, trials: int) -> Study:
    """Return a study of so many trials, a multiple of 20."""
    return Study(
        name="scale",
        title="Scale",
        experiment=engine,
        arms=(Arm("none", {"arm": 0}), Arm("noise", {"arm": 1})),
        metric=Metric("error", "error", higher_is_better=False),
        settings=tuple(Setting(str(i), str(i), {"setting": i}) for i in range(10)),
        seeds=tuple(range(trials // 20)),
        steps=EVALUATIONS * engine.slices,
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
        """Slices per second."""
        return (len(self.times) - 1 - self.after) / (self.times[-1] - self.times[self.after])


def run(engine: Idle, trials: int, executor: str, workers: int, chunk: int) -> tuple[float, float, float]:
    """Run a study.

    Returns:
        Slices per second, processor seconds of the driver, and the most memory of it in MiB.
    """
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
        before = time.process_time()
        options = Options(chunk=chunk, slice_seconds=0.0)
        run_study(study(engine, trials), folder, options=options, executor=made, observer=clock)
        used = time.process_time() - before
        for process in pulling:
            process.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return clock.rate, used, peak


def apart(*arguments: Any) -> tuple[float, float, float]:
    """Run in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(run, *arguments).result()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--pause", type=float, default=2.0, help="seconds of a slice in the second part")
    asked = parser.parse_args()
    print(f"driver: chunks of {CHUNK} trials, {EVALUATIONS} evaluations of 3 metrics each, one slice each")
    print("executor   trials  slices/s  processor s  per 1,000 trials  peak MiB")
    for trials in asked.trials:
        for executor in ("here", "spool"):
            rate, used, peak = apart(Idle(), trials, executor, 1, CHUNK)
            print(
                f"{executor:9} {trials:7,} {rate:9.1f} {used:12.1f} {1000 * used / trials:17.2f} {peak:9.0f}",
                flush=True,
            )
    print(f"\ntwo workers, slices of {asked.pause:g} s that sleep")
    for executor in ("processes", "spool"):
        engine = Idle(pause=asked.pause, slices=4)
        one, two = (apart(engine, 80 * workers, executor, workers, 20)[0] for workers in (1, 2))
        print(
            f"{executor:9} {one:6.3f} and {two:6.3f} slices/s with one and two: {two / (2 * one):.2f} of twice one",
            flush=True,
        )


if __name__ == "__main__":
    main()
