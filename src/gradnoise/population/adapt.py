"""What a user's model brings along that a population does not need, or cannot train: taken off, or told of."""

from __future__ import annotations

import cProfile
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
import torch.amp.autocast_mode
import torch.utils.checkpoint
from torch import nn
from torch.nn.parameter import is_lazy

from gradnoise.errors import PopulationError
from gradnoise.population.reasons import place_of_call

CHECKPOINT, AUTOCAST = "checkpoint", "autocast"
_TORCH = str(Path(torch.__file__).parent)
#: File of torch -> what is looked for in it.
_WATCHED = {torch.utils.checkpoint.__file__: CHECKPOINT, torch.amp.autocast_mode.__file__: AUTOCAST}


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
def without_surprises(name: str, in_one_program: Callable[[], bool]) -> Iterator[None]:
    """Refuse, within a block, what would train something else without a word.

    Activation checkpointing runs the model's code again in the backward pass, with the parameters that the module
    itself holds and not those of the replica. Autocast reaches only some operations under vmap.

    Args:
        name: what runs, for messages.
        in_one_program: says after the block whether vmap ran it.

    Raises:
        PopulationError: the block used one of them.
    """
    importlib.import_module("torch._dynamo")  # torch does so in the block, twice as slowly while calls are watched
    before, seen = sys.getprofile(), {}

    def look(frame: FrameType, event: str, argument: object) -> None:
        if event != "call" or frame.f_code.co_filename not in _WATCHED:
            return
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        what = _WATCHED[frame.f_code.co_filename]
        if what == CHECKPOINT or (frame.f_code.co_name == "__enter__" and not caller.startswith(_TORCH)):
            seen.setdefault(what, place_of_call())

    sys.setprofile(look)
    try:
        yield
    finally:
        _resume(before)
        if CHECKPOINT in seen:
            raise PopulationError(
                f"{name} uses torch.utils.checkpoint{seen[CHECKPOINT]}; it would run the model again with other"
                " parameters than the replica's: leave activation checkpointing out"
            )
    if AUTOCAST in seen and in_one_program():
        raise PopulationError(
            f"{name} uses torch.autocast{seen[AUTOCAST]}, which reaches only some operations of a population: leave it"
            ' out; on a GPU torch.set_float32_matmul_precision("high") makes matrix products fast'
        )


def _resume(profiler: object) -> None:
    """Let a profiler go on: a function, or the object of cProfile, which `sys.setprofile` does not take back."""
    sys.setprofile(None)
    if callable(profiler):
        sys.setprofile(profiler)
    elif isinstance(profiler, cProfile.Profile):
        profiler.enable()
