"""The noise that `gradnoise compare` asks this process for: the arm of the comparison, read from the environment.

The driver of a comparison gives each run of a script its arm in GRADNOISE_NOISE, as JSON with the fields of a
schedule, and its seed in GRADNOISE_SEED. Outside of a comparison there is neither.
"""

from __future__ import annotations

import json
import os
from typing import Any

from gradnoise.noise.gaussian import stream_key
from gradnoise.noise.handle import handles
from gradnoise.noise.schedule import Annealed, Fixed, Relative, Schedule
from gradnoise.noise.steps.innermost import innermost

NOISE, SEED = "GRADNOISE_NOISE", "GRADNOISE_SEED"


def in_comparison() -> bool:
    """Say whether this process is a run of a comparison, be it in an arm without noise."""
    return bool(os.environ.get(NOISE) or os.environ.get(SEED))


def schedule_of_arm() -> Schedule | None:
    """Return the schedule of this process's arm; None outside of a comparison and in an arm without noise.

    Raises:
        ValueError: the environment holds something that is no schedule.
    """
    text = os.environ.get(NOISE, "")
    if not text:
        return None
    try:
        plain = json.loads(text)
        kind = Fixed if "sigma" in plain else Relative if "rho" in plain else Annealed
        return kind(**plain)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'{NOISE} is {text!r}; it must hold the fields of a schedule as JSON, such as {{"eta": 0.01}}'
        ) from error


def seed_of_arm(optimizer: Any) -> int:
    """Return the seed of the noise of one optimizer: that of the run, for the first optimizer that gets noise.

    A second optimizer gets a seed of its own derived from this, by the order in which they are attached: the two would
    otherwise add the same numbers to parameters of the same places.

    Raises:
        ValueError: the environment holds no seed.
    """
    text = os.environ.get(SEED, "")
    try:
        seed = int(text)
    except ValueError:
        raise ValueError(f"{SEED} is {text!r}; give attach a seed, any integer") from None
    inner = innermost(optimizer)
    others = sum(noise.optimizer is not inner for noise in handles())
    return stream_key(seed, f"optimizer {others}") if others else seed
