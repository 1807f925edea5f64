"""Deep MLP on handwritten digits: data, loss and metrics (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradnoise.data import ImageData
from gradnoise.paper.deep_mlp.model import DeepMLP
from gradnoise.population import Data, Examples, Experiment, Minibatches

EVALUATION_BATCH = 1000
#: The largest value of a byte, which is a white pixel.
BYTES = 255
#: Test accuracy in % of a model whose outputs are nan: argmax takes class 0, which is 980 of MNIST's 10,000.
CLASS_OF_NAN = 0

Images = tuple[Tensor, Tensor]


class DeepMLPExperiment(Experiment):
    """Train a `DeepMLP` on images with minibatch mean cross-entropy.

    Metrics: test_accuracy and test_loss on the whole test set (%, nats), and hidden_weight_sd, the root
    mean square of the weights between hidden layers, which decides whether signals vanish on their way.

    Args:
        data: images and labels.
        shuffle_labels: seed for permuting the training labels; a control that must leave every arm at chance.
    """

    @dataclass(frozen=True)
    class Config:
        """Settings of a deep MLP.

        Args:
            depth, width, init, dropout: see `DeepMLP`; dropout None or 0 leaves dropout out.
            batch_size: B, images in a minibatch.
            white: value of a white pixel, with black at 0: 1, or 255 for the raw bytes of the files.
        """

        depth: int = 20
        width: int = 50
        init: str = "simple"
        dropout: float | None = None
        batch_size: int = 100
        white: float = 1.0

    name = "deep-mlp"
    replica_keys = frozenset({"init", "dropout"})

    def __init__(self, data: ImageData, shuffle_labels: int | None = None) -> None:
        fingerprint = data.fingerprint + ("" if shuffle_labels is None else f"-shuffled{shuffle_labels}")
        self.data = Data(data.title, fingerprint, data.is_stand_in)
        labels = data.train_labels.long()
        if shuffle_labels is not None:
            generator = torch.Generator().manual_seed(shuffle_labels)
            labels = labels[torch.randperm(len(labels), generator=generator)]
        self._train = (data.train_images, labels)
        self._test = (data.test_images, data.test_labels.long())

    def model(self, config: Config) -> nn.Module:
        """Return the network of a configuration."""
        return DeepMLP(config.depth, config.width, config.init, config.dropout or 0.0)

    def batch(self, seed: int, t: int, config: Config) -> Examples:
        """Return B images [B, 784] in [0, white] and labels [B]."""
        return Minibatches(self._train, config.batch_size, bytes_over=BYTES / config.white)(seed, t)

    def loss(self, model: Callable[[Tensor], Tensor], batch: Images, config: Config) -> Tensor:
        """Return the mean cross-entropy."""
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    def held_out(self, config: Config) -> Images:
        """Return the test set: images in [0, white], and labels."""
        images, labels = self._test
        return images.float() / (BYTES / config.white), labels

    def evaluate(self, model: nn.Module, held_out: Images, config: Config) -> dict[str, Tensor]:
        """Return accuracy (%) and loss on the test set, and the scale of the hidden weights."""
        images, labels = held_out
        correct, loss = torch.zeros((), device=images.device), torch.zeros((), device=images.device)
        for x, y in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
            logits = model(x)
            correct = correct + (logits.argmax(1) == y).sum()
            loss = loss + nn.functional.cross_entropy(logits, y, reduction="sum")
        hidden = [m.weight for m in model.modules() if isinstance(m, nn.Linear)][1:-1]
        scale = {"hidden_weight_sd": torch.stack([w.square().mean() for w in hidden]).mean().sqrt()} if hidden else {}
        return {"test_accuracy": 100 * correct / len(labels), "test_loss": loss / len(labels)} | scale

    def diverged_metrics(self) -> dict[str, float]:
        """Return what a model of nans scores: argmax answers class 0 everywhere."""
        return {"test_accuracy": 100 * float((self._test[1] == CLASS_OF_NAN).double().mean())}

    def chance(self) -> float:
        """Return the accuracy (%) of always answering the most frequent class of the test set: 11.35 on MNIST."""
        return 100 * self._test[1].bincount().max().item() / len(self._test[1])
