"""What runs in an actor of Ray."""

from __future__ import annotations

import pickle
from typing import Any

from gradnoise.study.engine import Worker
from gradnoise.study.run.shipment import Shipment, answer


class Trainer:
    """A worker of a study, made when its first call comes: an error in that is an answer, not a dead actor.

    Args:
        shipment: what it is made of.
    """

    def __init__(self, shipment: Shipment) -> None:
        self._shipment: Shipment | None = shipment
        self._worker: Worker | None = None

    def call(self, call: bytes) -> bytes:
        """Call a method of the worker.

        Args:
            call: pickled (method, arguments).

        Returns:
            The answer, see `opened`.
        """
        return answer(lambda: self._call(call))

    def _call(self, call: bytes) -> Any:
        if self._worker is None:
            assert self._shipment is not None, "it is kept until there is a worker"
            engine, keep = self._shipment.open()
            self._worker, self._shipment = engine.worker(keep), None
        method, arguments = pickle.loads(call)
        return getattr(self._worker, method)(*arguments)
