"""What a user's model brings along that a population does not need, or cannot train: taken off, or told of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch.utils.checkpoint
from torch import nn
from torch.nn.parameter import is_lazy

from gradnoise.errors import PopulationError
from gradnoise.population.reasons import place_of_call


def adapted(model: nn.Module, name: str) -> nn.Module:
    """Return a model without torch.compile: the engine records the step itself, and compiles it where asked to.

    Args:
        model: what `Experiment.model` returned.
        name: of the experiment.

    Raises:
        PopulationError: a layer waits for its first input to know its shape.
    """
    model = _unwrapped(model)
    for module in list(model.modules()):
        module._compiled_call_impl = None  # of `module.compile()`
        for child_name, child in list(module._modules.items()):
            if child is not None:
                module._modules[child_name] = _unwrapped(child)
    for parameter, value in model.named_parameters():
        if is_lazy(value):
            raise PopulationError(
                f"{name}.model: {parameter!r} is of a lazy layer and has no shape yet; give the number of inputs, or"
                " pass an example through the model before you return it"
            )
    return model


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of what `torch.compile` made."""
    inside = getattr(module, "_orig_mod", None)
    return inside if isinstance(inside, nn.Module) else module


@contextmanager
def no_checkpointing(name: str) -> Iterator[None]:
    """Refuse activation checkpointing within a block.

    It runs the model's code again in the backward pass, with the parameters that the module itself holds and not those
    of the replica: the gradients would be wrong without a word.

    Raises:
        PopulationError: the block used it.
    """
    place = torch.utils.checkpoint.__file__
    before = sys.getprofile()
    seen: list[str] = []

    def look(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and not seen and frame.f_code.co_filename == place:
            seen.append(place_of_call())

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
        if seen:
            raise PopulationError(
                f"{name} uses torch.utils.checkpoint{seen[0]}; it would run the model again with other parameters than"
                " the replica's: leave activation checkpointing out"
            )
