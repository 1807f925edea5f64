"""Comparisons of small scripts: they import nothing heavy, and may pretend that an optimizer was seen."""

import json
import re
import sys
from pathlib import Path

from gradnoise.study import Store, StudyResults
from support.commandline import gradnoise

#: What every script begins with: its seed and arm, and ways to tell of updates and metrics.
PREAMBLE = """
import json, os, signal, sys, time
seed, arm, records = int(sys.argv[1]), os.environ["GRADNOISE_ARM"], os.environ["GRADNOISE_RECORDS"]

def begin(weights, gradient="g", norm=1.0):
    record = {"optimizer": 0, "kind": "SGD", "weights": str(weights), "shapes": "s", "gradient": str(gradient),
              "norm": norm, "samples": [norm], "elements": 4}
    noise = os.environ.get("GRADNOISE_NOISE")
    if noise:
        record |= {"sigma": 0.1, "schedule": "Annealed(eta=0.01, gamma=0.55)", "seed": seed}
    with open(os.path.join(records, "begin.jsonl"), "a") as file:
        file.write(json.dumps(record) + "\\n")

def tell(**metrics):
    print(json.dumps(metrics), flush=True)
"""
#: A script that is seeded and whose noise helps.
GOOD = "begin(seed, seed, seed + 1.0)\ntell(accuracy=0.5 + seed / 100 + (0.1 + seed / 1000 if arm != 'none' else 0))\n"


def script(folder: Path, body: str, name: str = "train.py") -> Path:
    """Write a script."""
    path = folder / name
    path.write_text(PREAMBLE + body, encoding="utf-8")
    return path


def said(capsys) -> str:
    """All output, on one line."""
    out, err = capsys.readouterr()
    return re.sub(r"\s+", " ", out + err)


def compare(
    path: Path,
    *options: str,
    arms: str = "none,noise:0.01",
    seeds: int = 2,
    blind: bool = True,
    metric: str = "accuracy:max",
) -> int:
    """The exit code of a comparison of a script, in runs/compare-SCRIPT; it is looked at once unless not `blind`."""
    options = (*options, *(("--blind",) if blind else ()))
    command = ("--", sys.executable, "-S", str(path), "{seed}")
    return gradnoise("compare", "--arms", arms, "--seeds", str(seeds), "--metric", metric, *options, *command)


def results(folder: Path) -> StudyResults:
    """What the store of a comparison holds."""
    with Store(folder, readonly=True) as store:
        return store.results()


def outcomes(folder: Path) -> dict[str, dict]:
    """Name of a run's folder without its id -> what it keeps of its end."""
    found = sorted(folder.glob("runs/*/outcome.json"))
    return {path.parent.name.rpartition("-")[0]: json.loads(path.read_text()) for path in found}
