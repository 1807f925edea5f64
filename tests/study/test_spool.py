"""Workers on a shared folder: a study in a spool is the same study, and only its owner's files are opened."""

import json
import os
import pickle
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.small import CHUNK, PATIENCE, Toy, assert_same, job_of, small, until

from gradnoise.commands.clusters import seconds
from gradnoise.population import PopulationError
from gradnoise.study import Observer, Options, Setting, StudyError, run_study
from gradnoise.study.run import shipment
from gradnoise.study.run.executors import WorkerDied, executor_named
from gradnoise.study.run.keep import FolderKeep
from gradnoise.study.run.population_engine import PopulationEngine
from gradnoise.study.run.spool.executor import SpoolExecutor
from gradnoise.study.run.spool.folder import ANSWERS, LEASED, WAITING, WORKERS, Spool, named, parts_of
from gradnoise.study.run.spool.lease import Lease, LeasedKeep, LeaseLost
from gradnoise.study.run.spool.worker import SpoolWorker, Until, placed

SHORT = Options(chunk=4, slice_seconds=0.0)
PARTS = (WAITING, LEASED, ANSWERS, WORKERS)
JOB = job_of(list(small().trials())[:4])


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run_study(small(), tmp_path_factory.mktemp("reference"), options=SHORT, executor="here")


class Thread(threading.Thread):
    """A worker in a thread of this process, which does nothing else meanwhile."""

    def __init__(self, folder: Path, **options) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.worker = SpoolWorker(folder, say=self.lines.append, **options)
        self.reason, self.error = "", None

    def run(self) -> None:
        try:
            self.reason = self.worker.work()
        except (StudyError, AssertionError) as error:
            self.error = error

    def left(self) -> str:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.reason


@contextmanager
def working(folder: Path, **options):
    thread = Thread(folder, **options)
    thread.start()
    try:
        yield thread
    finally:
        thread.worker.leave()
        thread.left()


@contextmanager
def laid_out(folder: Path, experiment: Toy | None = None, lease: float = PATIENCE):
    """A driver that has begun a run."""
    executor = SpoolExecutor(folder=folder, lease=lease)
    executor.start(PopulationEngine(experiment or Toy()), FolderKeep(folder / "checkpoints"))
    try:
        yield executor
    finally:
        executor.close()


def files(folder: Path) -> dict[str, list[str]]:
    return {part: Spool(folder).names(part) for part in PARTS}


def test_a_study_in_a_spool_is_the_same_study(tmp_path, reference):
    with working(tmp_path) as worker:
        assert_same(run_study(small(), tmp_path, options=SHORT, executor="spool"), reference)
        assert worker.left() == "the study is finished"
    assert files(tmp_path) == {part: [] for part in PARTS}
    assert sorted(p.name for p in (tmp_path / "spool").iterdir()) == sorted([*PARTS, "driver"])

    # a worker that comes later waits a little for another driver; one driver with nothing left to do lets it go, too
    with working(tmp_path, until=Until(idle=0.5)) as late:
        assert late.left() == "there was no driver for 0.5 s"
    assert_same(run_study(small(), tmp_path, options=SHORT, executor="spool"), reference)


class Stopped(Exception):
    pass


class Stopping(Observer):
    """Stops a run after some commits."""

    def __init__(self, commits: int) -> None:
        self.commits = commits

    def progressed(self, progress):
        self.commits -= 1
        if self.commits < 0:
            raise Stopped


def test_workers_wait_for_the_next_driver(tmp_path, reference):
    with working(tmp_path) as worker:
        for _ in range(2):
            with pytest.raises(Stopped):
                run_study(small(), tmp_path, options=SHORT, executor="spool", observer=Stopping(2))
            assert json.loads((tmp_path / "spool" / "driver").read_bytes())["state"] == "stopped"
        assert_same(run_study(small(), tmp_path, options=SHORT, executor="spool"), reference)
        assert worker.left() == "the study is finished"
    assert len(worker.lines) == 3  # it loaded the study for each driver


def test_where_the_folder_has_another_path(tmp_path, reference):
    """As on a machine that mounts it elsewhere: checkpoints lie within the folder that the worker was given."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there", target_is_directory=True)
    seen = []
    keep = FolderKeep(tmp_path / "there" / "checkpoints")
    with working(tmp_path / "here") as worker:
        with pytest.raises(Stopped):
            options = {"options": SHORT, "executor": "spool", "keep": keep, "observer": Stopping(1)}
            run_study(small(), tmp_path / "there", **options)
        seen.append(worker.worker._keep.keep.folder)
        assert_same(run_study(small(), tmp_path / "there", options=SHORT, executor="spool"), reference)
    assert seen == [tmp_path / "here" / "checkpoints"]


def test_errors_reach_the_driver(tmp_path):
    wrong = small(settings=(Setting("a", "Row a", {"lr": -1.0}),))
    with laid_out(tmp_path) as executor, working(tmp_path):
        failed = executor.advance(job_of(list(wrong.trials())[:2]), 0, 0.0)
        with pytest.raises(PopulationError, match="lr = -1") as caught:
            failed.result(PATIENCE)
    assert "In a worker process" in caught.value.__notes__[0]


def test_a_worker_leaves_in_time(tmp_path):
    with laid_out(tmp_path) as executor:
        first = executor.advance(JOB, 0, 0.0)
        with working(tmp_path) as worker:
            assert first.result(PATIENCE).step == 3
        executor.advance(JOB, 3, 0.0)
        until(lambda: len(files(tmp_path)[WAITING]) == 1)
        assert worker.worker._longest > 0
        next_one = SpoolWorker(tmp_path, until=Until(seconds=1e3))
        next_one._longest = 1e3  # it would be cut off
        assert next_one.work() == "its time is up"
        assert len(files(tmp_path)[WAITING]) == 1 and not files(tmp_path)[LEASED]


# Leases


def test_a_worker_without_a_sign_of_life_loses_its_slice(tmp_path):
    spool = Spool(tmp_path)
    with laid_out(tmp_path, lease=0.5) as executor:
        lost = executor.advance(JOB, 0, 0.0)
        until(lambda: bool(spool.names(WAITING)))
        (name,) = spool.names(WAITING)
        assert spool.take(name, "frozen") and not spool.take(name, "late")
        lease = Lease(spool, name, "frozen", outage=1.0)
        lease.check()
        with pytest.raises(WorkerDied, match="no sign of life from frozen"):
            lost.result(PATIENCE)

        # when it comes back its checkpoint and its answer are not wanted
        keep = LeasedKeep(FolderKeep(tmp_path / "checkpoints"), outage=1.0)
        keep.lease = lease
        for late in (lambda: keep.save(CHUNK, 3, {}), lambda: lease.hand_in(b""), lambda: keep.latest(CHUNK, 3)):
            with pytest.raises(LeaseLost, match="to another worker"):
                late()
        lease.give_back()
        assert not (tmp_path / "checkpoints").exists() and files(tmp_path) == {part: [] for part in PARTS}
        until(lambda: spool.driver().lost == 1)


def test_a_slice_that_is_given_back_goes_to_the_next(tmp_path):
    spool = Spool(tmp_path)
    with laid_out(tmp_path) as executor:
        slice = executor.advance(JOB, 0, 0.0)
        until(lambda: bool(spool.names(WAITING)))
        (name,) = spool.names(WAITING)
        assert spool.take(name, "first")
        Lease(spool, name, "first").give_back()
        with working(tmp_path):
            assert slice.result(PATIENCE).step == 3


def test_a_file_that_vanishes_is_a_lost_slice(tmp_path):
    spool = Spool(tmp_path)
    with laid_out(tmp_path, lease=0.5) as executor:
        lost = executor.advance(JOB, 0, 0.0)
        until(lambda: bool(spool.names(WAITING)))
        spool.remove(WAITING, *spool.names(WAITING))
        with pytest.raises(WorkerDied, match="call 0 vanished"):
            lost.result(PATIENCE)


def test_a_second_driver_takes_over(tmp_path):
    with laid_out(tmp_path) as first:
        waiting = first.advance(JOB, 0, 0.0)
        with laid_out(tmp_path) as second:
            with pytest.raises(StudyError, match="another driver has taken over"):
                waiting.result(PATIENCE)
            with pytest.raises(StudyError, match="another driver has taken over"):
                first.advance(JOB, 0, 0.0)
            first.close()
            with working(tmp_path):
                assert second.advance(JOB, 0, 0.0).result(PATIENCE).step == 3


def test_a_folder_that_is_away_for_too_long(tmp_path):
    study = tmp_path / "study"
    study.mkdir()
    executor = SpoolExecutor(folder=study, outage=0.5)
    executor.start(PopulationEngine(Toy()), FolderKeep(study / "checkpoints"))
    with working(study, until=Until(idle=0.5)) as worker:
        executor.advance(JOB, 0, 0.0).result(PATIENCE)
        study.rename(tmp_path / "away")
        with pytest.raises(StudyError, match=r"could not be used for 0.5 s"):
            executor.advance(JOB, 3, 0.0).result(PATIENCE)
        assert worker.left() == "there was no driver for 0.5 s"
    executor.close()
    assert not study.exists()  # nobody put another one in its place


# Whose files


def test_a_spool_that_others_may_write_to_is_refused(tmp_path):
    spool = Spool(tmp_path)
    spool.make()
    assert spool.root.stat().st_mode & 0o777 == 0o700
    for mode in (0o770, 0o707, 0o750):
        spool.root.chmod(mode)
        for use in (spool.make, spool.driver, lambda: SpoolWorker(tmp_path).work()):
            with pytest.raises(StudyError, match=rf"open to others \(owner \d+, mode {mode:o}\)"):
                use()
    spool.root.rename(tmp_path / "elsewhere")
    spool.root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match="is no folder"):
        spool.driver()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_a_file_of_another_user_is_never_unpickled(tmp_path):
    armed = tmp_path / "armed"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (armed,)

    spool = Spool(tmp_path)
    with laid_out(tmp_path) as executor:
        waiting = executor.advance(JOB, 0, 0.0)
        until(lambda: bool(spool.names(WAITING)))
        (name,) = spool.names(WAITING)
        strange = spool.root / ANSWERS / name
        part = strange.with_name(".part")
        part.write_bytes(pickle.dumps(Bomb()))
        os.chown(part, 65534, -1)
        part.rename(strange)
        with pytest.raises(StudyError, match="is no plain file written by user 0"):
            waiting.result(PATIENCE)
    assert not armed.exists()


def test_links_are_not_followed(tmp_path):
    spool = Spool(tmp_path)
    spool.make()
    (tmp_path / "mine").write_bytes(b"{}")
    (spool.root / "driver").symlink_to(tmp_path / "mine")
    with pytest.raises(StudyError, match="is no plain file"):
        spool.driver()
    os.mkfifo(spool.root / WAITING / "pipe")
    with pytest.raises(StudyError, match="is no plain file"):
        spool.read(WAITING, "pipe")


# Who may work


def test_a_worker_with_other_software_says_so(tmp_path, monkeypatch):
    with laid_out(tmp_path):
        there = shipment.software()
        monkeypatch.setattr(shipment, "software", lambda: there | {"torch": "2.4.0"})
        with pytest.raises(StudyError, match=r"this worker has torch 2.4.0, but the study is run with"):
            SpoolWorker(tmp_path).work()


def test_devices_of_another_kind_are_refused():
    cpu = PopulationEngine(Toy())
    assert placed(cpu, None) is cpu and placed(PopulationEngine(Toy(), "cuda"), "cuda:1").device == "cuda:1"
    with pytest.raises(StudyError, match=r"trains on cpu, not on cuda: .* start its driver with --device cuda"):
        placed(cpu, "cuda:0")
    with pytest.raises(StudyError, match="no device 'cuad'"):
        placed(cpu, "cuad")


def test_settings_of_executors_are_checked(tmp_path):
    spool = executor_named("spool", 3, tmp_path, {"lease": 5.0})
    assert isinstance(spool, SpoolExecutor) and spool.slots == 3
    with pytest.raises(StudyError, match="'spool' has no setting 'leese': it has lease, outage; did you mean 'lease'"):
        executor_named("spool", None, tmp_path, {"leese": 5.0})
    with pytest.raises(StudyError, match="'here' has no setting 'lease': it has none"):
        executor_named("here", None, tmp_path, {"lease": 5.0})
    with pytest.raises(StudyError, match="needs the study's folder"):
        executor_named("spool", None)
    with pytest.raises(StudyError, match=r"lease is 0, an int; it must be a number >= 0\.01"):
        SpoolExecutor(folder=tmp_path, lease=0)
    with pytest.raises(StudyError, match="'auto' has no setting 'lease'"):
        run_study(small(), tmp_path / "study", options=Options(settings={"lease": 5.0}))


def test_names_of_calls():
    name = named("00ff", 12, "")
    assert parts_of(name) == ("00ff", 12, "timing") and named("00ff", 9, CHUNK) < named("00ff", 10, CHUNK)
    with pytest.raises(StudyError, match="is no call; remove it"):
        parts_of("notes.txt")


def test_times():
    assert seconds("3h50m") == 13800 and seconds("90s") == 90 and seconds("1d") == 86400 and seconds("1.5h") == 5400
    for wrong in ("", "3", "h", "3h 50m", "-3h"):
        with pytest.raises(StudyError, match="is no time: write such as"):
            seconds(wrong)
