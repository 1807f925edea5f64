"""Families of comparisons: adjusted p-values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import quick, rng

from gradnoise.study.analysis.statistics import holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@quick
@given(st.lists(st.floats(0.0, 1.0), max_size=12))
def test_holm_is_above_raw_in_the_same_order(pvalues):
    adjusted = holm(pvalues)
    assert np.all(adjusted >= pvalues) and np.all(adjusted <= 1.0)
    assert np.all(np.diff(adjusted[np.argsort(pvalues, kind="stable")]) >= 0.0)
    assert np.array_equal(holm(pvalues[::-1]), adjusted[::-1])


def test_holm_keeps_the_level_of_the_family():
    # 4000 families of 5 true nulls: any claim in 5%; four standard errors, a false alarm once in 30000 seeds.
    families = rng(11).random((4000, 5))
    claimed = np.mean([holm(p).min() <= 0.05 for p in families])
    assert claimed < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4000)


def test_holm_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match=r"span 0\.1 to 1\.2"):
        holm([0.1, 1.2])


def test_holm_against_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    pvalues = rng(13).random(20) ** 3
    assert holm(pvalues) == pytest.approx(multitest.multipletests(pvalues, method="holm")[1])
