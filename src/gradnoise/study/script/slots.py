"""Where the runs of a script take place: one after the other in each slot, both arms of a pair in the same one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gradnoise.errors import StudyError
from gradnoise.study.engine import Engine, Job, Keep, Measurement, SliceResult
from gradnoise.study.run.script_engine import ScriptEngine, ScriptWorker, result_of
from gradnoise.study.script.judge import Judge
from gradnoise.study.script.outcome import FAILED, Outcome
from gradnoise.study.script.process import Stopped

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time.

    Args:
        name: what messages call it.
        variables: of the environment of its runs.
        lock: name of the file that keeps another comparison on this machine out of it; "" for none.
    """

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    lock: str = ""


def slots_of(jobs: int | None, gpus: str | None) -> list[Slot]:
    """Return the slots that a command line asks for.

    Args:
        jobs: how many runs at once on the processor.
        gpus: "auto" for one slot on each GPU, or their numbers, one slot for each time that one is named.

    Raises:
        StudyError: both or an unusable one is given, or there is no GPU.
    """
    if gpus is None:
        if jobs is not None and jobs < 1:
            raise StudyError(f"--jobs {jobs}: give 1 or more")
        return [Slot(f"slot {i}") for i in range(jobs or 1)]
    if jobs is not None:
        raise StudyError("--jobs and --gpus both say how many runs take place at once; give one of them")
    names = _all_gpus() if gpus == "auto" else [name.strip() for name in gpus.split(",")]
    if not names or not all(names):
        raise StudyError(
            f"--gpus {gpus!r}: " + ("no GPU was found" if gpus == "auto" else "give auto, or numbers such as 0,1")
        )
    turns = [names[:i].count(name) for i, name in enumerate(names)]
    return [Slot(f"GPU {n}", {VISIBLE: n}, f"gradnoise-gpu-{n}-{i}.lock") for n, i in zip(names, turns, strict=True)]


def _all_gpus() -> list[str]:
    """Return the GPUs that this process may use."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))]


class Slots:
    """An executor for a script engine: threads that wait for processes.

    The first pair runs alone, whole. A slot that fails before anything ended well in it, where another slot does well,
    is retired, and its pair runs elsewhere.

    Args:
        places: the slots.
        judge: stops the study when going on makes no sense.
        say: is told of slots that are retired, in a sentence.
    """

    def __init__(self, places: Sequence[Slot], judge: Judge, say: Callable[[str], None]) -> None:
        self._places, self._judge, self._say = list(places), judge, say
        self._free: queue.Queue[Slot] = queue.Queue()
        self.slots = len(self._places) if judge.proved else 1  # pairs that may run at once now
        self._left = len(self._places)
        self._good: set[int] = set()
        self._workers: dict[int, ScriptWorker] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def start(self, engine: Engine, keep: Keep) -> None:
        """Get ready."""
        assert isinstance(engine, ScriptEngine), "slots are for scripts"
        for place in self._places:
            self._workers[id(place)] = ScriptWorker(engine, place.variables)
            self._free.put(place)
        self._pool = ThreadPoolExecutor(len(self._places), thread_name_prefix="run")

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Say that the arms of a seed go together."""
        return self._workers[id(self._places[0])].measure(job, whole)

    def advance(self, job: Job, step: int, seconds: float) -> Future[SliceResult]:
        """Run a pair in the first slot that is free."""
        assert self._pool is not None, "start comes first"
        return self._pool.submit(self._advance, job)

    def _advance(self, job: Job) -> SliceResult:
        while True:
            place = self._free.get()
            worker = self._workers[id(place)]
            try:
                with _held(place, worker.stop):
                    outcomes = worker.run(job, self._judge.attend)
                if not self._is_bad(place, outcomes):
                    self._judge.take(job, outcomes, worker)
                    self.slots = self._left
                    return result_of(job, outcomes, worker.engine.metric)
            except BaseException:
                self._free.put(place)
                raise
            self.slots = self._left
            self._say(f"{place.name} is retired: its first run failed, while others ended well elsewhere")

    def _is_bad(self, place: Slot, outcomes: Sequence[Outcome]) -> bool:
        """Tell whether the slot is to be retired; otherwise it is free again."""
        failed = any(o.status == FAILED for o in outcomes)
        if failed and self._good - {id(place)} and id(place) not in self._good and self._left > 1:
            self._left -= 1
            return True
        if not failed:
            self._good.add(id(place))
        self._free.put(place)
        return False

    def close(self, finished: bool = False) -> None:
        """Kill what runs, and wait for its end."""
        for worker in self._workers.values():
            worker.stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _held(place: Slot, stop: threading.Event) -> Iterator[None]:
    """Keep other comparisons of this machine out of a slot."""
    if not place.lock:
        yield
        return
    path = Path(tempfile.gettempdir()) / place.lock
    with contextlib.suppress(OSError):  # another user's file can be locked as well as one's own
        path.touch(mode=0o666)
    with open(path, "rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if stop.wait(1.0):
                    raise Stopped from None
        yield
