"""Slots: one run at once on each, both arms of a pair on the same, and one that fails alone is used no more.

The GPUs are names in the environment; what runs under them are real processes.
"""

import fcntl
import itertools
import tempfile
import threading
import time
from pathlib import Path

import pytest
from support.comparing import compare, outcomes, said, script

from gradnoise.errors import StudyError
from gradnoise.study.script.slots import Slot, slots_of

#: Writes down where and when it runs; on a GPU that is broken it fails.
ON_GPU = """
gpu, started = os.environ["CUDA_VISIBLE_DEVICES"], time.time()
begin(seed, seed, seed + 1.0)
time.sleep(0.2)
if os.path.exists(f"broken-{gpu}") or os.path.exists(f"broken-seed-{seed}"):
    sys.exit("CUDA error: an illegal memory access")
with open("placed", "a") as file:
    file.write(f"{seed} {arm} {gpu} {started} {time.time()}\\n")
tell(accuracy=0.5 + seed / 100)
"""


def placed(folder: Path) -> list[tuple[int, str, str, float, float]]:
    """Seed, arm, GPU, and from when to when, of each run that ended well."""
    lines = [line.split() for line in (folder / "placed").read_text().splitlines()]
    return [(int(seed), arm, gpu, float(a), float(b)) for seed, arm, gpu, a, b in lines]


def gpus_of(folder: Path) -> dict[int, set[str]]:
    """Seed -> the GPUs that its last runs took place on."""
    last = {(seed, arm): gpu for seed, arm, gpu, _, _ in placed(folder)}
    return {seed: {gpu for (s, _), gpu in last.items() if s == seed} for seed, _ in last}


@pytest.fixture
def two_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of the locks


def test_both_arms_of_a_pair_run_on_the_same_gpu_and_one_run_at_once_on_each(tmp_path, two_gpus):
    assert compare(script(tmp_path, ON_GPU), "--gpus", "auto", seeds=5) == 0
    runs, gpus = placed(tmp_path), gpus_of(tmp_path)
    assert len(runs) == 10 and all(len(used) == 1 for used in gpus.values())
    assert set.union(*gpus.values()) == {"2", "5"} and gpus[0] == {"2"}
    for gpu in ("2", "5"):
        times = sorted((a, b) for _, _, g, a, b in runs if g == gpu)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))
    first = [end for seed, *_, end in runs if seed == 0]
    assert all(start >= max(first) for seed, _, _, start, _ in runs if seed > 0), "the first pair runs alone"


def test_a_gpu_that_fails_alone_is_retired_and_its_pair_runs_elsewhere(tmp_path, two_gpus, capsys):
    (tmp_path / "broken-5").touch()
    assert compare(script(tmp_path, ON_GPU), "--gpus", "2,5", seeds=4) == 0
    text = said(capsys)
    assert text.count("GPU 5 is retired: its first run failed") == 1 and "used again" not in text
    assert gpus_of(tmp_path) == {seed: {"2"} for seed in range(4)}
    assert {o["status"] for o in outcomes(tmp_path / "runs/compare-train").values()} == {"finished"}
    (tmp_path / "broken-5").unlink()


def test_a_gpu_is_used_again_where_the_script_was_at_fault(tmp_path, two_gpus, capsys):
    for seed in (1, 2):  # whichever comes to GPU 5 first
        (tmp_path / f"broken-seed-{seed}").touch()
    assert compare(script(tmp_path, ON_GPU), "--gpus", "2,5", "--most-failures", "9", seeds=6) == 0
    text = said(capsys)
    assert text.count("is retired") == text.count("is used again: the run that failed there failed elsewhere, too") == 1
    assert set.union(*gpus_of(tmp_path).values()) == {"2", "5"}
    failed = [name for name, o in outcomes(tmp_path / "runs/compare-train").items() if o["status"] == "failed"]
    assert failed == ["seed-1-noise-0.01", "seed-1-none", "seed-2-noise-0.01", "seed-2-none"]


def test_a_pair_that_was_begun_elsewhere_is_run_anew(tmp_path, two_gpus):
    path = script(tmp_path, ON_GPU.replace("broken-seed-{seed}", "broken-{arm}-{seed}"))
    (tmp_path / "broken-noise:0.01-1").touch()
    compare(path, "--gpus", "2", seeds=2)
    (tmp_path / "broken-noise:0.01-1").unlink()
    assert compare(path, "--gpus", "5", seeds=2) == 0
    assert gpus_of(tmp_path) == {0: {"2"}, 1: {"5"}}


def test_two_comparisons_do_not_share_a_slot(tmp_path, two_gpus, capsys):
    (slot,) = slots_of(None, "2")
    lock = open(tmp_path / slot.lock, "w")  # noqa: SIM115
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(1.5, lock.close).start()
    before = time.time()
    assert compare(script(tmp_path, ON_GPU), "--gpus", "2", seeds=1) == 0
    assert "GPU 2 is in use by another comparison on this machine" in said(capsys)
    assert min(start for *_, start, _ in placed(tmp_path)) > before + 1.0


def test_slots_of_a_command_line(monkeypatch, tmp_path):
    assert [s.name for s in slots_of(None, None)] == ["slot 0"] and len(slots_of(3, None)) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3,GPU-1f2e")
    assert [s.variables["CUDA_VISIBLE_DEVICES"] for s in slots_of(None, "auto")] == ["0", "3", "GPU-1f2e"]
    twice = slots_of(None, "0,0")
    assert [s.lock for s in twice] == ["gradnoise-gpu-0-0.lock", "gradnoise-gpu-0-1.lock"]
    assert twice[0] == Slot("GPU 0", {"CUDA_VISIBLE_DEVICES": "0"}, "gradnoise-gpu-0-0.lock")
    for gpus, jobs, why in (("0,7", None, "there is no GPU 7; those that this process may use are 0, 3, GPU-1f2e"),
                            ("0", 2, "both say how many"), ("0,,3", None, "numbers such as 0,1"),
                            (None, 0, "give 1 or more")):  # fmt: skip
        with pytest.raises(StudyError, match=why):
            slots_of(jobs, gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(StudyError, match="no GPU was found"):
        slots_of(None, "auto")


def test_gpus_are_counted_by_nvidia_smi_and_taken_on_trust_without_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    heard: list[str] = []
    assert [s.name for s in slots_of(None, "1", heard.append)] == ["GPU 1"]
    assert "nvidia-smi does not answer" in heard[0] and "GPU 1 can be used" in heard[0]
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-a)'\necho '  MIG 1g (UUID: MIG-x)'\necho 'GPU 1: A'\n")
    smi.chmod(0o755)
    assert [s.name for s in slots_of(None, "auto", heard.append)] == ["GPU 0", "GPU 1"] and len(heard) == 1
    with pytest.raises(StudyError, match="there is no GPU 2"):
        slots_of(None, "2")
