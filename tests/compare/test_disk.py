"""A disk that runs full stops a comparison in words, and the same command goes on once there is room."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.comparing import GOOD, compare, outcomes, results, said, script

MIB = 1 << 20
FILLS = """
if seed == 1 and not os.path.exists("there-is-room"):
    with open(os.path.join(os.environ["GRADNOISE_DIR"], "checkpoint"), "wb") as file:
        while True:
            file.write(bytes(1 << 20))
"""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
    if sys.platform != "linux" or os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_run_that_fills_the_disk_stops_the_study_and_counts_for_no_arm(tmp_path, small_disk, capsys):
    path = script(tmp_path, FILLS + GOOD)
    assert compare(path, "--out", "small/study", seeds=3) == 1
    text = said(capsys)
    assert "the disk of" in text and "is full, and a run failed on it" in text and "make room" in text
    assert compare(path, "--out", "small/study", seeds=3) == 1
    assert "is full" in said(capsys), "until there is room"
    (checkpoint,) = small_disk.glob("study/runs/seed-1-none-*/dir/checkpoint")
    checkpoint.unlink()
    before = outcomes(small_disk / "study")
    assert set(before) == {"seed-0-none", "seed-0-noise-0.01"}
    (tmp_path / "there-is-room").touch()
    assert compare(path, "--out", "small/study", seeds=3) == 0
    after = outcomes(small_disk / "study")
    assert len(after) == 6 and {name: after[name] for name in before} == before
    assert {t.status for t in results(small_disk / "study").trials} == {"finished"}


@pytest.fixture
def short_files():
    """Give a way to let no file of this process grow beyond so many bytes, as on a disk that is full."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 2_000, 20_000])
def test_a_driver_that_cannot_write_says_so_and_loses_nothing(tmp_path: Path, short_files, capsys, size):
    path = script(tmp_path, GOOD)
    assert compare(path, seeds=1) == 0
    before = outcomes(tmp_path / "runs/compare-train")
    capsys.readouterr()
    short_files(size)
    code = compare(path, seeds=3)
    short_files(resource.RLIM_INFINITY)
    text = said(capsys)
    assert code == 1 and text.startswith("error: ") and "Traceback" not in text, text
    assert compare(path, seeds=3) == 0
    after = outcomes(tmp_path / "runs/compare-train")
    assert len(after) == 6 and {name: after[name] for name in before} == before
