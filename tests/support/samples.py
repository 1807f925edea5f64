"""Random numbers and hypothesis strategies for the tests of statistics."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

quick = settings(max_examples=60, deadline=None)
numbers = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)
tied = st.integers(-3, 3).map(float)
samples = st.lists(numbers, min_size=2, max_size=10) | st.lists(tied, min_size=2, max_size=10)
counts = st.integers(0, 60)


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
