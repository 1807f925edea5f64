"""Everything that has to be tried on a CUDA device, in one command of under six minutes; the figures become one JSON.

    make gpu                                  # or, with any Python that has torch, numba and triton:
    python benchmarks/gpu.py --json results/gpu/NAME.json

Tests marked gpu, `benchmarks/noise.py --device cuda`, and populations of every system at P = 64, 300 and 1,000
(language models up to 300 and Neural GPUs up to 64, as memory allows). It runs from a checkout, without an
installation. A part that fails or runs out of time is written down, and the next goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

ROOT = Path(__file__).resolve().parents[1]
SYSTEMS = ("deep-mlp", "memn2n", "nram", "lstm-lm", "neural-programmer", "neural-gpu")
#: More of these do not fit into 80 GB.
MOST = {"lstm-lm": 300, "neural-gpu": 64}
SIZES = (64, 300, 1000)
#: Without these a part is left out; what only reports and the command line need is replaced by nothing where missing.
NEEDED = ("torch", "numpy", "numba", "triton")
FOR_TESTS = ("pytest", "hypothesis")
FOR_REPORTS = ("scipy", "matplotlib", "jinja2", "rich", "tyro", "cloudpickle")
#: Seconds for the tests, the noise benchmark, and all in all.
TESTS, NOISE, LIMIT = 110, 80, 330


def missing(names: tuple[str, ...]) -> list[str]:
    """List the packages that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def machine(device: str) -> dict[str, Any]:
    """Describe the machine and the versions."""
    import numpy
    import torch

    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "numpy": numpy.__version__,
        "cores": os.cpu_count(),
    }
    for name in ("numba", "triton"):
        if not missing((name,)):
            found[name] = importlib.import_module(name).__version__
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / 2**30, 1)}
    return found


def command(*arguments: str, seconds: float) -> dict[str, Any]:
    """Run a command of this Python in the checkout; return exit code, seconds and the end of what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "benchmarks")])}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        output += f"\nstopped after {seconds:.0f} s"
    print(output[-6000:], flush=True)
    return {"exit": process.returncode, "seconds": time.monotonic() - started, "output": output[-20_000:].splitlines()}


def populations(device: str, sizes: tuple[int, ...], deadline: float) -> list[dict[str, Any]]:
    """Time populations of every system, the smaller ones first, until the time is up."""
    for name in missing(FOR_REPORTS):
        print(f"{name} is not installed; only reports need it")
        stand_in(name)
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]
    from populations import measure

    found: list[dict[str, Any]] = []
    for size in sizes:
        for system in SYSTEMS:
            if size > MOST.get(system, size):
                continue
            row: dict[str, Any] = {"system": system, "replicas": size, "device": device}
            if time.monotonic() > deadline:
                found.append(row | {"error": "no time was left"})
                continue
            try:
                found += measure(system, size, device, rounds=1, steps=10)
            except Exception as error:  # written down, so that the others are still measured
                found.append(row | {"error": f"{type(error).__name__}: {error}"[:2000]})
            print(json.dumps(found[-1]), flush=True)
    return found


def stand_in(name: str) -> None:
    """Put a module that does nothing in the place of one that is missing."""

    class Finder:
        @staticmethod
        def find_spec(full: str, path: Any = None, target: Any = None) -> Any:
            if full.split(".")[0] == name:
                return importlib.util.spec_from_loader(full, Loader(), is_package=True)
            return None

    class Loader:
        @staticmethod
        def create_module(spec: Any) -> Any:
            module = MagicMock(name=spec.name)
            module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
            return module

        @staticmethod
        def exec_module(module: Any) -> None:
            """Leave it as it is."""

    sys.meta_path.append(Finder())  # type: ignore[arg-type]


def main() -> int:
    """Try everything and write the JSON; return 0 when nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "gpu" / "latest.json")
    parser.add_argument("--device", default="cuda", help="cpu tries the script itself")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of replicas P")
    options = parser.parse_args()
    deadline = time.monotonic() + LIMIT
    needed = NEEDED if options.device.startswith("cuda") else tuple(n for n in NEEDED if n != "triton")
    if lacking := missing(needed):
        print(f"not installed here: {', '.join(lacking)}; install them and run this again", file=sys.stderr)
        return 1
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("this PyTorch sees no CUDA device; run it on a machine that has one", file=sys.stderr)
        return 1
    found: dict[str, Any] = {"machine": machine(options.device)}
    if lacking := missing(FOR_TESTS):
        found["tests"] = {"exit": None, "output": [f"left out: {', '.join(lacking)} not installed"]}
        print(found["tests"]["output"][0])
    else:
        tests = (
            "-m",
            "pytest",
            "-m",
            "gpu",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:benchmark",
            "tests/noise",
            "tests/population",
        )
        found["tests"] = command(*tests, seconds=TESTS)
    found["noise"] = command("benchmarks/noise.py", "--device", options.device, seconds=NOISE)
    found["populations"] = populations(options.device, tuple(options.sizes), deadline)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"figures: {options.json}")
    failed = any(found[part]["exit"] for part in ("tests", "noise")) or any("error" in r for r in found["populations"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
