"""The noise core: schedules, the noise stream, and what adds it to the gradients of an optimizer."""

from gradnoise.noise.attachment import attach
from gradnoise.noise.diagnostics import GroupDiagnostics
from gradnoise.noise.dosing import add_gradient_noise_
from gradnoise.noise.gaussian import backend
from gradnoise.noise.handle import Noise
from gradnoise.noise.labels import flip_labels
from gradnoise.noise.schedule import Annealed, Fixed, Relative, Schedule

__all__ = [
    "Annealed",
    "Fixed",
    "GroupDiagnostics",
    "Noise",
    "Relative",
    "Schedule",
    "add_gradient_noise_",
    "attach",
    "backend",
    "flip_labels",
]
