"""Which direction of a measure is better: said as "min:validation_loss" or "max:accuracy", or told by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: Words of a name that tell its direction.
LOWER = frozenset(
    [
        "bpb",
        "bpc",
        "cer",
        "cost",
        "divergence",
        "err",
        "error",
        "errors",
        "fid",
        "kl",
        "loss",
        "losses",
        "mae",
        "mape",
        "mse",
        "nll",
        "perplexity",
        "ppl",
        "regret",
        "rmse",
        "wer",
    ]
)
HIGHER = frozenset(
    [
        "acc",
        "accuracy",
        "ap",
        "auc",
        "auroc",
        "bleu",
        "correct",
        "dice",
        "f1",
        "iou",
        "map",
        "psnr",
        "r2",
        "recall",
        "reward",
        "rouge",
        "solved",
    ]
)
#: What says a direction, before a colon; "best" leaves it to the name.
LEAST, MOST, BEST = "min", "max", "best"


@dataclass(frozen=True)
class Directed:
    """A measure and which direction of it is better.

    Args:
        name: of the measure.
        higher_is_better: the direction.
    """

    name: str
    higher_is_better: bool

    def __str__(self) -> str:
        """Write it as it is given, such as "min:validation_loss"."""
        return f"{MOST if self.higher_is_better else LEAST}:{self.name}"

    @property
    def words(self) -> str:
        """Say what its best is called: "the lowest validation_loss"."""
        return f"the {'highest' if self.higher_is_better else 'lowest'} {self.name}"


def directed(text: str, where: str, error: type[Exception]) -> Directed:
    """Read a measure with its direction.

    Args:
        text: "min:NAME" or "max:NAME"; or "best:NAME" or NAME, where a word of the name tells the direction, such as
            "loss" or "accuracy".
        where: what messages begin with, such as "metric 'accuracy': at".
        error: what is raised.

    Example:
        >>> str(directed("validation_loss", "patience", ValueError))
        'min:validation_loss'
    """
    said, _, name = text.partition(":") if text.partition(":")[0] in (LEAST, MOST, BEST) else (BEST, "", text)
    if not name.strip():
        raise error(f"{where} = {text!r} names no measure; write {said}:validation_loss, for one")
    if said != BEST:
        return Directed(name, said == MOST)
    higher = told_higher(name)
    if higher is None:
        raise error(
            f"{where} = {text!r} does not say which direction of {name!r} is better; write {LEAST}:{name} or"
            f" {MOST}:{name}"
        )
    return Directed(name, higher)


def told_higher(name: str) -> bool | None:
    """Say whether more of a measure is better, as the words of its name tell; None where they do not."""
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()))
    lower, higher = bool(words & LOWER), bool(words & HIGHER)
    return None if lower == higher else higher
