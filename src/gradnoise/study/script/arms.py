"""The arms and the metric of a comparison, as a command line names them."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Sequence

from gradnoise.errors import StudyError, nearest
from gradnoise.study.description import LAST
from gradnoise.study.spec import Arm, Metric
from gradnoise.study.threshold import AT_LEAST, AT_MOST, threshold

GAMMA = 0.55
#: Kinds of arms that need no argument of the script.
KINDS = {
    "none": "no noise",
    "noise:ETA[:GAMMA]": "annealed noise",
    "fixed:SIGMA": "noise of one size",
    "relative:RHO[:GAMMA]": "noise in proportion to the gradient",
}

#: Kinds of arms with noise -> what they are given.
SIZES = {"noise": "eta", "fixed": "sigma", "relative": "rho"}


def arms_of(named: Sequence[str], further: Sequence[str]) -> tuple[Arm, ...]:
    """Return the arms of a comparison; the first is the baseline.

    Args:
        named: such as "none", "noise:0.01", "noise:0.3:0.55", "fixed:0.1".
        further: arms that add arguments to the command, such as "wide=--hidden 512".

    Raises:
        StudyError: one cannot be read, a name comes twice, or there are fewer than two.
    """
    named = [text.strip() for text in named if text.strip()]
    arms = [_named(text) for text in named] + [_further(text) for text in further]
    if further and not named:
        arms = [_named("none"), *arms]
    names = [arm.name for arm in arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StudyError(f"the arm {twice[0]!r} is given twice; give each arm a name of its own")
    for one, other in itertools.combinations(arms, 2):
        if {**one.values, "arm": None} == {**other.values, "arm": None}:
            raise StudyError(f"the arms {one.name!r} and {other.name!r} are the same; leave one of them out")
    if len(arms) < 2:
        raise StudyError(
            f"there is {'one arm' if arms else 'no arm'}: {', '.join(names) or 'nothing'}; a comparison needs two, such"
            " as --arms none,noise:0.01, or --arm wide='--hidden 512' beside the command as it is"
        )
    return tuple(arms)


def _named(text: str) -> Arm:
    kind, *rest = text.split(":")
    if kind == "none" and not rest:
        return Arm("none", {"arm": "none"})
    if kind in SIZES and not any(rest):
        raise StudyError(f"the arm {text!r} does not say how much noise; give {SIZES[kind]}, as in {kind}:0.01")
    if kind not in SIZES or not 1 <= len(rest) <= (1 if kind == "fixed" else 2):
        raise StudyError(
            f"no arm {text!r}: an arm is one of {', '.join(KINDS)}"
            f"{nearest(kind, ('none', *SIZES))}, or has arguments of its own, as in"
            " --arm wide='--hidden 512'"
        )
    size, *decay = [_number(n, text) for n in rest]
    from gradnoise.noise import Annealed, Fixed, Relative  # needs torch, as arms by arguments do not

    if kind == "fixed":
        return Arm(text, {"arm": text, "noise": Fixed(size)}, f"fixed noise, sigma = {size:g}")
    gamma = decay[0] if decay else GAMMA
    title = "".join(f", gamma = {g:g}" for g in decay)
    if kind == "relative":
        return Arm(text, {"arm": text, "noise": Relative(size, gamma)}, f"relative noise, rho = {size:g}{title}")
    return Arm(text, {"arm": text, "noise": Annealed(size, gamma)}, f"noise, eta = {size:g}{title}")


def _number(text: str, arm: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise StudyError(f"the arm {arm!r} has {text!r} where a finite number >= 0 belongs, as in noise:0.01")
    return value


def _further(text: str) -> Arm:
    name, separator, arguments = text.partition("=")
    if not separator or not re.fullmatch(r"[\w.:+-]+", name):
        raise StudyError(f"--arm {text!r} is not of the form NAME='ARGUMENTS', such as --arm wide='--hidden 512'")
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise StudyError(f"the arguments of --arm {text!r} cannot be read: {error}") from error
    if not words:
        raise StudyError(f"--arm {text!r} adds no argument; the command as it is goes by --arms none")
    return Arm(name, {"arm": name, "arguments": words}, f"{name} ({shlex.join(words)})")


def metric_of(
    text: str,
    *,
    at: str = LAST,
    margin: float | None = None,
    chance: float | None = None,
    success: float | None = None,
    broken: float | None = None,
) -> Metric:
    """Return the metric that decides, from its name and direction, such as "accuracy:max", or a bound, "loss <= 0.1".

    Args:
        text: name and direction, or a name, >= or <=, and a number for the rate of the runs that keep this bound.
        at, margin, chance, success, broken: see `Metric`.

    Raises:
        StudyError: the direction is missing or unknown, or a number is unusable.
    """
    numbers = {"margin": margin, "chance": chance, "success": success, "broken": broken}
    if AT_LEAST in text or AT_MOST in text:
        bound = str(threshold(text, "--metric"))
        return Metric(bound, f"runs with {bound}", at=at, of=bound, **numbers)  # type: ignore[arg-type]
    name, _, direction = text.rpartition(":")
    if not name or direction not in ("max", "min"):
        raise StudyError(
            f"--metric {text!r} does not say which direction is better; write NAME:max or NAME:min, such as"
            f" {(name or direction or 'accuracy')}:max, or 'NAME >= NUMBER' for the rate of the runs that reach it"
        )
    return Metric(name, name, higher_is_better=direction == "max", at=at, **numbers)  # type: ignore[arg-type]
