"""`python -m gradnoise` is the command `gradnoise`."""

from gradnoise.cli import main

main()
