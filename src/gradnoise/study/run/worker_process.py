"""What runs in a worker process: load a worker, then answer one call after another until the driver is gone."""

from __future__ import annotations

import os
import pickle
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from gradnoise.study.engine import Worker


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
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            if worker is None:
                engine, keep = pickle.loads(message)
                worker, value = engine.worker(keep), None
            else:
                method, arguments = pickle.loads(message)
                value = getattr(worker, method)(*arguments)
            answer = cloudpickle.dumps((True, value))
        except Exception as error:
            answer = _pickled(error)
        connection.send_bytes(answer)


def _end_with(driver: int) -> None:
    """End this process soon after the driver: a driver that is killed takes no leave of its workers."""
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)


def _pickled(error: Exception) -> bytes:
    """Return an error as the driver can read it, with the place where it was raised."""
    error.add_note(f"In a worker process:\n{traceback.format_exc()}")
    try:
        answer = cloudpickle.dumps((False, error))
        pickle.loads(answer)  # some errors can be written and not read
        return answer
    except Exception:
        plain: tuple[bool, Any] = (False, RuntimeError(f"{type(error).__name__}: {error}"))
        return cloudpickle.dumps(plain)
