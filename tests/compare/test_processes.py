"""Runs and their driver: killed at any moment it goes on by the same command, and nothing outlives it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from support.commandline import gradnoise, heeds_interrupts
from support.comparing import PREAMBLE, outcomes, results

from gradnoise.study.script.process import Stopped, run_to_the_end

SLOW = """
begin(seed, seed, seed + 1.0)
import subprocess
if os.environ.get("LEAVES"):  # a worker that would live on, in a session of its own
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
subprocess.Popen(["sleep", "1000"])
open(f"started-{seed}-{arm[:4]}", "a").write("x")
time.sleep(0.5)
tell(accuracy=0.5 + seed / 100 + (0.1 if arm != "none" else 0))
"""


@pytest.fixture(autouse=True)
def leaves(tmp_path, monkeypatch):
    """Have a script whose runs leave processes behind."""
    (tmp_path / "train.py").write_text(PREAMBLE + SLOW)
    monkeypatch.setenv("LEAVES", "1")


def words(*options: str) -> list[str]:
    asked = ["compare", "--arms", "none,noise:0.01", "--seeds", "3", "--metric", "accuracy:max", "--blind", *options]
    return [*asked, "--", sys.executable, "-S", "train.py", "{seed}"]


def driver(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "gradnoise", *words()]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, preexec_fn=heeds_interrupts)


def left_behind(folder: Path) -> list[str]:
    """Processes of the runs that are alive: they have the folder as theirs."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        if process.info["cwd"] == str(folder) and process.info["pid"] != os.getpid():
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def wait_until(true, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds what left its process group by /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_driver_that_is_stopped_leaves_nothing_and_goes_on(tmp_path, how):
    process = driver(tmp_path)
    wait_until((tmp_path / "started-1-nois").exists)
    before = outcomes(tmp_path / "runs/compare-train")
    assert {"seed-0-none", "seed-0-noise-0.01", "seed-1-none"} <= set(before)
    process.send_signal(how)
    code = process.wait(60)
    assert code == (130 if how == signal.SIGINT else -how)
    wait_until(lambda: not left_behind(tmp_path), 30)
    assert gradnoise(*words()) == 0
    assert not left_behind(tmp_path)
    after = outcomes(tmp_path / "runs/compare-train")
    assert len(after) == 6 and {name: after[name] for name in before} == before, "what had ended was not run again"
    assert (tmp_path / "started-1-nois").read_text() == "xx" and (tmp_path / "started-0-none").read_text() == "x"
    assert {t.status for t in results(tmp_path / "runs/compare-train").trials} == {"finished"}


def run(folder: Path, code: str, **options) -> tuple[object, str]:
    ended = run_to_the_end(
        [sys.executable, "-S", "-c", code],
        dict(os.environ),
        stdout=folder / "out",
        stderr=folder / "err",
        timeout=options.get("timeout"),
        stop=options.get("stop", threading.Event()),
    )
    return ended, (folder / "out").read_text()


def test_a_run_ends_as_its_command_does(tmp_path):
    assert run(tmp_path, "print('x')")[1] == "x\n"
    assert run(tmp_path, "import sys; sys.exit(7)")[0].sentence == "exit code 7"
    killed = run(tmp_path, "import os; os.kill(os.getpid(), 9)")[0]
    assert killed.code == 137 and "memory" in killed.sentence
    assert run(tmp_path, "import time; time.sleep(60)", timeout=0.5)[0].code is None


def test_a_run_that_is_stopped_raises(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run(tmp_path, "import time; time.sleep(60)", stop=stop)


def test_several_slots_run_several_seeds_at_once_after_the_first(tmp_path):
    assert gradnoise(*words("--jobs", "2")) == 0
    assert len(outcomes(tmp_path / "runs/compare-train")) == 6 and not left_behind(tmp_path)
