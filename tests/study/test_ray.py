"""Slices on a Ray cluster of real processes: actors and nodes die, and the study is the same."""

import os
import signal
import threading
from pathlib import Path

import pytest
from support.small import PATIENCE, Toy, assert_same, job_of, small, until

from gradnoise.population import PopulationError
from gradnoise.study import Options, Setting, StudyError, run_study
from gradnoise.study.run import on_ray
from gradnoise.study.run.executors import WorkerTaken, executor_named
from gradnoise.study.run.keep import FolderKeep
from gradnoise.study.run.on_ray import RayExecutor
from gradnoise.study.run.population_engine import PopulationEngine

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SHORT = Options(chunk=4, slice_seconds=0.0)
SOURCES = os.pathsep.join(str(Path(__file__).parents[i]) for i in (1, 2))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return run_study(small(), tmp_path_factory.mktemp("reference"), options=SHORT, executor="here")


def test_a_cluster_of_its_own(tmp_path, reference):
    assert not ray.is_initialized()
    results = run_study(small(), tmp_path, options=SHORT, executor=RayExecutor(2, address="local"))
    assert_same(results, reference)
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def cluster():
    """A head without room for actors, and two nodes with room for one each."""
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), SOURCES]))
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": soon}  # notices soon that a node is gone
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=made.address, log_to_driver=False)  # before there is another node that it could depend on
        made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


class Deadly(Toy):
    """Kills the actor that it is trained in, at its update 7, where the file `bomb` lies, and leaves its process id."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.driver = folder, os.getpid()

    def batch(self, seed, t, config):
        if os.getpid() != self.driver:
            (self.folder / f"pid-{os.getpid()}").touch()
            bomb = self.folder / "bomb"
            if t == 7 and bomb.exists():
                bomb.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(seed, t, config)


def test_an_actor_that_is_killed_is_replaced(tmp_path, cluster, reference):
    (tmp_path / "bomb").touch()
    executor = RayExecutor()
    results = run_study(small(Deadly(tmp_path)), tmp_path / "study", options=SHORT, executor=executor)
    assert_same(results, reference)
    assert executor.slots == 2 and not (tmp_path / "bomb").exists()
    assert len(list(tmp_path.glob("pid-*"))) == 3  # long-lived: two actors, and the one that took a dead one's place
    assert ray.is_initialized()  # the caller's connection stays


class Waiting(Toy):
    """Waits at its update 7, in an actor, until the file `go` lies in the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.driver = folder, os.getpid()

    def batch(self, seed, t, config):
        if t == 7 and os.getpid() != self.driver:
            (self.folder / f"there-{ray.get_runtime_context().get_node_id()}").touch()
            until(lambda: (self.folder / "go").exists())
        return super().batch(seed, t, config)


def test_a_node_that_dies(tmp_path, cluster, reference):
    def harm() -> None:
        until(lambda: bool(list(tmp_path.glob("there-*"))))
        (there,) = tmp_path.glob("there-*")
        (node,) = (n for n in cluster.nodes if n.node_id == there.name.partition("-")[2])
        node.kill_raylet(check_alive=False)  # what runs on a node ends with its raylet
        (tmp_path / "go").touch()

    thread = threading.Thread(target=harm, daemon=True)
    thread.start()
    results = run_study(small(Waiting(tmp_path)), tmp_path / "study", options=SHORT, executor=RayExecutor(1))
    thread.join(PATIENCE)
    assert (tmp_path / "go").exists()
    assert_same(results, reference)
    # Until the cluster has missed its heartbeats it would send the next actor there.
    until(lambda: sum(node["Alive"] for node in ray.nodes()) == len(cluster.nodes))


def test_what_says_nothing_against_a_slice():
    class Preempted(Exception):
        preempted = True

    def died(why: str) -> Exception:
        return ray.exceptions.RayActorError(error_msg=f"The actor died unexpectedly.\n\tpid: 1\n{why}")

    for error in (Preempted("gone"), died("The actor died because its node has died. Node Id: 1")):
        assert isinstance(on_ray._death(error), WorkerTaken)
    death = on_ray._death(died("Worker was killed by the memory monitor"))
    assert not isinstance(death, WorkerTaken) and "pid: 1; Worker was killed by the memory monitor" in str(death)


def test_errors_reach_the_driver(tmp_path, cluster):
    executor = RayExecutor(1, env={"GRADNOISE_TEST": "1"})
    executor.start(PopulationEngine(Toy()), FolderKeep(tmp_path))
    try:
        wrong = job_of(list(small(settings=(Setting("a", "Row a", {"lr": -1.0}),)).trials())[:2])
        with pytest.raises(PopulationError, match="lr = -1"):
            executor.advance(wrong, 0, 0.0).result(PATIENCE)
        assert executor.advance(job_of(list(small().trials())[:4]), 0, 0.0).result(PATIENCE).step == 3
    finally:
        executor.close()


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    assert isinstance(executor_named("ray", 2, None, {"address": "local"}), RayExecutor)
    with pytest.raises(StudyError, match=r"has no setting 'adress': it has address, .*; did you mean 'address'"):
        executor_named("ray", 2, None, {"adress": "local"})
    with pytest.raises(StudyError, match="num_gpus is -1, an int; it must be a number >= 0"):
        RayExecutor(num_gpus=-1)
    with pytest.raises(StudyError, match=r"trains on cuda, and Ray hides GPUs .*; give --num-gpus"):
        RayExecutor(address="local").start(PopulationEngine(Toy(), "cuda"), FolderKeep(tmp_path))
    monkeypatch.setattr(on_ray.importlib, "import_module", lambda name: __import__("no_such_module"))
    with pytest.raises(StudyError, match=r"needs Ray; install it with pip install 'gradnoise\[ray\]'"):
        RayExecutor()


def test_no_cluster_is_joined_or_started_in_silence(tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(StudyError, match=r"joins no cluster by itself; give --address: auto .* or local"):
        RayExecutor().start(PopulationEngine(Toy()), FolderKeep(tmp_path))
    monkeypatch.undo()
