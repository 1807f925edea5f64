"""Worker processes on this machine: a chunk stays in the process that has its population in memory."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import Pipe
from typing import Annotated, Any

import cloudpickle

from gradnoise.errors import StudyError
from gradnoise.given import Between, arguments
from gradnoise.study.engine import Engine, Keep
from gradnoise.study.run.executors import Placed, WorkerDied

#: A process that cannot take its first call by then is ended: importing torch over a network takes a while.
START_SECONDS = 300.0
START_TRIES = 3
#: Seconds between two looks at a process that is silent.
ATTENTION = 1.0
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


class Processes(Placed["_Place"]):
    """Several worker processes, each with one thread: on a CPU small matrices share threads badly.

    Args:
        workers: number of processes; None for as many as pay on this machine.
        start_seconds: a process that has not begun after this time is ended and started anew.
    """

    @arguments(StudyError)
    def __init__(
        self,
        workers: Annotated[int | None, Between(1)] = None,
        *,
        start_seconds: Annotated[float, Between(0)] = START_SECONDS,
    ) -> None:
        self.slots = workers or 0
        self._start_seconds = start_seconds
        self._places = []

    def start(self, engine: Engine, keep: Keep) -> None:
        """Get ready; each process begins when its first work comes."""
        self.slots = self.slots or engine.local_workers()
        pickled = cloudpickle.dumps((engine, keep))  # may hold lambdas and classes of the calling script
        self._places = [_Place(pickled, self._start_seconds) for _ in range(self.slots)]

    def close(self, finished: bool = False) -> None:
        """Kill the processes."""
        for place in self._places:
            place.close()


class _Place:
    """One worker process, started anew when it dies, and the thread of the driver that waits for it."""

    def __init__(self, pickled: bytes, start_seconds: float) -> None:
        self._pickled, self._start_seconds = pickled, start_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gradnoise-worker")
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._last: Future[Any] | None = None
        self._closed = False
        #: The chunk that its process trained last.
        self.chunk: str | None = None

    @property
    def free(self) -> bool:
        """Whether it has nothing to do."""
        return self._last is None or self._last.done()

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of the worker; the future raises WorkerDied when its process ends before it returns."""
        self._last = self._thread.submit(self._call, method, arguments)
        return self._last

    def _call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        process = self._process or self._started()
        try:
            return process.call(cloudpickle.dumps((method, arguments)))
        except WorkerDied:
            self._end()
            raise

    def _started(self) -> _Process:
        """Start the process and let it load what it is to train."""
        reason = ""
        for _ in range(START_TRIES):
            process = self._new()
            limit = threading.Timer(self._start_seconds, process.kill_as, ["not ready in time"])
            limit.start()
            try:
                process.call(self._pickled)
                return process
            except WorkerDied as death:
                reason = str(death)
                self._end()
            except Exception as error:
                self._end()
                raise StudyError(
                    f"a worker process cannot load what it is to train ({type(error).__name__}: {error});"
                    " train in this process with --workers 1"
                ) from error
            finally:
                limit.cancel()
        raise StudyError(
            f"a worker process could not be started, {START_TRIES} times in a row ({reason}); if memory ran out, try"
            " fewer --workers, otherwise train in this process with --workers 1. Finished trials are kept"
        )

    def _new(self) -> _Process:
        with self._lock:
            if self._closed:
                raise WorkerDied("the study was stopped")
            self._process = _Process()
            return self._process

    def _end(self) -> None:
        """Kill the process if it still runs."""
        with self._lock:
            process, self._process, self.chunk = self._process, None, None
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Kill the process for good."""
        self._closed = True
        self._end()
        self._thread.shutdown(wait=True, cancel_futures=True)


class _Process:
    """A process that runs `worker_process.main`, and the connection to it."""

    def __init__(self) -> None:
        self._why = ""
        self._connection, theirs = Pipe()
        with theirs:
            channel = theirs.fileno()
            code = (
                "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # Ctrl-C is for the driver
                f"sys.path[:] = {sys.path!r}\n"
                "from gradnoise.study.run.worker_process import main\n"
                f"main({channel}, {os.getpid()})"
            )
            self._popen = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=(channel,), env={**os.environ, **ONE_THREAD}
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def call(self, message: bytes) -> Any:
        """Send a message and wait for the answer.

        Raises:
            WorkerDied: the process ended before it answered.
            Exception: what the worker raised.
        """
        try:
            self._connection.send_bytes(message)
            while not self._connection.poll(ATTENTION):
                if self._popen.poll() is not None:  # a process that it started may keep the connection open
                    raise EOFError
            worked, value = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise WorkerDied(self._how_it_ended()) from error
        if not worked:
            raise value
        return value

    def _how_it_ended(self) -> str:
        self.kill()
        code = self._popen.wait()
        return self._why or (f"killed by signal {-code}" if code < 0 else f"exit code {code}")

    def kill_as(self, why: str) -> None:
        """End the process for a reason that `call` then tells."""
        self._why = why
        self.kill()

    def kill(self) -> None:
        """End the process at once, if it still runs, and wait for its end."""
        self._popen.kill()
        self._popen.wait()
