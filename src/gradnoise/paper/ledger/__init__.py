"""The ledger: the whole paper, statement by statement, beside what our runs say."""

from gradnoise.paper.ledger.book import Entry, Ledger, State, make_ledger, statement_of, tally
from gradnoise.paper.ledger.check import Check, Direction, Size
from gradnoise.paper.ledger.console import print_ledger
from gradnoise.paper.ledger.evidence import committed_results
from gradnoise.paper.ledger.page import plain, write_page
from gradnoise.paper.ledger.statements import STATEMENTS, Statement

__all__ = [
    "STATEMENTS",
    "Check",
    "Direction",
    "Entry",
    "Ledger",
    "Size",
    "State",
    "Statement",
    "committed_results",
    "make_ledger",
    "plain",
    "print_ledger",
    "statement_of",
    "tally",
    "write_page",
]
