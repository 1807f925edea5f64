"""Noise streams compared: bits, and the reference's numbers."""

import torch

from gradnoise.noise.gaussian import Part, reference


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()


def reference_normal(key, t, count, start=0):
    z = torch.zeros(count)
    reference.add_parts_([Part(z, key, torch.tensor([start]))], t, 1.0, None)
    return z
