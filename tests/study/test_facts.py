"""A report says what was trained: model and size, optimizer, and the commit of the user's own code."""

import subprocess
import sys
import types
from dataclasses import dataclass
from typing import Any

import torch
from support.small import Toy, small
from torch import nn

from gradnoise.population import Adam, Replica
from gradnoise.study import Options, run_study
from gradnoise.study.run.facts import code_of, facts
from gradnoise.study.run.runner import Observer


class Needy(Toy):
    """Its model cannot be built without memory."""

    def model(self, config):
        torch.rand(1).item()
        return nn.Linear(int(torch.zeros(3).numel() + torch.zeros(1).item()), 1)


def test_model_optimizer_and_code():
    before = torch.get_rng_state()
    lines = dict(facts(Toy(), [Replica.of(Toy(), 0, {}), Replica.of(Toy(), 0, {"optimizer": Adam()})]))
    assert torch.equal(torch.get_rng_state(), before)
    parameters = sum(p.numel() for p in Toy().model(Toy.Config()).parameters())
    assert lines["model"].endswith(f", {parameters:,} parameters")
    assert lines["optimizer"].startswith("SGD(") and "; Adam(" in lines["optimizer"]
    assert lines["your code"].startswith("small.py, ") and lines["batch size"] == "5"


class Sized(Toy):
    """Says how many examples a minibatch has; its tensors are sequences, time first."""

    @dataclass(frozen=True)
    class Config(Toy.Config):
        batch_size: int = 64

    def batch(self, seed, t, config: Any):
        return torch.zeros(7, config.batch_size), torch.zeros(7)


def test_the_batch_size_is_the_setting_of_that_name_or_what_all_tensors_share():
    assert dict(facts(Sized(), [Replica.of(Sized(), 0, {})]))["batch size"] == "64"
    toy = Toy()
    toy.batch = lambda seed, t, config: (torch.rand(3), torch.zeros(4))  # type: ignore[method-assign]
    before = torch.get_rng_state()
    assert "batch size" not in dict(facts(toy, [Replica.of(toy, 0, {})]))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_told_is_left_out():
    assert "model" not in dict(facts(Needy(), [Replica.of(Needy(), 0, {})]))


def test_the_commit_is_that_of_the_file_of_the_experiment(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True
        ).stdout

    module = types.ModuleType("my_models")
    module.__file__ = str(tmp_path / "my_models.py")
    monkeypatch.setitem(sys.modules, "my_models", module)
    mine = type("Mine", (Toy,), {"__module__": "my_models"})()
    (tmp_path / "my_models.py").write_text("x = 1\n")
    assert code_of(mine) == "my_models.py, in no git repository"
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD").strip()[:12]
    assert code_of(mine) == f"my_models.py, commit {commit}"
    (tmp_path / "my_models.py").write_text("x = 2\n")
    assert code_of(mine) == f"my_models.py, commit {commit}+"


def test_a_study_keeps_them(tmp_path):
    record = run_study(small(), tmp_path, options=Options(workers=1, chunk=4), observer=Observer()).record
    lines = dict(record.provenance)
    assert lines["optimizer"].startswith("SGD(") and "parameters" in lines["model"]
