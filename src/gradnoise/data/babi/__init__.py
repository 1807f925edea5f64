"""The bAbI question-answering tasks (Weston et al. 2015, arXiv 1502.05698): files, parser, arrays, stand-in."""

from .checksums import NAMES
from .encoding import NIL, Encoded, Questions, encode
from .generator import generate
from .parser import Question, Statement, Story, parse
from .stories import BabiData, Task, load_babi

__all__ = [
    "NAMES",
    "NIL",
    "BabiData",
    "Encoded",
    "Question",
    "Questions",
    "Statement",
    "Story",
    "Task",
    "encode",
    "generate",
    "load_babi",
    "parse",
]
