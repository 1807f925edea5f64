"""Dropout whose masks belong to a replica: a pure function of (seed, layer, step), whoever trains with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gradnoise.errors import PopulationError
from gradnoise.noise.gaussian import bernoulli_rows_, stream_key

MASK = "mask"


class MaskedDropout(nn.Module):
    """Stands in for nn.Dropout: multiplies by a mask that the engine refills before every step.

    A layer that the first pass did not use exactly once draws each time instead; `mask` then holds its rate.
    """

    mask: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.shapes: list[torch.Size] = []
        self.traced = False
        self.register_buffer(MASK, torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x in evaluation mode, x * mask in training; the mask is 0 or 1 / (1 - p)."""
        if not self.training:
            return x
        if self.traced and len(self.shapes) != 1:
            keep = 1 - self.mask
            return x * torch.bernoulli(keep.expand(x.shape)) / torch.where(keep > 0, keep, 1)
        if self.mask.dim() == 0:  # the dry run that finds out the mask's shape
            self.shapes.append(x.shape)
        elif self.mask.shape != x.shape:
            raise PopulationError(
                f"a dropout layer got an input of shape {tuple(x.shape)} after {tuple(self.mask.shape)} in the"
                " first minibatch; dropout in a population needs minibatches of one shape"
            )
        return x * self.mask


def replace_dropout(model: nn.Module) -> nn.Module:
    """Swap every nn.Dropout of a model for a `MaskedDropout`, in place; other random layers draw when they are used."""
    for name, child in list(model._modules.items()):  # named_children() passes over a layer's second use
        if child is None:
            continue
        if type(child) is nn.Dropout:
            setattr(model, name, MaskedDropout(child.p))
        else:
            replace_dropout(child)
    return model


@dataclass
class DropoutMasks:
    """The masks of all dropout layers of a population: one [P, ...] tensor a layer, refilled every step.

    `several` has the rates [P] of layers that the first pass did not use exactly once.
    """

    names: list[str]
    masks: list[Tensor]
    keys: list[Tensor]
    keep: list[Tensor]
    several: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def trace(
        cls,
        layers: dict[str, MaskedDropout],
        seeds: Sequence[int],
        rates: Sequence[float | None],
        theta: Tensor,
    ) -> DropoutMasks:
        """Allocate masks for the layers that a dry run has passed through.

        Args:
            layers: dropout layers by name, with the shapes they saw.
            seeds: dropout seed of each replica.
            rates: dropout rate of each replica; None keeps the layer's own.
            theta: parameters [P, N], for dtype and device.
        """
        result = cls([], [], [], [])
        for name, layer in layers.items():
            layer.traced = True
            keep = [1 - (layer.p if rate is None else rate) for rate in rates]
            if len(layer.shapes) != 1:
                rows = torch.tensor(keep, dtype=theta.dtype, device=theta.device)
                result.several[f"{name}.{MASK}"] = 1 - rows
                continue
            result.names.append(f"{name}.{MASK}")
            result.masks.append(torch.ones(len(seeds), *layer.shapes[0], dtype=theta.dtype, device=theta.device))
            keys = [stream_key(seed, f"dropout {name}") for seed in seeds]
            result.keys.append(torch.tensor(keys, dtype=torch.uint64, device=theta.device))
            result.keep.append(torch.tensor(keep, dtype=torch.float64, device=theta.device))
        return result

    def refill(self, t: Tensor) -> dict[str, Tensor]:
        """Draw the masks of update `t`, 0-dim int64, and return them by name of the buffer, [P, ...] each."""
        for mask, keys, keep in zip(self.masks, self.keys, self.keep, strict=True):
            bernoulli_rows_(mask.flatten(1), keys=keys, t=t.expand(len(mask)), keep=keep)
        return dict(zip(self.names, self.masks, strict=True)) | self.several

    def select(self, rows: Tensor) -> None:
        """Keep some replicas."""
        self.masks = [m[rows] for m in self.masks]
        self.keys = [k.view(torch.int64)[rows].view(torch.uint64) for k in self.keys]
        self.keep = [k[rows] for k in self.keep]
        self.several = {name: rate[rows] for name, rate in self.several.items()}
