"""The LSTM language model of Zaremba et al. 2014 (arXiv 1409.2329): dropout on the vertical paths only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gradnoise.paper.lstm_lm.lookup import lookup
from gradnoise.paper.lstm_lm.recurrence import lstm
from gradnoise.paper.lstm_lm.softmax import softmax_loss
from gradnoise.population import PopulationError


class LSTMLayer(nn.Module):
    """One layer: H inputs to H units.

    Args:
        units: H.
        biases: 2 gives the input and the recurrent part a bias each, as the authors' program and torch.nn.LSTM do; 1
            gives both together one.
    """

    def __init__(self, units: int, biases: int) -> None:
        super().__init__()
        self.input = nn.Linear(units, 4 * units)
        self.recurrent = nn.Linear(units, 4 * units, bias=biases == 2)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states [T, B, H] and the last cell state [B, H], given inputs [T, B, H] and states [B, H]."""
        bias = self.input.bias if self.recurrent.bias is None else self.input.bias + self.recurrent.bias
        z = nn.functional.linear(x, self.input.weight, bias)
        return lstm(z, self.recurrent.weight, h, c)


class LSTMLanguageModel(nn.Module):
    """Embedding, L layers of LSTM, softmax over the vocabulary; nothing is tied.

    Dropout, where there is any, stands on the embedding, between layers and before the softmax, with a mask of its own
    for every time step; what a layer hands to its next time step never sees it.

    Args:
        words: V, size of the vocabulary.
        units: H, of the embedding and every layer.
        layers: L.
        dropout: p in [0, 1); 0 leaves the dropout layers out.
        init: a > 0; every parameter is drawn from Uniform(-a, a).
        biases: 1 or 2 for each layer, see `LSTMLayer`.

    Raises:
        PopulationError: a value is out of range.
    """

    def __init__(
        self, words: int, units: int, layers: int = 2, dropout: float = 0.0, init: float = 0.1, biases: int = 2
    ) -> None:
        super().__init__()
        for name, value in (("words", words), ("units", units), ("layers", layers)):
            if value < 1:
                raise PopulationError(f"{name} = {value}: at least 1 is needed")
        if not 0 <= dropout < 1:
            raise PopulationError(f"dropout = {dropout} is outside [0, 1)")
        if not init > 0:
            raise PopulationError(f"init = {init}: the range of initial weights is > 0")
        if biases not in (1, 2):
            raise PopulationError(f"biases = {biases}: a layer has 1 or 2")
        self.embedding = nn.Embedding(words, units)
        self.layers = nn.ModuleList(LSTMLayer(units, biases) for _ in range(layers))
        self.drops = nn.ModuleList(nn.Dropout(dropout) for _ in range(layers + 1 if dropout else 0))
        self.softmax = nn.Linear(units, words)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -init, init)

    def forward(self, tokens: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features [T, B, H] that the softmax reads, and the states [L, B, H] after the last step.

        Args:
            tokens: ids, int64 [T, B].
            h, c: hidden and cell states before the first step [L, B, H].
        """
        x = lookup(self.embedding.weight, tokens.flatten()).unflatten(0, tokens.shape)
        hidden, cells = [], []
        for k, layer in enumerate(self.layers):
            x, cell = layer(self._dropped(k, x), h[k], c[k])
            hidden.append(x[-1])
            cells.append(cell)
        return self._dropped(-1, x), torch.stack(hidden), torch.stack(cells)

    def _dropped(self, place: int, x: Tensor) -> Tensor:
        return self.drops[place](x) if len(self.drops) else x

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return -log p summed over all T * B targets [T, B], given the features of `forward`."""
        return softmax_loss(features.flatten(0, 1), self.softmax.weight, self.softmax.bias, targets.flatten())

    def log_losses(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return -log p of each target [T, B], without the gradient's memory."""
        logits = self.softmax(features.flatten(0, 1))
        return nn.functional.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)
