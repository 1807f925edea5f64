"""Numbers that define version 1 of the mapping; every backend computes with exactly these.

A block (counter b, t) gives four words w0..w3 by Philox4x32-10 and from them four normals. With j = 0, 1:

    r = sqrt(-2 ln u),  u = (w_j + 1/2) 2^-32
    a = (pi/2) y,       y = (int32(2 w_{j+2}) + 1) 2^-31 in (-1, 1)
    normal 2j = +-r cos a (minus where the top bit of w_{j+2} is set),  normal 2j+1 = r sin a

so (cos, sin) is uniform on the circle. |z| reaches sqrt(66 ln 2) = 6.76. Everything is computed in float32
with one rounding per operation, in the order that `reference.py` writes down: no fused multiply-add, no libm.
"""

from __future__ import annotations

import numpy as np

# Philox4x32-10: multipliers of the two lanes, increments of the key, rounds (Salmon et al. 2011).
M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
MASK32 = 0xFFFFFFFF


def _float32(*values: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(v) for v in values)


# -2 ln(1+x) = x Q(x) on [sqrt(1/2) - 1, sqrt(2) - 1]: minimax in relative error, 1.7e-7.
LOG = _float32(-1.99999988, 1.00000727, -0.666701198, 0.499398172, -0.39800331, 0.345016599, -0.324451566, 0.202137873)
LN2 = np.float32(-1.38629436)  # -2 ln 2
# sin(pi/2 y) = y S(y^2) and cos(pi/2 y) = C(y^2) on [-1, 1]: minimax, 5e-9 relative and 5e-8 absolute.
SIN = _float32(1.57079637, -0.645963728, 0.0796896815, -0.00467376644, 0.000151485132)
COS = _float32(0.99999994, -1.23369825, 0.253650755, -0.0208106283, 0.000858190644)

# Bits of float32 numbers, as int32.
SQRT_HALF_BITS = 0x3F3504F3
ONE_BITS = 0x3F800000
MANTISSA_BITS = 0x007FFFFF
SIGN_BIT = -(2**31)
