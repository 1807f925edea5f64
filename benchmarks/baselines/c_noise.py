"""The noise kernel in C, compiled on the spot, as the alternative to Numba."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")


def c_kernel() -> Callable[[Tensor, int, int, float], None] | None:
    """A function that adds noise to a contiguous float32 tensor: (x, key, t, sigma); None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "noise.so"
        source = Path(__file__).with_name("noise.c")
        subprocess.run([compiler, *FLAGS, "-o", library, source, "-lm"], check=True)
        add = ctypes.CDLL(str(library)).add_noise
    add.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_float]
    return lambda x, key, t, sigma: add(x.data_ptr(), x.numel(), key, t, sigma)
