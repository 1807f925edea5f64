"""Real data for the experiments: MNIST, Fashion-MNIST, and embedded digits that need no network."""

from gradnoise.errors import DataError, DataNotFoundError

from .fetch import Progress, cache_folder
from .images import ImageData, load_images
from .progress import terminal_progress

__all__ = [
    "DataError",
    "DataNotFoundError",
    "ImageData",
    "Progress",
    "cache_folder",
    "load_images",
    "terminal_progress",
]
