"""What this installation can do: for bug reports and for "why is it slow"."""

from __future__ import annotations

import os
import platform

import torch

from gradnoise.data import DataError, load_images
from gradnoise.noise.gaussian import backend
from gradnoise.study.provenance import processor, versions


def findings() -> list[tuple[str, str]]:
    """Find out what is here, as lines (name, value)."""
    lines = [("python", platform.python_version()), *versions()]
    lines += [("processor", processor()), ("torch threads", str(torch.get_num_threads()))]
    lines += [("cores for us", str(_cores()))]
    if torch.cuda.is_available():
        lines += [(f"cuda:{i}", torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]
    else:
        lines += [("cuda", "none seen by this PyTorch")]
    lines += [("noise backend", backend()), ("GRADNOISE_DATA", os.environ.get("GRADNOISE_DATA", "not set"))]
    try:
        data = load_images("auto", download=False)
        lines += [("images", data.title)]
    except DataError as error:
        lines += [("images", f"problem: {error}")]
    return lines


def _cores() -> int:
    """Count the cores that this process may use, which a container or a batch system may limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
