"""Slices in any pool of `concurrent.futures`: the standard library's, loky, Dask, Parsl, executorlib, MPI."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from typing import Annotated, Any

import cloudpickle

from gradnoise.errors import StudyError
from gradnoise.given import Between, arguments
from gradnoise.study.engine import Engine, Job, Keep, Measurement, SliceResult
from gradnoise.study.run.executors import WorkerDied
from gradnoise.study.run.pool_call import call_worker
from gradnoise.study.run.shipment import Shipment, opened

Pool = concurrent.futures.Executor
#: A shipment of at most so many bytes goes with every call; a larger one only to a process that asks for it.
SMALL = 1 << 16


class FuturesExecutor:
    """Slices as futures of a pool that somebody else runs.

    A future that fails or is cancelled is a lost slice, and is handed out again. Which process takes a slice
    is the pool's choice: one that has another chunk in memory reads the checkpoint of this one, so every process must
    reach the study's folder. Threads of one process take turns: give the pool processes (Dask: `threads_per_worker=1`).

    Args:
        pool: the pool, which stays open when the study ends; or a function that makes one, which is closed with the
            study and made again when it breaks, as pools of processes do when one of these is killed.
        slots: slices at once; as many as the pool has processes.

    Raises:
        StudyError: `pool` is neither, or `slots` is below 1.
    """

    @arguments(StudyError)
    def __init__(self, pool: Pool | Callable[[], Pool], slots: Annotated[int, Between(1)]) -> None:
        if not isinstance(pool, Pool) and not callable(pool):
            raise StudyError(
                "FuturesExecutor takes a concurrent.futures.Executor, or a function that makes one, not a"
                f" {type(pool).__name__}"
            )
        self.slots = slots
        self._given = pool
        self._pool: Pool | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._attempts = itertools.count()
        self._running: set[Future[Any]] = set()
        self._shipment: Shipment | None = None

    def start(self, engine: Engine, keep: Keep) -> None:
        """Pack what workers need."""
        self._shipment, self._closed = Shipment.of(engine, keep), False

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Let one process of the pool measure."""
        return self._submit("measure", job, whole).result()

    def advance(self, job: Job, step: int, seconds: float) -> Future[SliceResult]:
        """Hand a slice to the pool."""
        return self._submit("advance", job, step, seconds)

    def close(self, finished: bool = False) -> None:
        """Cancel what has not begun; what runs ends by itself after its slice, and is forgotten."""
        with self._lock:
            self._closed = True
            pool, self._pool, running = self._pool, None, list(self._running)
        for future in running:
            future.cancel()
        if pool is not None and pool is not self._given:
            pool.shutdown(wait=False)

    def _submit(self, method: str, *arguments: Any) -> Future[Any]:
        outcome: Future[Any] = Future()
        self._send(cloudpickle.dumps((method, arguments)), outcome, asked=False)
        return outcome

    def _send(self, call: bytes, outcome: Future[Any], asked: bool) -> None:
        """Submit a call whose outcome goes to a future; `asked`: a process asked for the shipment."""
        shipment = self._shipment
        assert shipment is not None, "start comes first"
        goes = shipment if asked or len(shipment.body) <= SMALL else None
        pool = self._open_pool()
        try:
            future = pool.submit(call_worker, shipment.digest, goes, call, next(self._attempts))
        except (BrokenExecutor, RuntimeError) as error:  # RuntimeError: it was shut down
            self._forget(pool)
            if pool is self._given:
                raise StudyError(
                    f"the pool takes no more work ({type(error).__name__}: {error}); give FuturesExecutor a function"
                    " that makes the pool, and it is made again. Finished trials are kept"
                ) from error
            outcome.set_exception(WorkerDied(_sentence(error)))
            return
        with self._lock:
            self._running.add(future)
        future.add_done_callback(lambda future: self._take_in(future, pool, call, outcome))

    def _take_in(self, future: Future[bytes | None], pool: Pool, call: bytes, outcome: Future[Any]) -> None:
        """Hand on what a future of the pool brought; it is called in a thread of the pool."""
        with self._lock:
            self._running.discard(future)
        try:
            error = CancelledError() if future.cancelled() else future.exception()
            if isinstance(error, BrokenExecutor):
                self._forget(pool)
            if isinstance(error, ImportError):
                raise StudyError(
                    f"the pool's processes cannot import what a slice needs ({error}); install the same gradnoise there"
                    " as here"
                )
            if error is not None:
                raise WorkerDied(_sentence(error))
            pickled = future.result()
            if pickled is None:
                self._send(call, outcome, asked=True)
            else:
                outcome.set_result(opened(pickled))
        except BaseException as error:  # whatever it is, the driver has to hear of it
            outcome.set_exception(error)

    def _open_pool(self) -> Pool:
        with self._lock:
            if self._closed:
                raise WorkerDied("the study was stopped")
            if self._pool is None:
                self._pool = self._given if isinstance(self._given, Pool) else self._given()
            return self._pool

    def _forget(self, pool: Pool) -> None:
        """Let a broken pool go, so that the next call makes another."""
        with self._lock:
            if self._pool is pool:
                self._pool = None
        if pool is not self._given:
            pool.shutdown(wait=False)


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().rstrip(":").splitlines()[0]
