"""What runs in a worker process: load a worker, then answer one call after another until the driver is gone."""

from __future__ import annotations

import os
import pickle
import threading
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from gradnoise.study.engine import Worker
from gradnoise.study.run.shipment import answer


def main(channel: int, driver: int) -> None:
    """Serve calls from a driver.

    The first message is the pickled (engine, keep); every other one is (method of the worker, arguments). Each is
    answered with (whether it worked, what it returned or raised).

    Args:
        channel: file descriptor of a connection with the driver.
        driver: process id of the driver.
    """
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()
    connection = Connection(channel)
    worker: Worker | None = None

    def take(message: bytes) -> Any:
        nonlocal worker
        if worker is None:
            engine, keep = pickle.loads(message)
            worker = engine.worker(keep)
            return None
        method, arguments = pickle.loads(message)
        return getattr(worker, method)(*arguments)

    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(answer(partial(take, message)))


def _end_with(driver: int) -> None:
    """End this process soon after the driver: a driver that is killed takes no leave of its workers."""
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)
