"""Memory that an update frees stays with the process, where the C library is glibc and nobody chose otherwise."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from gradnoise.population.freed import keep_freed_memory
print(keep_freed_memory())
def use():
    kept = [torch.ones(1 << 18) for _ in range(64)]  # 64 MiB in pieces of 1 MiB
    del kept
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def run(environment: dict[str, str]) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=environment)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_pages_are_not_cleared_anew(monkeypatch):
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    kept, faults = run(dict(os.environ))
    assert kept == "True" and faults < 1000  # of 163,840 pages


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_what_a_user_chose_stays():
    assert run({**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072"})[0] == "False"
