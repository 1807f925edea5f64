"""Gaussian noise as a pure function z(seed, stream, t, index) of four numbers: no generator, no state.

The mapping is version `VERSION`, frozen: Philox4x32-10 keyed by seed and stream name counts blocks of four
elements and steps; Box-Muller in float32 makes four normals of each block. Every device and backend gives the
same bits.
"""

from gradnoise.noise.gaussian.api import (
    add_,
    add_parts_,
    add_rows_,
    add_whole_,
    bernoulli_rows_,
    normal,
    square_sum,
    word_rows,
)
from gradnoise.noise.gaussian.arguments import check_step
from gradnoise.noise.gaussian.backends import backend
from gradnoise.noise.gaussian.contract import Backend
from gradnoise.noise.gaussian.numba_cache import compiled
from gradnoise.noise.gaussian.parts import Part, is_plain
from gradnoise.noise.gaussian.stream import VERSION, stream_key
from gradnoise.noise.gaussian.threads import split

__all__ = [
    "VERSION",
    "Backend",
    "Part",
    "add_",
    "add_parts_",
    "add_rows_",
    "add_whole_",
    "backend",
    "bernoulli_rows_",
    "check_step",
    "compiled",
    "is_plain",
    "normal",
    "split",
    "square_sum",
    "stream_key",
    "word_rows",
]
