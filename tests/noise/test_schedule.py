import math

import numpy as np
import pytest

from gradnoise.noise.schedule import Annealed, Fixed, sigma


def test_annealed_is_the_paper_s_equation():
    schedule = Annealed(eta=0.3, gamma=0.55)
    assert schedule(0) == 0.3
    assert schedule(1) == pytest.approx(0.3 / 2**0.55, rel=1e-15)
    assert schedule(10**6) == pytest.approx(0.3 / 1000001**0.55, rel=1e-15)


def test_gamma_is_0_55_by_default():
    assert Annealed(1.0) == Annealed(1.0, 0.55)


def test_fixed_squares_the_standard_deviation():
    assert Fixed(0.1)(0) == Fixed(0.1)(10**6) == 0.1**2


@pytest.mark.parametrize("schedule", [Annealed(0.01), Annealed(1.0, 0), Fixed(0.5)])
def test_an_array_of_steps_gives_the_same_variances(schedule):
    t = np.array([[0, 1, 2], [10, 10**6, 2**40]])
    variances = schedule(t)
    assert variances.dtype == np.float64 and variances.shape == t.shape
    assert variances.tolist() == [[schedule(int(s)) for s in row] for row in t]


def test_a_float32_array_does_not_lower_the_precision():
    assert Annealed(0.3)(np.float32(7)) == Annealed(0.3)(7)


@pytest.mark.parametrize("bad", [-1e-9, math.nan, math.inf])
@pytest.mark.parametrize(
    "make, name",
    [(lambda v: Annealed(eta=v), "eta"), (lambda v: Annealed(1.0, gamma=v), "gamma"), (Fixed, "sigma")],
)
def test_settings_out_of_range_are_named(make, name, bad):
    with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0, got {bad}"):
        make(bad)


def test_sigma_is_the_root_of_the_variance():
    assert sigma(Annealed(0.01), 0) == 0.1
    assert sigma(lambda t: 4 * t, 9) == 6.0


@pytest.mark.parametrize("returned", [-1e-9, math.nan, math.inf, None, "high", np.ones(2)])
def test_a_schedule_s_bad_value_is_named_with_its_step(returned):
    def schedule(t):
        return returned if t == 7 else 1.0

    assert sigma(schedule, 6) == 1.0
    with pytest.raises(ValueError, match="at t = 7 it returned"):
        sigma(schedule, 7)
