"""Slices on a Ray cluster: one actor for each slot, which lives as long as the study and keeps its chunk in memory."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any

import cloudpickle

from gradnoise.errors import StudyError
from gradnoise.given import Between, arguments
from gradnoise.study.engine import Engine, Keep
from gradnoise.study.run.executors import Placed, WorkerDied, WorkerTaken
from gradnoise.study.run.ray_actor import Trainer
from gradnoise.study.run.shipment import Shipment, opened

#: The address that starts a cluster on this machine.
LOCAL = "local"


class RayExecutor(Placed["_Place"]):
    """Slices in actors of a Ray cluster; every node must reach the study's folder.

    Ray restarts nothing and repeats nothing: an actor that dies is a lost slice, which the study hands out again, and a
    new actor takes its place. One that died because its node was preempted or shut down counts as no failure. The
    experiment is shipped once; answers are small and come by value.

    Args:
        workers: actors; None for as many as the cluster has room for now.
        address: of the cluster: "auto" for the one that this machine belongs to, HOST:PORT, or "local" to start one on
            this machine, which ends with the study. None where the caller has called `ray.init`.
        num_cpus: processor cores of an actor.
        num_gpus: GPUs of an actor; a fraction lets several share one.
        accelerator_type: kind of GPU, as Ray names it.
        env: environment variables of actors.

    Raises:
        StudyError: Ray is not installed, or a number is out of range.
    """

    @arguments(StudyError)
    def __init__(
        self,
        workers: Annotated[int | None, Between(1)] = None,
        *,
        address: str | None = None,
        num_cpus: Annotated[float, Between(0)] = 1,
        num_gpus: Annotated[float, Between(0)] = 0,
        accelerator_type: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise StudyError("executor 'ray' needs Ray; install it with pip install 'gradnoise[ray]'") from error
        self.slots = workers or 0
        self._address, self._num_cpus, self._num_gpus = address, num_cpus, num_gpus
        self._options: dict[str, Any] = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "accelerator_type": accelerator_type,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if env:
            self._options["runtime_env"] = {"env_vars": dict(env)}
        self._connected = False
        self._places = []

    def start(self, engine: Engine, keep: Keep) -> None:
        """Join the cluster and ask for the actors; each begins as soon as there is room for it."""
        if not self._num_gpus and not getattr(engine, "on_cpu", True):
            raise StudyError(
                f"the study trains on {getattr(engine, 'device', 'an accelerator')}, and Ray hides GPUs that an actor"
                " does not ask for; give --num-gpus"
            )
        self._connect()
        self.slots = self.slots or self._room()
        shipment = self._ray.put(Shipment.of(engine, keep))
        actor = self._ray.remote(**self._options)(Trainer)
        self._places = [_Place(self._ray, actor, shipment) for _ in range(self.slots)]

    def _connect(self) -> None:
        if self._address is None:
            if not self._ray.is_initialized():
                raise StudyError(
                    "executor 'ray' joins no cluster by itself; give --address: auto for the cluster that this machine"
                    " belongs to, HOST:PORT, or local to start one here"
                )
            return
        quiet = {"log_to_driver": False, "logging_level": "WARNING"}
        if self._address == LOCAL:
            quiet |= {"include_dashboard": False} | ({"num_cpus": self.slots} if self.slots else {})
        try:
            self._ray.init(address=self._address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise StudyError(f"no Ray cluster at --address {self._address}: {reason}") from error
        self._connected = True

    def _room(self) -> int:
        """Return how many actors the cluster has room for, at least one."""
        there = self._ray.cluster_resources()
        asked = {"CPU": self._num_cpus, "GPU": self._num_gpus}
        return max(1, min((int(there.get(name, 0) / n) for name, n in asked.items() if n), default=1))

    def close(self, finished: bool = False) -> None:
        """Kill the actors; leave the cluster, and end it if it was started here."""
        for place in self._places:
            place.kill()
        self._places = []
        if self._connected:
            self._connected = False
            self._ray.shutdown()


@dataclass
class _Place:
    """A slot and its actor, made anew when it dies."""

    ray: Any
    kind: Any
    shipment: Any
    chunk: str | None = None
    _actor: Any = None
    _broken: bool = False
    _last: Future[Any] | None = None

    @property
    def free(self) -> bool:
        """Whether it has nothing to do."""
        return self._last is None or self._last.done()

    def submit(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method of the worker; the future raises WorkerDied when its actor ends before it returns."""
        if self._broken:
            self.kill()
        if self._actor is None:
            self._actor = self.kind.remote(self.shipment)
        outcome: Future[Any] = Future()
        self._last = outcome
        call = self._actor.call.remote(cloudpickle.dumps((method, arguments)))
        call.future().add_done_callback(lambda answer: self._take_in(answer, outcome))
        return outcome

    def _take_in(self, answer: Future[bytes], outcome: Future[Any]) -> None:
        """Hand on what an actor brought; called in a thread of Ray."""
        try:
            error = answer.exception()
            if isinstance(error, self.ray.exceptions.RayError):
                self._broken, self.chunk = True, None  # killed at the next call: here `ray.kill` would wait for itself
                raise _death(error) from error
            outcome.set_result(opened(answer.result()))
        except BaseException as error:  # whatever it is, the driver has to hear of it
            outcome.set_exception(error)

    def kill(self) -> None:
        """Let the actor go, if there is one."""
        actor, self._actor, self._broken = self._actor, None, False
        if actor is not None:
            self.ray.kill(actor)


def _death(error: Any) -> WorkerDied:
    """Return why a slice was lost: a node that is gone says nothing against the slice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    sentence = f"{type(error).__name__}: {'; '.join(lines)[:300]}"
    taken = getattr(error, "preempted", False) or "node has died" in str(error)
    return WorkerTaken(sentence) if taken else WorkerDied(sentence)
