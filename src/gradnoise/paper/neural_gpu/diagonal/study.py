"""The study of diagonal Neural GPUs: noise relative to the gradient, where a network is trained in a minute."""

from __future__ import annotations

from collections.abc import Iterator

from gradnoise.paper.neural_gpu.diagonal.experiment import DiagonalExperiment
from gradnoise.paper.neural_gpu.diagonal.scales import Diagonal
from gradnoise.paper.neural_gpu.study import METRIC
from gradnoise.paper.system import Request
from gradnoise.study import Setting, Study

PROTOCOL = (
    ("network", "state of n cells with m maps; one gated convolutional layer of kernel 3 that serves n steps; a third"
     " of the maps moves right under the update gate, a third left"),
    ("task", "the product of two binary numbers of equal length, lowest bit first, zeros behind it"),
    ("minibatches", "problems of every length in each update; no curriculum"),
    ("dropout", "on the written input and on the candidate of every step"),
    ("one update", "gradient of the mean cross entropy plus the saturation cost; every element cut to +-(1.2 v + 1e-4);"
     " add noise; AdaMax with v its running largest size; the learning rate falls where the loss does not"),
    ("noise", "of norm sqrt(eta / (1 + t)^0.55) times that of the cut gradient"),
    ("reported", "share of runs that end with fewer than 5 % wrong digits at the tested length; zeros behind the"
     " product's highest digit do not count"),
    ("pairs", "same seed, same initial weights, problems and dropout masks in every arm"),
    ("a diverged run", "ends and counts as one in which everything is wrong"),
)  # fmt: skip

SILENT = (
    "The paper knows nothing of this network, which is younger. Its program adds noise before the cut, with a standard"
    " deviation of 1e-4 of the learning rate; here it is added after the cut, which would take most of it away.",
    "Every problem is run for exactly its own length; the program pads lengths to those of its bins.",
)


def build_diagonal(request: Request[Diagonal]) -> Study:
    """Make the study of a request for the diagonal network."""
    return request.study(
        title="Diagonal Neural GPU on binary multiplication",
        experiment=DiagonalExperiment(),
        metric=METRIC,
        settings=tuple(_settings(request.scale)),
        base={},
        protocol=PROTOCOL,
        silent=SILENT,
    )


def _settings(scale: Diagonal) -> Iterator[Setting]:
    for row in scale.rows:
        for name, values in row.each():
            yield Setting(row=row.name, title=row.title, values=values, name=name)
