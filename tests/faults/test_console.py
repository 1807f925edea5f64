"""The command in hard surroundings: output that goes nowhere, odd names, Ctrl-C early and often, strange variables."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.table import Table
from support.commandline import heeds_interrupts
from support.small import PATIENCE, small, until

from gradnoise.study import Options, Store, run_study
from gradnoise.study.report import write_report
from gradnoise.terminal import Stream, Terminal, printable

SMOKE = ("run", "deep-mlp", "--scale", "smoke", "--data", "digits", "--workers", "1")
COMMAND = (sys.executable, "-m", "gradnoise")


def environment(**changes: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "GRADNOISE_DATA"} | {"COLUMNS": "100"} | changes


def command(folder: Path, *words: str, **options) -> subprocess.CompletedProcess[str]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    env = given.pop("env", environment())
    return subprocess.run([*COMMAND, *words], cwd=folder, env=env, text=True, timeout=PATIENCE, **given)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A finished study, to be copied."""
    folder = tmp_path_factory.mktemp("study")
    results = run_study(small(), folder, options=Options(workers=1, chunk=8))
    write_report(results, folder)
    return folder


TABLES = ("report.html", "summary.md", "summary.csv", "trials.csv", "curves.csv.gz", "study.json")


def without_tables(study: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(study, tmp_path / "copy"))
    for name in TABLES:
        (folder / name).unlink()
    return folder


# Output that goes nowhere


@pytest.mark.parametrize("where", ["full", "closed", "pipe"])
def test_results_are_written_before_anything_is_printed(study, tmp_path, where):
    folder = without_tables(study, tmp_path)
    read, write = os.pipe()
    os.close(read)
    shell = [*COMMAND, "report", str(folder)]
    if where == "closed":
        done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", *shell], env=environment(), stderr=subprocess.PIPE)
    else:
        with open("/dev/full", "wb", buffering=0) as full:
            out = full if where == "full" else write
            done = subprocess.run(shell, env=environment(), stdout=out, stderr=subprocess.PIPE)
    os.close(write)
    error = done.stderr.decode()
    if where == "full":
        assert done.returncode == 1 and error == (
            "error: what was to be printed is lost (No space left on device); everything else is done\n"
        )
    else:
        assert done.returncode == 0 and not error
    assert all((folder / name).exists() for name in TABLES)


@pytest.mark.slow
def test_errors_that_cannot_be_printed(tmp_path):
    with open("/dev/full", "wb", buffering=0) as full:
        assert command(tmp_path, "report", "nothing", stdout=full, stderr=full).returncode == 1


@pytest.mark.parametrize("words", [("--help",), ("list",), ("--version",)])
def test_help_into_a_pipe_that_nobody_reads(tmp_path, words):
    read, write = os.pipe()
    os.close(read)
    done = command(tmp_path, *words, stdout=write)
    os.close(write)
    assert done.stderr == "" and done.returncode == 0


# Text


def test_text_is_only_text():
    console = Terminal(width=60)
    with console.capture() as captured:
        console.print("[red]not red[/red] :smile: \x1b[31m\x9b31m \ud800 \u202e")
        table = Table()
        table.add_column("[bold]")
        table.add_row("[/bold]")
        console.print(table)
    out = captured.get()
    assert "[red]not red[/red] :smile: �[31m�31m � �" in out
    assert "[bold]" in out and "[/bold]" in out and "\x1b" not in out


def test_an_encoding_that_knows_little(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Terminal(width=60).print("η = 0.01 – noise")
    assert raw.getvalue() == b"? = 0.01 ? noise\n"


def test_a_stream_gives_up_once(monkeypatch):
    class Full(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            Full.writes += 1
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    stream = Stream("stdout")
    for _ in range(3):
        stream.write("x")
        stream.flush()
    assert Full.writes == 1 and stream.failure is not None
    assert printable("line\n\ttab") == "line\n\ttab"


@pytest.mark.parametrize(
    "name", ["[red]", "[/bold]", "two\nlines", "a\ttab", "quote's \"", "100%?#", ":smile:", "-x"], ids=repr
)
def test_odd_names_of_folders(study, tmp_path, name):
    folder = Path(shutil.copytree(study, tmp_path / name))
    done = command(tmp_path, "report", f"./{name}")
    assert done.returncode == 0 and (folder / "report.html").exists()
    assert name.split("\n")[0].split("\t")[0] in done.stdout
    missing = command(tmp_path, "report", f"{name.lstrip('-')} not here")
    assert missing.returncode == 1 and missing.stderr.startswith("error: ") and "Traceback" not in missing.stderr


@pytest.mark.slow
def test_a_name_that_is_no_text(study, tmp_path):
    folder = os.fsencode(tmp_path) + b"/\xff"
    shutil.copytree(os.fsencode(study), folder)
    done = command(tmp_path, "report", os.fsdecode(folder))
    assert "Traceback" not in done.stderr and done.returncode == 0


def test_a_path_that_begins_with_two_slashes(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "study")
    with Store(Path(f"/{folder}"), readonly=True) as store:
        assert len(store.results().trials) == 8


# Surroundings


def test_a_backend_of_pictures_that_there_is_not(study, tmp_path):
    folder = without_tables(study, tmp_path)
    done = command(tmp_path, "report", str(folder), env=environment(MPLBACKEND="nonsense"))
    assert done.returncode == 0, done.stderr


def test_python_without_asserts_is_refused(tmp_path):
    done = command(tmp_path, *SMOKE, env=environment(PYTHONOPTIMIZE="1"))
    assert done.returncode == 1 and "python -O (or PYTHONOPTIMIZE) makes torch.func.vmap round otherwise" in done.stderr
    assert "Traceback" not in done.stderr


# Ctrl-C


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5])
def test_ctrl_c_while_it_imports(tmp_path, seconds):
    process = subprocess.Popen([*COMMAND, *SMOKE], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=heeds_interrupts)  # fmt: skip
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    if process.returncode == -signal.SIGINT:  # before the first line of ours
        assert seconds < 0.5
        return
    assert process.returncode == 130 and "Traceback" not in error


@pytest.mark.slow
def test_ctrl_c_twice(tmp_path):
    process = subprocess.Popen([*COMMAND, "run", "deep-mlp", "--scale", "paper", "--data", "digits", "--workers", "1"],
                               cwd=tmp_path, env=environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    until(lambda: any(tmp_path.rglob("step-*.pt")) or process.poll() is not None)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in error
    with Store(tmp_path / "runs" / "deep-mlp-paper") as store:
        assert any(chunk.step for chunk in store.chunks())
