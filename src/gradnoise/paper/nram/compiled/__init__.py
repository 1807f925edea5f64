"""Whole runs of machines as Numba code, sixteen machines side by side; `machine` holds what is called."""
