"""One run of a study, and the id that it has for ever."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from gradnoise.study.canonical import canonical
from gradnoise.study.description import Config


@dataclass(frozen=True)
class Trial:
    """One run: a configuration, an arm and a seed. Two trials that differ in the arm alone are a pair.

    Args:
        experiment: name and data fingerprint of the experiment.
        row: table row.
        setting: what was varied, as a label such as "lr=0.1"; pairs share row, setting and seed.
        arm: name of the arm.
        seed: trial seed.
        config: everything that decides the run; the same object for all seeds of a setting and arm.
        written: that configuration as canonical JSON, where it was written before.
    """

    experiment: str
    row: str
    setting: str
    arm: str
    seed: int
    config: Config
    written: str = field(default="", repr=False, compare=False)

    @cached_property
    def text(self) -> str:
        """The configuration as canonical JSON."""
        return self.written or canonical(self.config)

    @cached_property
    def id(self) -> str:
        """The content hash: the same question has the same id in every session and on every machine.

        Row, setting label and arm name are labels and do not enter: what is trained does.
        """
        about = canonical({"experiment": self.experiment, "seed": self.seed})
        content = f'{{"config":{self.text},{about[1:]}'  # canonical JSON of all three: keys are sorted
        return hashlib.sha256(content.encode()).hexdigest()[:16]
