"""How a text is read: in B columns side by side, a window of T words at a time, each column going on where it was."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from gradnoise.errors import DataError


class Window(NamedTuple):
    """What a model sees at once: words and the words that follow them, ids int64 [T, B]."""

    tokens: Tensor
    targets: Tensor


class Columns:
    """A text cut into B runs of equal length; what is left at the end is dropped.

    Args:
        text: ids, int64 [n].
        batch_size: B.
        unroll: T, words in a window.

    Raises:
        DataError: the text is too short for one window.
    """

    def __init__(self, text: Tensor, batch_size: int, unroll: int) -> None:
        if len(text) < batch_size * (unroll + 1):
            raise DataError(
                f"a text of {len(text):,} words is too short for {batch_size} columns with windows of {unroll} words:"
                f" {batch_size * (unroll + 1):,} are needed"
            )
        length = len(text) // batch_size
        self._columns = text[: batch_size * length].view(batch_size, length).t().contiguous()
        self._unroll = unroll
        self.windows = (length - 1) // unroll

    def __getitem__(self, i: int) -> Window:
        """Return window i = 0 .. `windows` - 1."""
        first, last = i * self._unroll, (i + 1) * self._unroll
        return Window(self._columns[first:last], self._columns[first + 1 : last + 1])


def streams(texts: list[Tensor], unroll: int) -> list[Window]:
    """Cut whole texts, read side by side from their first to their last word, into windows of at most T words.

    Args:
        texts: ids, the longest text first; a shorter one leaves the windows where it ends.
        unroll: T.

    Returns:
        Windows [T, S], where S falls from len(texts) to 1 and every word but the first of each text is a target once.
    """
    found, start = [], 0
    for k in reversed(range(len(texts))):
        side_by_side = texts[: k + 1]
        while start < (end := len(texts[k]) - 1):
            stop = min(start + unroll, end)
            found.append(Window(*(_side_by_side(side_by_side, start + s, stop + s) for s in (0, 1))))
            start = stop
    return found


def _side_by_side(texts: list[Tensor], start: int, stop: int) -> Tensor:
    rows = texts[0].new_empty(stop - start, len(texts))
    for k, text in enumerate(texts):
        rows[:, k] = text[start:stop]
    return rows
