"""Values that can be no such thing are refused where they are given, in one sentence."""

import math
import re

import pytest
import torch
from support.small import Toy, small

from gradnoise import Annealed, attach
from gradnoise.population import Population, PopulationError, Replica
from gradnoise.study import Arm, Claim, Metric, Options, Setting, StudyError


def claim(**changes) -> Claim:
    values = {"row": "a", "treatment": "noise", "expects": "helps"} | changes
    return Claim("C1", statement="Noise helps.", source="A paper", **values)


WRONG = {
    "workers 0": (lambda: Options(workers=0), "workers is 0, a int; it must be a whole number or None >= 1"),
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


def test_complex_parameters_are_refused():
    class Complex(Toy):
        def model(self, config):
            return torch.nn.Linear(4, 1, dtype=torch.complex64)

    with pytest.raises(PopulationError, match="parameter 'weight' is complex"):
        Population(Complex(), [Replica(0)])


def test_a_part_of_a_study_keeps_the_claims_of_the_whole():
    arms = (Arm("none"), Arm("noise", {"clip": 0.5}), Arm("more", {"clip": 0.25}))
    whole = small(arms=arms, claims=(claim(), claim(treatment="more"), claim(row="b")))
    part = whole.with_rows(["a"]).with_arms(["noise"])
    assert part.claims == whole.claims
    with pytest.raises(StudyError, match="claim 'C1' has row 'b'"):
        small(settings=part.settings, arms=arms, claims=part.claims)
