"""The commands of the lab: what all studies share. Help texts are the docstrings of fields.

Heavy imports stand inside the commands, so that help comes at once.
"""
