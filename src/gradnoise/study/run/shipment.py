"""What trains, packed once for workers elsewhere, and how their answers come back.

A worker elsewhere has software of its own. Other versions of it give other last bits, so a shipment tells what packed
it, and is opened by the same versions only.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle

from gradnoise.errors import StudyError
from gradnoise.study.engine import Engine, Keep
from gradnoise.study.provenance import versions


@dataclass(frozen=True)
class Shipment:
    """An engine and a keep as bytes.

    Args:
        digest: SHA-256 of `body`.
        software: package -> version where it was packed; what is after a "+" (the build of torch) may differ.
        paths: folders from which it imported; a worker that lacks one of them adds it.
        body: pickled (engine, keep); classes and functions of the calling script are in it.
    """

    digest: str
    software: Mapping[str, str]
    paths: tuple[str, ...]
    body: bytes

    @classmethod
    def of(cls, engine: Engine, keep: Keep) -> Shipment:
        """Pack an engine and a keep."""
        body = cloudpickle.dumps((engine, keep))
        paths = tuple(os.path.abspath(path) for path in sys.path)
        return cls(hashlib.sha256(body).hexdigest(), software(), paths, body)

    def open(self) -> tuple[Engine, Keep]:
        """Return what was packed.

        Raises:
            StudyError: the software here is another, or what was packed cannot be loaded here.
        """
        here = software()
        for name, there in self.software.items():
            if here.get(name, "not installed") != there:
                raise StudyError(
                    f"this worker has {name} {here.get(name, 'not installed')}, but the study is run with {there}: the"
                    " numbers could differ; install the same version here"
                )
        sys.path += [path for path in self.paths if path not in sys.path and os.path.isdir(path)]
        try:
            return pickle.loads(self.body)
        except Exception as error:
            raise StudyError(
                f"this worker cannot load what it is to train ({type(error).__name__}: {error}); see to it that the"
                " modules of the study can be imported here"
            ) from error


def software() -> dict[str, str]:
    """Return the versions here of what decides a result or how it is pickled."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python} | {name: version.partition("+")[0] for name, version in versions()}


def answer(call: Callable[[], Any]) -> bytes:
    """Return, pickled, whether a call worked and what it returned or raised; see `opened`."""
    try:
        return cloudpickle.dumps((True, call()))
    except Exception as error:
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
        try:
            raised = cloudpickle.dumps((False, error))
            pickle.loads(raised)  # some errors can be written and not read
            return raised
        except Exception:
            plain: tuple[bool, Any] = (False, RuntimeError(f"{type(error).__name__}: {error}"))
            return cloudpickle.dumps(plain)


def opened(pickled: bytes) -> Any:
    """Return what a call returned.

    Args:
        pickled: of `answer`.

    Raises:
        Exception: what the call raised.
    """
    worked, value = pickle.loads(pickled)
    if not worked:
        raise value
    return value
