"""The hook in a run's process: its noise is that of an explicit `attach`, it acts once, and costs next to nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradnoise.study.script.command import HOOK

#: Trains with each optimizer and prints a hash of the weights; `how` is what the script itself does about noise.
TRAIN = """
import sys, hashlib, torch
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

def train(kind, closure=False, **options):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    x, y = torch.randn(32, 8), torch.randint(3, (32,))
    optimizer = kind(model.parameters(), **options)
    if how == "explicit":
        import gradnoise
        gradnoise.attach(optimizer, gradnoise.Annealed(eta=0.01), seed=SEEDS[len(names)])
    if how == "one line":
        import gradnoise
        gradnoise.attach(optimizer)
    for _ in range(5):
        def evaluate():
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss
        if closure:
            optimizer.step(evaluate)
        else:
            evaluate()
            optimizer.step()
    keep.append(optimizer)
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()[:16]

keep, O = [], torch.optim
SEEDS = {0: 7}
if "explicit" in sys.argv:
    from gradnoise.noise.gaussian import stream_key
    SEEDS |= {i: stream_key(7, f"optimizer {i}") for i in range(1, 9)}
KINDS = [(O.Adam, {}), (O.SGD, {"lr": 0.1, "momentum": 0.9}), (O.AdamW, {"fused": True}), (O.Rprop, {}),
         (O.LBFGS, {"closure": True, "max_iter": 3}), (O.SGD, {"closure": True, "lr": 0.1})]
for how in sys.argv[1:]:
    names = []
    for kind, options in KINDS:
        names.append(kind.__name__ + ":" + train(kind, **options))
    print(how + ":" + ",".join(names))
"""


def child(folder: Path, *how: str, noise: dict | None = None, hook: bool = True, code: str = TRAIN, **variables):
    """Output of a run, and its records."""
    (folder / "train.py").write_text(code)
    records = folder / f"records-{time.time_ns()}"
    records.mkdir()
    environment = {**os.environ, "GRADNOISE_SEED": "7", **variables}
    if hook:
        paths = [str(HOOK), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment |= {"GRADNOISE_RECORDS": str(records), "PYTHONPATH": os.pathsep.join(paths)}
    if noise is not None:
        environment["GRADNOISE_NOISE"] = json.dumps(noise)
    command = [sys.executable, "train.py", *how]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    begin = records / "begin.jsonl"
    return ran.stdout.splitlines(), [json.loads(x) for x in begin.read_text().splitlines()] if begin.exists() else []


def trained(lines: list[str]) -> list[str]:
    """Hashes of the weights that each way of training ends with."""
    return [line.partition(":")[2] for line in lines]


@pytest.mark.slow
def test_noise_by_the_hook_is_bit_equal_to_an_explicit_attach(tmp_path):
    plain, explicit, outside = trained(child(tmp_path, "nothing", "explicit", "one line", hook=False)[0])
    assert outside == plain, "outside of a comparison that line does nothing"
    silent, records = child(tmp_path, "nothing")
    assert trained(silent) == [plain] and len(records) == 6, "the arm without noise trains what the script trains"
    assert all("schedule" not in r for r in records)
    zero, _ = child(tmp_path, "nothing", noise={"eta": 0.0})
    assert trained(zero) == [plain]
    hooked, noisy = child(tmp_path, "nothing", noise={"eta": 0.01})
    assert trained(hooked) == [explicit] and explicit != plain
    one_line, again = child(tmp_path, "one line", noise={"eta": 0.01})
    assert trained(one_line) == [explicit], "the hook leaves an optimizer alone that the script attached noise to"
    assert [r["schedule"] for r in noisy] == ["Annealed(eta=0.01, gamma=0.55)"] * 6
    same = ("weights", "shapes", "gradient", "norm", "samples")
    for key in same:  # before the noise, hence the same in all arms
        assert [r[key] for r in records] == [r[key] for r in noisy] == [r[key] for r in again]
    assert len({r["gradient"] for r in records}) == 1, "also those of closures, of which there is none at first"


def test_the_hook_hands_over_to_another_sitecustomize(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/sitecustomize.py").write_text("import builtins; builtins.the_other = 'was here'\n")
    code = "import sys, gradnoise_hook; print(the_other, sys.modules['sitecustomize'].__file__)"
    paths = os.pathsep.join([str(HOOK), str(tmp_path / "other")])
    environment = {**os.environ, "PYTHONPATH": paths, "GRADNOISE_RECORDS": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["was", "here", str(tmp_path / "other/sitecustomize.py")] and not ran.stderr


def test_the_hook_imports_nothing_heavy(tmp_path):
    code = "import sys; print(*[m for m in ('torch', 'numpy', 'gradnoise', 'json', 'typing') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(HOOK), "GRADNOISE_RECORDS": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    clean = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == clean.stdout


TWO = """
import torch
from torch.utils.data import DataLoader, TensorDataset
import gradnoise
torch.manual_seed(7)
a, b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
first, second = torch.optim.Adam(a.parameters()), torch.optim.SGD(b.parameters(), lr=0.1)
for (x,) in DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=4, num_workers=1):
    for optimizer in (first, second):
        optimizer.zero_grad()
        b(a(x)).square().mean().backward()
        optimizer.step()
gradnoise.report(loss=torch.tensor(0.5), step=2)
print("done")
"""


@pytest.mark.slow
def test_two_optimizers_get_different_noise_and_workers_of_data_loaders_write_nothing(tmp_path):
    out, records = child(tmp_path, noise={"eta": 0.01}, code=TWO)
    assert out == ["done"] and [r["kind"] for r in records] == ["Adam", "SGD"]
    assert records[0]["seed"] == 7 and records[1]["seed"] != 7
    (folder,) = tmp_path.glob("records-*")
    assert json.loads((folder / "updates.jsonl").read_text())["updates"] == 2
    assert json.loads((folder / "reports.jsonl").read_text()) == {"step": 2, "metrics": {"loss": 0.5}}
