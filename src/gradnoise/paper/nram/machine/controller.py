"""Controllers: what reads the machine's registers and decides what its modules do (Kurach et al. 2016, section 3.2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

#: The controller's own state between time steps: (h, c) of the LSTM, nothing for the MLP.
Memory = tuple[Tensor, ...]


class LSTMController(nn.Module):
    """One layer of H ReLU units, then an LSTM of H cells (no peepholes).

    Args:
        inputs: number of inputs, R.
        units: H.
    """

    kind: ClassVar[str] = "lstm"

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.input = nn.Linear(inputs, units)
        self.gates = nn.Linear(2 * units, 4 * units)

    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """Return the first layer and the second."""
        return self.input, self.gates

    def start(self, z: Tensor) -> Memory:
        """Return the zero state for inputs z [B, R]."""
        zero = z.new_zeros(*z.shape[:-1], self.units)
        return zero, zero

    def forward(self, z: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Return h [B, H] and the new state, from inputs z [B, R] and the state (h, c) [B, H] each."""
        h, c = state
        y = self.input(z).relu()
        i, f, o, u = self.gates(torch.cat([y, h], -1)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * u.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


class MLPController(nn.Module):
    """Two layers of H ReLU units, without state.

    Args:
        inputs: number of inputs, R.
        units: H.
    """

    kind: ClassVar[str] = "mlp"

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.first = nn.Linear(inputs, units)
        self.second = nn.Linear(units, units)

    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """Return the first layer and the second."""
        return self.first, self.second

    def start(self, z: Tensor) -> Memory:
        """Return the state, which is empty."""
        return ()

    def forward(self, z: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Return h [B, H] and no state, from inputs z [B, R]."""
        return self.second(self.first(z).relu()).relu(), ()


Controller = LSTMController | MLPController
CONTROLLERS: dict[str, type[Controller]] = {made.kind: made for made in (LSTMController, MLPController)}
