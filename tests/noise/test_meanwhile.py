"""The first updates on a CPU: nobody waits for the compiler, and the noise is the same before and after."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gradnoise.noise.gaussian import Part, backends, meanwhile, reference

pytest.importorskip("numba")

TRAIN = """
import os, sys, threading, warnings
import torch, gradnoise
from gradnoise.noise.gaussian import backends

model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 1, bias=False))
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
noise = gradnoise.attach(optimizer, gradnoise.Annealed(1.0), seed=3)
parameters = list(model.parameters())

def update():
    for p in parameters:
        p.data.zero_()
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters]).clone()

def serves():
    return type(backends.implementation("cpu")).__name__

def compiling():
    return any(thread.name == "gradnoise-compile" for thread in threading.enumerate())
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for compiled kernels, empty for the first test."""
    return tmp_path_factory.mktemp("numba")


def run(code: str, cache: Path, **environment: str) -> list[str]:
    """Run a script that begins as TRAIN does; return the lines it printed."""
    environ = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN + code], capture_output=True, text=True, env=environ, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


def test_the_first_update_does_not_wait_and_all_have_the_same_noise(cache):
    code = """
first = update()
print("numba" in sys.modules or compiling(), serves())
after = [update()]
while serves() == "Meanwhile":
    after.append(update())
after.append(update())
for t, got in enumerate([first, *after]):
    want = torch.cat([-noise.replay(name, t).flatten() for name in ("0.0", "0.1", "0.2")])
    assert torch.equal(got, want), t
print(len(after) > 1, serves(), noise.step == len(after) + 1)
"""
    first, last = run(code, cache)
    assert first == "True Meanwhile"
    assert last == "True module True"


def test_a_script_of_one_update_ends_well(cache):
    assert run("update(); print(compiling())", cache) == ["True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_waits_for_the_compiler(cache):
    code = """
update()
child = os.fork()
if not child:
    update()
    print("child", serves(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("parent", compiling())
"""
    assert run(code, cache) == ["child module", "parent False"]


def test_numba_that_does_not_work_is_said_and_torch_goes_on(tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.2 or less')")
    code = """
a = update()
while serves() == "Meanwhile":
    update()
print(serves(), backends.implementation("cpu").__name__.rpartition(".")[2])
"""
    before = os.environ.get("PYTHONPATH", "")
    lines = run(code, tmp_path, PYTHONPATH=os.pathsep.join(filter(None, [str(tmp_path), before])))
    assert lines[0] == "module reference"
    assert (
        sum("Numba is installed but does not work here (ImportError: Numba needs NumPy" in line for line in lines) == 1
    )


def test_many_elements_wait_for_the_kernel(monkeypatch):
    monkeypatch.setattr(meanwhile, "MOST", 10)
    served = []
    waiting = meanwhile.Meanwhile(served.append)
    few, many = torch.zeros(10), torch.zeros(11)
    waiting.add_parts_([Part(many, 7)], 0, 1.0, None)
    assert len(served) == 1 and served[0].__name__.endswith("numba_backend")
    reference.add_parts_([Part(few, 7)], 0, 1.0, None)
    assert torch.equal(few, many[:10])


def test_who_asks_for_numba_gets_it_at_once(monkeypatch):
    monkeypatch.setenv("GRADNOISE_BACKEND", "numba")
    backends.forget()
    try:
        assert backends.implementation("cpu").__name__.endswith("numba_backend")
    finally:
        monkeypatch.undo()
        backends.forget()
