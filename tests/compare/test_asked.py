"""What a comparison is asked on the command line, and what a script reports: refused where it cannot be meant."""

import numpy as np
import pytest
import torch

import gradnoise
from gradnoise.errors import StudyError
from gradnoise.reporting import RECORDS, REPORTS
from gradnoise.study.script.arms import arms_of


@pytest.mark.parametrize(
    ("named", "further", "message"),
    [
        (["none", "noise:0.01", "noise:0.010"], [], "arms 'noise:0.01' and 'noise:0.010' are the same; leave one"),
        (["none", "noise:0.01", "noise:1e-2:0.55"], [], "arms 'noise:0.01' and 'noise:1e-2:0.55' are the same"),
        (["fixed:1", "fixed:1.0"], [], "arms 'fixed:1' and 'fixed:1.0' are the same"),
        (["none"], ["a=--hidden 5", "b=--hidden  '5'"], "arms 'a' and 'b' are the same"),
        (["none", "noise"], [], "arm 'noise' does not say how much noise; give eta, as in noise:0.01"),
        (["none", "fixed:"], [], "arm 'fixed:' does not say how much noise; give sigma, as in fixed:0.01"),
        (["none", "relative"], [], "arm 'relative' does not say how much noise; give rho, as in relative:0.01"),
        (["none", "nois:0.1"], [], "no arm 'nois:0.1'.*did you mean 'noise'"),
    ],
)
def test_arms_that_cannot_be_meant(named, further, message):
    with pytest.raises(StudyError, match=message):
        arms_of(named, further)


def test_arms_that_differ():
    found = arms_of(["none", "noise:0.01", "noise:0.01:0", "fixed:0.01", "relative:0.01"], ["wide=--hidden 5"])
    assert len(found) == 6


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("step", ["a", 1.5, True, [1]])
def test_a_step_that_is_no_integer(tmp_path, monkeypatch, step, within):
    if within:
        monkeypatch.setenv(RECORDS, str(tmp_path))
    with pytest.raises(TypeError, match="an integer is needed, the updates or epochs done so far, or None"):
        gradnoise.report(step=step, accuracy=0.5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["0.9", b"0.9"])
def test_a_metric_that_is_text(value):
    with pytest.raises(TypeError, match=r"report\(accuracy=.*\): a number is needed, and this is text"):
        gradnoise.report(accuracy=value)


def test_numbers_of_many_kinds(tmp_path, monkeypatch):
    monkeypatch.setenv(RECORDS, str(tmp_path))
    gradnoise.report(step=np.int64(3), a=1, b=np.float32(0.5), c=torch.tensor(0.25), d=True, e=float("nan"))
    gradnoise.report(step=torch.tensor(4), a=2)
    assert (tmp_path / REPORTS).read_text() == (
        '{"step": 3, "metrics": {"a": 1.0, "b": 0.5, "c": 0.25, "d": 1.0, "e": NaN}}\n'
        '{"step": 4, "metrics": {"a": 2.0}}\n'
    )
