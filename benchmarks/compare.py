"""What the hook of `gradnoise compare` costs a script: at the start of Python, at torch's import, at the first update.

    python benchmarks/compare.py

Times are of the processor, in ms, medians of many runs with and without the hook in turn: other work on the machine
makes them no longer.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile

from gradnoise.study.script.command import HOOK

#: What is run -> Python code. The model of the last two has 11 million parameters in 62 tensors, as a ResNet-18 has.
STEPS = """
import torch
torch.set_num_threads(1)
parameters = [torch.nn.Parameter(torch.randn(421, 421)) for _ in range(62)]
optimizer = torch.optim.SGD(parameters, lr=0.1)
for _ in range({updates}):
    for p in parameters:
        p.grad = p.detach().clone()
    optimizer.step()
"""
CASES = {
    "python": "pass",
    "python that imports torch": "import torch",
    "first update of 11 million parameters": STEPS.format(updates=1),
    "21 updates of 11 million parameters": STEPS.format(updates=21),
}


def milliseconds(code: str, environment: dict[str, str]) -> float:
    """Return the processor's time for a Python that runs some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("GRADNOISE_")}
        paths = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
        hooked = {**plain, "PYTHONPATH": paths, "GRADNOISE_RECORDS": folder}
        print(f"{'ms of the processor':40} {'without':>9} {'with hook':>9} {'hook':>7}")
        for name, code in CASES.items():
            times = [(milliseconds(code, plain), milliseconds(code, hooked)) for _ in range(turns)]
            without, with_hook = (statistics.median(column) for column in zip(*times, strict=True))
            costs = statistics.median(b - a for a, b in times)
            print(f"{name:40} {without:9.1f} {with_hook:9.1f} {costs:7.1f}", flush=True)


if __name__ == "__main__":
    main()
