"""Deep MLP on handwritten digits: data, loss and metrics (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradnoise.data import ImageData
from gradnoise.paper.deep_mlp.model import DeepMLP
from gradnoise.population import Experiment, Minibatches

EVALUATION_BATCH = 1000
#: Test accuracy in % of a model whose outputs are nan: argmax takes class 0, which is 980 of MNIST's 10,000.
CLASS_OF_NAN = 0


class DeepMLPExperiment(Experiment):
    """Train a `DeepMLP` on images with pixels scaled to [0, 1] and minibatch mean cross-entropy.

    Metrics: test_accuracy and test_loss on the whole test set (%, nats), and hidden_weight_sd, the root
    mean square of the weights between hidden layers, which decides whether signals vanish on their way.

    Args:
        data: images and labels.
        shuffle_labels: seed for permuting the training labels; a check that must leave every arm at chance.
    """

    name = "deep-mlp"
    replica_keys = frozenset({"init"})

    def __init__(self, data: ImageData, shuffle_labels: int | None = None) -> None:
        self.fingerprint = data.fingerprint + ("" if shuffle_labels is None else f"-shuffled{shuffle_labels}")
        self.data_title, self.stand_in = data.title, data.is_stand_in
        labels = data.train_labels.long()
        if shuffle_labels is not None:
            generator = torch.Generator().manual_seed(shuffle_labels)
            labels = labels[torch.randperm(len(labels), generator=generator)]
        self._train = (data.train_images, labels)
        self._test = (data.test_images.float() / 255, data.test_labels.long())
        self._place = torch.device("cpu")

    def model(self, config: Mapping[str, Any]) -> nn.Module:
        """The network of `config`: depth, width, init, dropout."""
        wanted = {k: config[k] for k in ("depth", "width", "init", "dropout") if config.get(k) is not None}
        return DeepMLP(**wanted)

    def batch(self, seed: int, t: int, config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """B images [B, 784] in [0, 1] and labels [B]; `config["batch_size"]` is B, 100 unless given."""
        self._move()
        images, labels = Minibatches(self._train, config.get("batch_size", 100))(seed, t)
        return images.to(self.dtype) / 255, labels

    def loss(self, model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy."""
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    def evaluate(self, model: nn.Module) -> dict[str, Tensor]:
        """Accuracy (%) and loss on the test set, and the scale of the hidden weights."""
        self._move()
        correct, loss = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for x, y in zip(*(part.split(EVALUATION_BATCH) for part in self._test), strict=True):
            logits = model(x.to(self.dtype))
            correct = correct + (logits.argmax(1) == y).sum()
            loss = loss + nn.functional.cross_entropy(logits, y, reduction="sum")
        n = len(self._test[1])
        hidden = [m.weight for m in model.modules() if isinstance(m, nn.Linear)][1:-1]
        scale = {"hidden_weight_sd": torch.stack([w.square().mean() for w in hidden]).mean().sqrt()} if hidden else {}
        return {"test_accuracy": 100 * correct / n, "test_loss": loss / n} | scale

    def broken(self) -> dict[str, float]:
        """What a model of nans scores: argmax answers class 0 everywhere."""
        return {"test_accuracy": 100 * float((self._test[1] == CLASS_OF_NAN).double().mean())}

    def chance(self) -> float:
        """Accuracy (%) of always answering the most frequent class of the test set: 11.35 on MNIST."""
        return 100 * self._test[1].bincount().max().item() / len(self._test[1])

    def _move(self) -> None:
        if self._place != self.device:
            self._train = tuple(x.to(self.device) for x in self._train)
            self._test = tuple(x.to(self.device) for x in self._test)
            self._place = self.device
