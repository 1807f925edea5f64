"""A text with the surprise of each word: as colour in a terminal, as a number in brackets elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gradnoise.data.ptb import EOS
from gradnoise.paper.lstm_lm.reader import Word

#: Least surprise in bits -> style: from a word that was expected to one that nobody could expect.
SHADES = (
    (0.0, ""),
    (2.0, "black on #fff3bf"),
    (4.0, "black on #ffd8a8"),
    (7.0, "black on #ffa94d"),
    (10.0, "white on #e8590c"),
    (13.0, "white on #a61e4d"),
)
END = "⏎"


def in_colour(console: Console) -> bool:
    """Say whether a console shows colours."""
    return console.color_system is not None and not console.no_color


def shown(words: Sequence[Word], colour: bool, plain: int = 0) -> Text:
    """Lay out words, a line for each sentence.

    Args:
        words: with their surprise.
        colour: whether surprise is a colour; otherwise it stands in brackets, in bits.
        plain: how many of the first words are given ones, which are set in italics.
    """
    text = Text()
    for i, word in enumerate(words):
        label = END if word.text == EOS else word.text
        given = "italic" if i < plain else ""
        if colour:
            text.append(label, f"{given} {_shade(word.bits)}".strip())
        else:
            text.append(f"{label} ({word.bits:.1f})")
        text.append("\n" if word.text == EOS and i + 1 < len(words) else " ")
    text.rstrip()
    return text


def _shade(bits: float) -> str:
    return next(style for least, style in reversed(SHADES) if bits >= least or not least)


def legend() -> Text:
    """Return what the colours mean."""
    text = Text.assemble(("bits of surprise: ", "dim"))
    ends = [least for least, _ in SHADES[1:]]
    between = (f"{a:g} to {b:g}" for a, b in itertools.pairwise(ends))
    names = (f"below {ends[0]:g}", *between, f"{ends[-1]:g} and more")
    for name, (_, style) in zip(names, SHADES, strict=True):
        text.append(f" {name} ", style).append(" ")
    return text


def measured(name: str, words: Sequence[Word]) -> Text:
    """Return a line with the mean surprise of some words."""
    mean = sum(word.bits for word in words) / len(words)
    noun = "word" if len(words) == 1 else "words"
    return Text.assemble(
        (f"{name}  ", "dim"), f"{len(words)} {noun}, {mean:.2f} bits a word, perplexity {2 ** min(mean, 1000.0):,.4g}"
    )
