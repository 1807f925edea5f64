"""Finding a dose: short paired pilots of one's own training, from no noise to far too much."""

from gradnoise.dose.finder import DOSES, find
from gradnoise.dose.found import Found, Tried

__all__ = ["DOSES", "Found", "Tried", "find"]
