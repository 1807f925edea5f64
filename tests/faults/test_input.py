"""Values that can be no such thing are refused where they are given, in one sentence."""

import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor as Pool
from pathlib import Path

import pytest
import torch
from support.small import Toy, small

from gradnoise import Annealed, attach
from gradnoise.population import Population, PopulationError, Replica
from gradnoise.study import (
    Arm,
    Claim,
    FuturesExecutor,
    Metric,
    Options,
    Setting,
    SpoolExecutor,
    StudyError,
    dry_run,
    run_study,
)
from gradnoise.study.run.processes import Processes


def claim(**changes) -> Claim:
    values = {"id": "C1", "row": "a", "treatment": "noise", "expects": "helps", "statement": "Noise helps."} | changes
    return Claim(source="A paper", **values)


WRONG = {
    "workers 0": (lambda: Options(workers=0), "workers is 0, an int; it must be a whole number or None >= 1"),
    "workers -1": (lambda: Options(workers=-1), "workers is -1"),
    "chunk 0": (lambda: Options(chunk=0), "chunk is 0"),
    "slices of nan": (lambda: Options(slice_seconds=math.nan), "slice_seconds is nan"),
    "slices before now": (lambda: Options(slice_seconds=-1.0), "slice_seconds is -1.0"),
    "a large seed": (lambda: small(seeds=(0, 2**63)), "seeds is (0, 9223372036854775808)"),
    "a small study seed": (lambda: small(seed=-(2**63) - 1), "seed is -9223372036854775809"),
    "a fraction of a seed": (lambda: small(seeds=(0.5, 1)), "seeds"),
    "no updates": (lambda: small(steps=0), "steps is 0"),
    "no updates in a setting": (lambda: Setting("a", "A", steps=0), "steps is 0"),
    "evaluated never": (lambda: Setting("a", "A", eval_every=-3), "eval_every is -3"),
    "success nan": (lambda: Metric("error", "error", success=math.nan), "success is nan"),
    "chance nan": (lambda: Metric("error", "error", chance=math.nan), "chance is nan"),
    "margin nan": (lambda: Metric("error", "error", margin=math.nan), "margin is nan"),
    "half a character": (lambda: small(title="\ud800"), "half of a pair of surrogates"),
    "half a character in a value": (lambda: list(t.id for t in small(base={"odd": "\udfff"}).trials()), "surrogates"),
    "a claim of no row": (lambda: small(claims=(claim(row="z"),)), "claim 'C1' has row 'z': there are 'a', 'b'"),
    "a claim of no arm": (lambda: small(claims=(claim(treatment="nois"),)), "did you mean 'noise'?"),
    "a claim of nothing": (lambda: small(claims=(claim(expects="help"),)), "has expects 'help': there are 'helps'"),
    "a claim twice": (lambda: small(claims=(claim(), claim(row="b"))), "names the same claim twice: ['C1', 'C1']"),
    "a statement that is none": (lambda: claim(statement=5), "statement is 5, an int; it must be text"),
    "a figure as text": (
        lambda: claim(figures={"noise": {"mean": "9"}}),
        "each value is a dict of which each value is",
    ),
    "a figure of nan": (lambda: claim(figures={"noise": {"mean": math.nan}}), "the mean of 'noise' is nan"),
    "a figure of inf": (lambda: claim(figures={"noise": {"best": -math.inf}}), "the best of 'noise' is -inf"),
    "a figure of no arm": (lambda: small(claims=(claim(figures={"nois": {"mean": 1.0}}),)), "did you mean 'noise'?"),
    "margin inf": (lambda: Metric("error", "error", margin=math.inf), "margin is inf"),
    "margin as text": (lambda: Metric("error", "error", margin="0.1"), "margin is '0.1', a str; it must be a number"),
    "margin True": (lambda: Metric("error", "error", margin=True), "margin is True"),
    "seeds of a study below 0": (lambda: small(seeds=-3), "has no seeds"),
    "more seeds than anybody trains": (lambda: small(seeds=10**12), "a study has 1,000,000 at most"),
    "seeds as text": (lambda: small(seeds="012"), "seeds is '012', a str"),
    "settings as text": (lambda: small(settings="ab"), "settings is 'ab', a str"),
    "arms as a dict": (lambda: small(arms={"none": {}, "noise": {}}), "it must be a tuple of which each is a Arm"),
    "a spool of no workers": (lambda: SpoolExecutor(0, folder=Path("x")), "SpoolExecutor: workers is 0"),
    "a lease of nan": (lambda: SpoolExecutor(1, folder=Path("x"), lease=math.nan), "SpoolExecutor: lease is nan"),
    "a lease as text": (lambda: SpoolExecutor(1, folder=Path("x"), lease="1"), "SpoolExecutor: lease is '1', a str"),
    "a spool in a number": (
        lambda: SpoolExecutor(1, folder=5),
        "SpoolExecutor: folder is 5, an int; it must be a path",
    ),
    "half a process": (lambda: Processes(1.5), "Processes: workers is 1.5, a float; it must be a whole number"),
    "slots as text": (lambda: FuturesExecutor(Pool, slots="2"), "FuturesExecutor: slots is '2', a str"),
    "no study": (lambda: run_study(5, "x"), "run_study: study is 5, an int; it must be a Study"),
    "no folder": (lambda: run_study(small(), 5), "run_study: folder is 5, an int; it must be text or a path"),
    "options as a dict": (lambda: run_study(small(), "x", options={"workers": 1}), "it must be a Options"),
    "no executor": (
        lambda: run_study(small(), "x", executor=5),
        "executor is 5, an int; it must be an Executor or text",
    ),
    "an executor of None": (lambda: dry_run(small(), "x", executor=None), "dry_run: executor is None"),
    "no observer": (lambda: run_study(small(), "x", observer="me"), "run_study: observer is 'me', a str"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values(case):
    make, message = WRONG[case]
    with pytest.raises(StudyError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("t", [-5, -1, 0.5, "3", None, 2**64])
def test_a_clock_that_cannot_be(t):
    p = torch.nn.Parameter(torch.zeros(3))
    handle = attach(torch.optim.SGD([p], lr=0.1), Annealed(0.01), seed=0)
    state = handle.state_dict()
    with pytest.raises((ValueError, TypeError), match=r"integer"):
        handle.load_state_dict(state | {"t": t})
    assert handle.state_dict() == state


@pytest.mark.parametrize("method", ["loss", "batch", "evaluate", "model"])
def test_an_experiment_that_ends_the_program(tmp_path, method):
    """It would end with the exit status that it likes, 0 for one, and without a report."""
    ends = type("Ends", (Toy,), {method: lambda self, *_: sys.exit(0)})
    with pytest.raises(PopulationError, match=r"the experiment ended the program \(exit\(0\)\)"):
        run_study(small(ends()), tmp_path, options=Options(workers=1))


def test_complex_parameters_are_refused():
    class Complex(Toy):
        def model(self, config):
            return torch.nn.Linear(4, 1, dtype=torch.complex64)

    with pytest.raises(PopulationError, match="parameter 'weight' is complex"):
        Population(Complex(), [Replica(0)])


def test_a_part_of_a_study_keeps_the_claims_of_the_whole():
    arms = (Arm("none"), Arm("noise", {"clip": 0.5}), Arm("more", {"clip": 0.25}))
    whole = small(arms=arms, claims=(claim(), claim(id="C2", treatment="more"), claim(id="C3", row="b")))
    part = whole.with_rows(["a"]).with_arms(["noise"])
    assert part.claims == whole.claims
    with pytest.raises(StudyError, match="claim 'C3' has row 'b'"):
        small(settings=part.settings, arms=arms, claims=part.claims)
