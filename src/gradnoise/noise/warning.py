"""How a warning is given: at the line of the user's own code, and for each optimizer anew."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import FrameType

import torch

#: Folders whose code is not the user's.
_INSIDE = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(torch.__file__).parent))


def say(sentence: str) -> None:
    """Warn at the innermost line on the stack that belongs neither to gradnoise nor to torch.

    Python shows equal warnings of one line once in a process. Here each call is shown, unless a filter of the user's
    says otherwise: a second model in the same notebook has the same fault as the first. Callers warn once each.
    """
    frame: FrameType | None = sys._getframe(1)
    last = frame
    while frame is not None and frame.f_code.co_filename.startswith(_INSIDE):
        last, frame = frame, frame.f_back
    frame = frame or last  # a thread of autograd's has no line of the user's
    assert frame is not None
    warnings.warn_explicit(
        sentence,
        UserWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry={},
    )
