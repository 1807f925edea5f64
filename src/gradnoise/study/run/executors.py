"""Where slices run: in this process or in worker processes, behind one small interface."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from typing import Protocol

from gradnoise.population import Experiment
from gradnoise.study.run.population_engine import Job, advance
from gradnoise.study.store import Report


class WorkerDied(RuntimeError):
    """A worker process went away in the middle of a slice (killed, out of memory)."""


class Executor(Protocol):
    """Runs slices. A runner needs no more than this; a cluster implements the same three."""

    #: How many slices run at once.
    slots: int

    def submit(self, job: Job, step: int, seconds: float) -> Future[Report]:
        """Start a slice; the future gives its report, or raises WorkerDied."""
        ...

    def close(self) -> None:
        """Stop at once; running slices are lost and will be run again."""
        ...


class InProcess:
    """One slice after the other, in the calling process."""

    slots = 1

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def submit(self, job: Job, step: int, seconds: float) -> Future[Report]:
        """Run the slice now."""
        future: Future[Report] = Future()
        try:
            future.set_result(advance(self.experiment, job, step, seconds))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing to stop."""


_experiment: Experiment | None = None


def _start_worker(pickled: bytes, driver: int) -> None:
    """In a worker: unpickle the experiment, once, leave Ctrl-C to the driver, and end when the driver does."""
    import signal

    import cloudpickle

    global _experiment
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    _experiment = cloudpickle.loads(pickled)


def _end_with(driver: int) -> None:
    """End this process soon after the driver: a driver that is killed takes no leave of its workers."""
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)


def _advance(job: Job, step: int, seconds: float) -> Report:
    assert _experiment is not None
    return advance(_experiment, job, step, seconds)


class Processes:
    """One slice per worker process, each with one thread: on a CPU small matrices share no thread well.

    Args:
        experiment: sent to each worker once; may hold lambdas and classes of the calling script.
        workers: number of processes.
    """

    def __init__(self, experiment: Experiment, workers: int) -> None:
        import cloudpickle

        self.slots = workers
        self._pickled = cloudpickle.dumps(experiment)
        self._pool = self._start()

    def _start(self):
        from loky import ProcessPoolExecutor

        environment = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        return ProcessPoolExecutor(
            self.slots,
            initializer=_start_worker,
            initargs=(self._pickled, os.getpid()),
            env={**os.environ, **environment},
        )

    def submit(self, job: Job, step: int, seconds: float) -> Future[Report]:
        """Send the slice to a free worker; a pool that lost a worker is started anew."""
        from loky.process_executor import BrokenProcessPool

        try:
            inner = self._pool.submit(_advance, job, step, seconds)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False, kill_workers=True)
            self._pool = self._start()
            inner = self._pool.submit(_advance, job, step, seconds)
        outer: Future[Report] = Future()

        def hand_over(future: Future[Report]) -> None:
            error = future.exception()
            if error is None:
                outer.set_result(future.result())
            else:
                broken = isinstance(error, BrokenProcessPool)
                reason = (str(error).splitlines() or ["killed"])[0]
                outer.set_exception(WorkerDied(reason) if broken else error)

        inner.add_done_callback(hand_over)
        return outer

    def close(self) -> None:
        """Kill the workers."""
        self._pool.shutdown(wait=False, kill_workers=True)
