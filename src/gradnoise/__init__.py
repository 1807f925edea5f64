"""Annealed Gaussian gradient noise for PyTorch, and the lab that says whether it helps.

At every update t, after clipping and before the optimizer: g_t <- g_t + N(0, sigma_t^2) with
sigma_t^2 = eta / (1 + t)^gamma (Neelakantan et al. 2015).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradnoise.dose import find
    from gradnoise.noise import (
        Annealed,
        Fixed,
        GroupDiagnostics,
        Noise,
        Relative,
        Schedule,
        add_gradient_noise_,
        attach,
        backend,
        flip_labels,
    )
    from gradnoise.reporting import report

__version__ = "0.1.0"

__all__ = [
    "Annealed",
    "Fixed",
    "GroupDiagnostics",
    "Noise",
    "Relative",
    "Schedule",
    "__version__",
    "add_gradient_noise_",
    "attach",
    "backend",
    "find",
    "flip_labels",
    "report",
]


def __getattr__(name: str) -> Any:
    """Import the noise core, and torch with it, when it is first asked for: stores and reports do without."""
    if name == "find":
        return importlib.import_module("gradnoise.dose").find
    if name == "report":
        return importlib.import_module("gradnoise.reporting").report
    if name in __all__:
        return getattr(importlib.import_module("gradnoise.noise"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
