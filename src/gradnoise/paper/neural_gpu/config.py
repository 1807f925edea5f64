"""The settings of a Neural GPU and its training, and the two states of the authors' program as named profiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from gradnoise.errors import nearest
from gradnoise.paper.neural_gpu.tasks import task_of
from gradnoise.population import PopulationError

#: Gate of the noise -> (c, b, p): sigma_t is multiplied by (c max(0, e - b))^p, where e is the error of the last window
#: and 1 at first. "code" is that of the program of March, "early" of January, "linear" of the text of KS 2016.
GATES = {"none": (1.0, 0.0, 0.0), "linear": (1.0, 0.0, 1.0), "code": (1.0, 0.02, 0.5), "early": (20.0, 0.0, 0.5)}


@dataclass(frozen=True)
class Profile:
    """How one state of the authors' program trains.

    Args:
        batch_size: B.
        window: updates after which the curriculum looks at the error.
        bound: on the share of wrong sequences in a window, below which problems become longer.
        clip: threshold of the gradient's norm.
        lr, eps: of Adam.
        state_dropout: rate on the whole state, before every step and after the last one.
        dropout_scaling: "constant" for that rate, "inverse" for rate * 8 / max(8, n).
        read_dropped: whether the output is read from the state after the last dropout.
        pull_limit: copies of the weights are averaged at successes once the pull has reached this.
        always_slower: whether every averaging multiplies the learning rate by 0.98, or only those with an error below a
            third of the bound.
        always_patient: whether every success keeps the learning rate for three windows, or only those that make
            problems longer.
        second_draw: whether the draw of any length competes with the second one up to the limit, or with the first.
    """

    batch_size: int
    window: int
    bound: float
    clip: float
    lr: float
    eps: float
    state_dropout: float
    dropout_scaling: str
    read_dropped: bool
    pull_limit: float
    always_slower: bool
    always_patient: bool
    second_draw: bool


#: The first public state of the program, of 14 January 2016: nearest to what produced the paper's Table 5.
EARLY = Profile(
    batch_size=64,
    window=100,
    bound=0.12,
    clip=0.05,
    lr=1e-3,
    eps=1e-5,
    state_dropout=0.2,
    dropout_scaling="constant",
    read_dropped=True,
    pull_limit=1.0,
    always_slower=True,
    always_patient=True,
    second_draw=False,
)
#: Its state of 14 March 2016, with the third version of "Neural GPUs Learn Algorithms".
MARCH = Profile(
    batch_size=32,
    window=200,
    bound=0.15,
    clip=1.0,
    lr=1e-3,
    eps=1e-4,
    state_dropout=0.09,
    dropout_scaling="inverse",
    read_dropped=False,
    pull_limit=0.1,
    always_slower=False,
    always_patient=False,
    second_draw=True,
)
PROFILES = {"early": EARLY, "march": MARCH}


@dataclass(frozen=True)
class Config:
    """Settings of a Neural GPU and its training; None stands for the profile's value.

    Args:
        task: what is learned, a key of `TASKS`.
        profile: a key of `PROFILES`.
        shortest, begin, longest: lengths n of problems: the least, the curriculum's first limit, the most.
        tests: lengths that are tested, the longest training length first and the one that counts last.
        samples: problems in each test.
        maps, height, layers, sets, kernel: see `NeuralGPU`.
        init_weight: scale of the initial weights.
        pull, pull_factor: how strongly the copies of the weights are pulled together at first, and by what that grows
            with every success.
        batch_size, window, bound, state_dropout: of `Profile`.
        gate: how the strength of the gradient noise hangs on the error, a key of `GATES`.
    """

    task: str = "bmul"
    profile: str = "early"
    shortest: int = 3
    begin: int = 6
    longest: int = 41
    tests: tuple[int, ...] = (41, 401)
    samples: int = 256
    maps: int = 24
    height: int = 4
    layers: int = 2
    sets: int = 6
    kernel: int = 3
    init_weight: float = 1.0
    pull: float = 5e-4
    pull_factor: float = 1.2
    batch_size: int | None = None
    window: int | None = None
    bound: float | None = None
    state_dropout: float | None = None
    gate: str = "none"

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.profile not in PROFILES:
            known = ", ".join(PROFILES)
            raise PopulationError(f"no profile {self.profile!r}: there are {known}{nearest(self.profile, PROFILES)}")
        if self.gate not in GATES:
            raise PopulationError(f"no gate {self.gate!r}: there are {', '.join(GATES)}{nearest(self.gate, GATES)}")
        task = task_of(self.task)
        least = task.least
        if not least <= self.shortest <= self.begin <= self.longest:
            raise PopulationError(
                f"shortest = {self.shortest}, begin = {self.begin}, longest = {self.longest}: lengths of"
                f" {self.task} are {least} or more, in this order"
            )
        lengths = torch.tensor(self.tests)
        if not self.tests or min(self.tests) < least or not torch.equal(task.fit(lengths), lengths):
            raise PopulationError(
                f"tests = {self.tests}: give one length or more that problems of {self.task} can have"
            )
        for name in ("samples", "maps", "height", "layers", "sets", "batch_size", "window"):
            if self.chosen(name) < 1:
                raise PopulationError(f"{name} = {self.chosen(name)}: at least 1 is needed")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise PopulationError(f"kernel = {self.kernel}: a kernel is odd, 1, 3, 5, ...")
        self._check_reals()

    def _check_reals(self) -> None:
        if not 0 < self.chosen("bound") < 1:
            raise PopulationError(f"bound = {self.chosen('bound')} is outside (0, 1)")
        if not 0 <= self.chosen("state_dropout") < 1:
            raise PopulationError(f"state_dropout = {self.chosen('state_dropout')} is outside [0, 1)")
        if not (self.pull >= 0 and 1 <= self.pull_factor < math.inf):
            raise PopulationError(
                f"pull = {self.pull} and pull_factor = {self.pull_factor}: need >= 0, and finite and >= 1"
            )
        if not 0 < self.init_weight < math.inf:
            raise PopulationError(f"init_weight = {self.init_weight}: a scale is finite and > 0")

    @property
    def trained_as(self) -> Profile:
        """The profile."""
        return PROFILES[self.profile]

    def chosen(self, name: str) -> Any:
        """Return a setting, the profile's value where there is none."""
        value = getattr(self, name)
        return getattr(self.trained_as, name) if value is None else value
