"""What both baselines train: the 20-layer MLP's sizes and settings, and images to time it on."""

import numpy as np
import torch

SIZES = [784, *[50] * 20, 10]
"""Features into each Linear layer, and the ten classes: 20 hidden layers of 50 units, N = 88,210."""

LR = 0.1
CLIP = 10.0
ETA = 0.01
GAMMA = 0.55


def synthetic_digits(n: int = 60_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return random images with MNIST's shapes and types, for timing where the data set is not at hand.

    Args:
        n: Number of images.
        seed: Seed of the images and labels.

    Returns:
        Images [n, 784] uint8 in 0..255, a fifth of them ink as in MNIST, and labels [n] uint8 in 0..9.
    """
    rng = np.random.default_rng(seed)
    ink = rng.random((n, 784), dtype=np.float32) < 0.2
    images = np.where(ink, rng.integers(0, 256, (n, 784), dtype=np.uint8), np.uint8(0))
    return images, rng.integers(0, 10, n, dtype=np.uint8)


def synchronise(device: str) -> None:
    """Wait until a device has done what it was given; a CPU has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
