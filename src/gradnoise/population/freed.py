"""Memory on a CPU: what one update frees is kept for the next one."""

from __future__ import annotations

import ctypes
import functools
import os
import sys

#: Parameters of glibc's `mallopt`, and what they become: so much free memory is kept before any goes back, and pieces
#: up to the most that glibc allows come from what is kept.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT, LARGEST = 1 << 30, 1 << 25
#: Variables by which a user sets the same.
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@functools.cache
def keep_freed_memory() -> bool:
    """Have the C library keep what is freed, and say whether it does; for the whole process.

    An update frees as much as it takes. By default glibc hands most of it back, and the system clears every page anew:
    up to a quarter of the time of an update, or nothing, as the pieces happen to lie. Other C libraries, and users who
    set glibc's variables, decide for themselves.
    """
    if sys.platform != "linux" or any(name in os.environ for name in CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, LARGEST))
