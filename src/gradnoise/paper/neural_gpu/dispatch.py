"""Which network a request asks for."""

from __future__ import annotations

from typing import cast

from gradnoise.paper.neural_gpu.diagonal.scales import Diagonal
from gradnoise.paper.neural_gpu.diagonal.study import build_diagonal
from gradnoise.paper.neural_gpu.scales import Grid
from gradnoise.paper.neural_gpu.study import build_grid
from gradnoise.paper.system import Request
from gradnoise.study import Study


def build(request: Request[Grid | Diagonal]) -> Study:
    """Make the study of a request."""
    if isinstance(request.scale, Diagonal):
        return build_diagonal(cast(Request[Diagonal], request))
    return build_grid(cast(Request[Grid], request))
