"""Names of noise streams and their 64-bit keys."""

from __future__ import annotations

import hashlib
import operator

VERSION = 1
"""Version of the mapping (seed, stream, t, index) -> z. It changes when any of the numbers would."""


def stream_key(seed: int, name: str) -> int:
    """Return the 64-bit key of one noise stream: the first 8 bytes of blake2b over (version, seed, name).

    Args:
        seed: any integer.
        name: name of the stream, such as a parameter's qualified name; any string.

    Returns:
        The key, in [0, 2^64).

    Raises:
        ValueError: seed is not an integer or name not a string.

    Example:
        >>> hex(stream_key(0, "weight"))
        '0xf04260cba073f3eb'
    """
    if not isinstance(name, str):
        raise ValueError(f"a stream's name must be a string, got {name!r}")
    try:
        number = operator.index(None if isinstance(seed, bool) else seed)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"seed must be an integer, got {seed!r}") from None
    # The seed is written in decimal, so the second slash ends it and no two (seed, name) share a text.
    text = f"gradnoise.gaussian {VERSION}/{number}/{name}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
