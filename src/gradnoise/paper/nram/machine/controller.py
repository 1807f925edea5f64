"""Controllers: what reads the machine's registers and decides what its modules do (Kurach et al. 2016, section 3.2)."""

from __future__ import annotations

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

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.input = nn.Linear(inputs, units)
        self.gates = nn.Linear(2 * units, 4 * units)

    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """The first layer and the second."""
        return self.input, self.gates

    def start(self, z: Tensor) -> Memory:
        """Zero state for inputs z [B, R]."""
        zero = z.new_zeros(*z.shape[:-1], self.units)
        return zero, zero

    def forward(self, z: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Inputs z [B, R] and state (h, c) [B, H] each -> h [B, H] and the new state."""
        h, c = state
        y = self.input(z).relu()
        i, f, o, u = self.gates(torch.cat([y, h], -1)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * u.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


class MLPController(nn.Module):
    """Two layers of H ReLU units, without state."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.first = nn.Linear(inputs, units)
        self.second = nn.Linear(units, units)

    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """The first layer and the second."""
        return self.first, self.second

    def start(self, z: Tensor) -> Memory:
        """No state."""
        return ()

    def forward(self, z: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """Inputs z [B, R] -> h [B, H]."""
        return self.second(self.first(z).relu()).relu(), ()


CONTROLLERS: dict[str, type[LSTMController] | type[MLPController]] = {"lstm": LSTMController, "mlp": MLPController}
