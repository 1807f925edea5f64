"""The noise core: schedules, the noise stream, and what adds it to the gradients of an optimizer."""

from gradnoise.noise.attachment import Noise, attach
from gradnoise.noise.diagnostics import GroupDiagnostics
from gradnoise.noise.gaussian import backend
from gradnoise.noise.gradients import add_gradient_noise_
from gradnoise.noise.schedule import Annealed, Fixed, Schedule

__all__ = [
    "Annealed",
    "Fixed",
    "GroupDiagnostics",
    "Noise",
    "Schedule",
    "add_gradient_noise_",
    "attach",
    "backend",
]
