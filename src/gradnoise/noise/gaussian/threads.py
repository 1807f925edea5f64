"""Runs a kernel over a range of elements on several threads of this process."""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

CHUNK = 1 << 16
"""Elements per piece of work, some 0.1 ms. Smaller work stays on the calling thread."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="gradnoise")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def split(work: Callable[[int, int], object], total: int, threads: int) -> None:
    """Call work(lo, hi) on pieces that together make [0, total), on up to `threads` threads.

    The calling thread takes part, so that a busy pool delays nothing and a slow core takes fewer pieces.
    `work` must release the GIL to gain from this, and its result must not depend on the pieces.

    Args:
        work: called with 0 <= lo < hi <= total.
        total: number of elements.
        threads: most threads to use, the calling one included.
    """
    pieces = -(-total // CHUNK)
    if pieces < 2 or threads < 2:
        work(0, total)
        return
    bounds = [total * i // pieces for i in range(pieces + 1)]
    waiting = deque(itertools.pairwise(bounds))

    def drain() -> None:
        while True:
            try:
                lo, hi = waiting.popleft()
            except IndexError:
                return
            work(lo, hi)

    helpers = [_pool().submit(drain) for _ in range(min(threads, pieces) - 1)]
    drain()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
