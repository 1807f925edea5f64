"""Memory that ran out, told from everything else that can go wrong, whatever library says it in whatever words."""

from __future__ import annotations

import errno

import torch

#: What torch, its libraries and C++ say of it besides raising their own kinds of errors.
WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "alloc_failed",
    "insufficient memory",
    "outofmemory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error, or one that it was raised from, is that memory ran out."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS):
            return True
        error = error.__cause__  # type: ignore[assignment]
    return False
