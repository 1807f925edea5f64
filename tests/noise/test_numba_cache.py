"""Numba's cache on disk: damaged, empty or on a full disk it is passed by with one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

CODE = """
import warnings
{before}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from gradnoise.noise.gaussian import backend, normal, word_rows
    word_rows([5], 0, 1)  # waits for Numba, which `normal` does not
    print(backend(), float(normal(5, 0, 3)[1]))
for w in caught:
    print("WARNING", w.message)
"""
FULL = """
import errno, numba.core.caching as caching
def full(*args, **options): raise OSError(errno.ENOSPC, "No space left on device")
caching.IndexDataCacheFile.save = full
"""


def draw(folder: Path, before: str = "") -> tuple[str, list[str]]:
    """Draw a few numbers in a new process; return what it printed, and its warnings."""
    run = subprocess.run(
        [sys.executable, "-c", CODE.format(before=before)],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    return lines[0], [line for line in lines[1:] if line.startswith("WARNING")]


def test_a_damaged_cache_is_passed_by_and_mended(tmp_path):
    good, said = draw(tmp_path)
    assert not said
    files = [path for path in tmp_path.rglob("*.nb*")]
    assert len(files) > 5
    for path in files:
        path.write_bytes(b"" if path.suffix == ".nbi" else b"rubbish")
    again, said = draw(tmp_path)
    assert again == good and len(said) == 1 and "compiled kernels could not be read in" in said[0]
    assert draw(tmp_path) == (good, [])
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(b"")
    again, said = draw(tmp_path)
    assert again == good and len(said) == 1


def test_a_full_disk_is_said_once(tmp_path):
    good, said = draw(tmp_path, FULL)
    assert good.startswith("numba ") and len(said) == 1
    assert "could not be written in" in said[0] and "No space left on device" in said[0]
