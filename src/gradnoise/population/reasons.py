"""Why vmap cannot run something, in words for the user: what, where in his code, and what to write instead."""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

PACKAGE = f"{Path(__file__).resolve().parents[1]}{os.sep}"
#: Part of an error's text -> what to do instead.
HINTS = {
    "does not require grad": "torch.func.grad, in place of torch.autograd.grad, keeps it in one program",
    "requires_grad_()": "torch.func.grad, in place of torch.autograd.grad, keeps it in one program",
    ".item()": "a tensor in place of the number keeps it in one program",
}


def reason_of(error: RuntimeError) -> str:
    """Return the first line of an error, the user's line that it came from, and what to write instead, if known."""
    text = str(error).strip()
    hint = next((f"; {words}" for part, words in HINTS.items() if part in text), "")
    return f"{text.splitlines()[0] if text else type(error).__name__}{place_of(error.__cause__ or error)}{hint}"


def place_of(error: BaseException) -> str:
    """Return " (file.py, line 3, in loss)" for the last line of an error that is the user's own; empty for none."""
    return _last_of_the_user(traceback.extract_tb(error.__traceback__))


def place_of_call() -> str:
    """Return the same for the line of the user's that is being run."""
    return _last_of_the_user(traceback.extract_stack())


def _last_of_the_user(stack: traceback.StackSummary) -> str:
    libraries = (PACKAGE, sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "<")
    frames = [f for f in stack if not f.filename.startswith(libraries)]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
