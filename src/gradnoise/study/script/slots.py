"""Where the runs of a script take place: one after the other in each slot, both arms of a pair in the same one."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gradnoise.errors import StudyError, nearest
from gradnoise.study.engine import Engine, Job, Keep, Measurement, SliceResult
from gradnoise.study.run.script_engine import ScriptEngine, ScriptWorker
from gradnoise.study.script.judge import Judge
from gradnoise.study.script.outcome import FAILED
from gradnoise.study.script.process import Stopped
from gradnoise.study.script.telling import result_of

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


def slots_of(jobs: int | None, gpus: str | None, say: Callable[[str], None] = lambda sentence: None) -> list[Slot]:
    """Return the slots that a command line asks for.

    Args:
        jobs: how many runs at once on the processor.
        gpus: "auto" for one slot on each GPU, or their numbers, one slot for each time that one is named.
        say: is told of GPUs of which nobody knows whether they are there, in a sentence.

    Raises:
        StudyError: both or an unusable one is given, or there is no GPU.
    """
    if gpus is None:
        if jobs is not None and jobs < 1:
            raise StudyError(f"--jobs {jobs}: give 1 or more")
        return [Slot(f"slot {i}") for i in range(jobs or 1)]
    if jobs is not None:
        raise StudyError("--jobs and --gpus both say how many runs take place at once; give one of them")
    there = _all_gpus()
    names = there if gpus == "auto" else [name.strip() for name in gpus.split(",")]
    if not names or not all(names):
        raise StudyError(
            f"--gpus {gpus!r}: " + ("no GPU was found" if gpus == "auto" else "give auto, or numbers such as 0,1")
        )
    if there is None:
        say(f"nvidia-smi does not answer, so that nobody knows whether GPU {', '.join(names)} can be used")
    elif wrong := [name for name in names if name not in there and name.isdigit()]:  # others are UUIDs
        few = f"those that this process may use are {', '.join(there)}" if there else "this process may use none"
        raise StudyError(f"--gpus {gpus}: there is no GPU {wrong[0]}; {few}{nearest(wrong[0], there)}")
    turns = [names[:i].count(name) for i, name in enumerate(names)]
    return [Slot(f"GPU {n}", {VISIBLE: n}, f"gradnoise-gpu-{n}-{i}.lock") for n, i in zip(names, turns, strict=True)]


def _all_gpus() -> list[str] | None:
    """Return the GPUs that this process may use; None where nobody tells."""
    if VISIBLE in os.environ:
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return list(itertools.takewhile(lambda name: name and name != "-1", names))  # as CUDA reads it
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [str(i) for i, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))]


class Slots:
    """An executor for a script engine: threads that wait for processes.

    The first pair runs alone, whole. A slot that fails before anything ended well in it, where another slot does well,
    is retired, and its pair runs elsewhere, both arms; should it fail there in the same way, the slot was not at fault.

    Args:
        places: the slots.
        judge: stops the study when going on makes no sense.
        say: is told of slots that are retired or waited for, in a sentence.
    """

    def __init__(self, places: Sequence[Slot], judge: Judge, say: Callable[[str], None]) -> None:
        self._places, self._judge, self._say = list(places), judge, say
        self._free: queue.Queue[Slot] = queue.Queue()
        self.slots = len(self._places) if judge.proved else 1  # pairs that may run at once now
        self._left = len(self._places)
        self._lock = threading.Lock()
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
        suspects: list[tuple[Slot, set[str]]] = []  # slots that the pair failed in, and how
        while True:
            place = self._free.get()
            worker = self._workers[id(place)]
            try:
                with _held(place, worker.stop, self._say):
                    outcomes = worker.run(job, self._judge.attend)
                how = {o.signature for o in outcomes if o.status == FAILED}
                if how and self._retire(place):
                    suspects.append((place, how))
                    continue
                if not how:
                    self._good.add(id(place))
                self._take_back([slot for slot, failed in suspects if failed & how])
                self._judge.take(job, outcomes, worker)
            except BaseException:
                self._free.put(place)
                raise
            self._free.put(place)
            self.slots = self._left
            baseline = self._judge.ended(worker.engine.arms[0], job.trials[0].seed)
            return result_of(job, outcomes, worker.engine, baseline, self._judge.notes(job))

    def _retire(self, place: Slot) -> bool:
        """Take a slot out of use in which the first run failed, where another one does well; tells whether it did."""
        with self._lock:
            if id(place) in self._good or not self._good or self._left < 2:
                return False
            self._left -= 1
        self.slots = self._left
        self._say(f"{place.name} is retired: its first run failed, while others ended well elsewhere")
        return True

    def _take_back(self, places: Sequence[Slot]) -> None:
        """Use slots again in which a run failed that fails everywhere."""
        for place in places:
            with self._lock:
                self._left += 1
            self._say(f"{place.name} is used again: the run that failed there failed elsewhere, too")
            self._free.put(place)

    def close(self, finished: bool = False) -> None:
        """Kill what runs, and wait for its end."""
        for worker in self._workers.values():
            worker.stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _held(place: Slot, stop: threading.Event, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other comparisons of this machine out of a slot; waits, and says so, while one is in it."""
    if not place.lock:
        yield
        return
    path = Path(tempfile.gettempdir()) / place.lock
    with contextlib.suppress(OSError):  # another user's file can be locked as well as one's own
        path.touch(mode=0o666)
    with open(path, "rb") as file:
        waits = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not waits:
                    say(f"{place.name} is in use by another comparison on this machine, and is waited for")
                waits = True
                if stop.wait(1.0):
                    raise Stopped from None
        yield
