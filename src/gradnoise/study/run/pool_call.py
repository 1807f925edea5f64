"""What a foreign pool runs: one call of a worker that stays in the pool's process between calls."""

from __future__ import annotations

import pickle
import threading

from gradnoise.study.engine import Worker
from gradnoise.study.run.shipment import Shipment, answer

#: Threads of one process take turns: a population seeds the process's own generators while it is made.
_turn = threading.Lock()
#: Digest of what this process trains, and its worker; another study takes its place.
_at_hand: tuple[str, Worker] | None = None


def call_worker(digest: str, shipment: Shipment | None, call: bytes, attempt: int) -> bytes | None:
    """Call a method of this process's worker.

    Args:
        digest: of the shipment.
        shipment: what to make a worker of, if there is none here; None to leave it out where it is large.
        call: pickled (method, arguments).
        attempt: another number for each call, since some pools answer an equal call from memory.

    Returns:
        The answer, see `opened`; None when the shipment is needed and was left out.
    """
    del attempt
    with _turn:
        if shipment is None and (_at_hand is None or _at_hand[0] != digest):
            return None
        return answer(lambda: _call(digest, shipment, call))


def _call(digest: str, shipment: Shipment | None, call: bytes) -> object:
    global _at_hand
    if _at_hand is None or _at_hand[0] != digest:
        assert shipment is not None, "it was asked for"
        engine, keep = shipment.open()
        _at_hand = digest, engine.worker(keep)
    method, arguments = pickle.loads(call)
    return getattr(_at_hand[1], method)(*arguments)
