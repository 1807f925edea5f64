"""Where dropout stands: a layer for every place, so that each has masks of its own."""

from __future__ import annotations

from torch import nn


class Dropouts(nn.Module):
    """Dropout in the places of the first author's later system: a share `keep` of values stays.

    On the recurrent states of both networks (1 + keep) / 2 stay, with one mask for a whole sequence. The operations
    have one mask for a whole minibatch; columns have new ones in each step, which the history sees, too.

    Args:
        steps: T.
        directions: of the encoder.
        keep: in (0, 1).
    """

    def __init__(self, steps: int, directions: int, keep: float) -> None:
        super().__init__()
        rate, recurrent = 1 - keep, (1 - keep) / 2
        self.words = nn.Dropout(rate)
        self.encoder = nn.ModuleList(nn.Dropout(recurrent) for _ in range(directions))
        self.operations = nn.Dropout(rate)
        self.select_operation = nn.ModuleList(nn.Dropout(rate) for _ in range(steps))
        self.select_column = nn.ModuleList(nn.Dropout(rate) for _ in range(steps))
        self.columns = nn.ModuleList(nn.Dropout(rate) for _ in range(steps))
        self.context = nn.ModuleList(nn.Dropout(rate) for _ in range(steps - 1))
        self.history = nn.Dropout(recurrent)
