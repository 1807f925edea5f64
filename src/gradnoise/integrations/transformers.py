"""Gradient noise in the transformers Trainer: a callback. Install with `pip install 'gradnoise[transformers]'`."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradnoise.integrations import warn_of_absence
from gradnoise.noise.arm import schedule_of_arm, seed_of_arm
from gradnoise.noise.attachment import attach
from gradnoise.noise.handle import Noise
from gradnoise.noise.schedule import Schedule
from gradnoise.noise.warning import say


class GradientNoise(TrainerCallback):
    """Noise on the optimizer of a transformers `Trainer`, from the start of `train()` to its end.

    The clock t counts the optimizer's updates, not micro-batches, and is in the checkpoint's optimizer.pt. A
    second `train()` of the same Trainer keeps its optimizer, so t goes on.

    The standard deviation of the next update is logged with the loss as "noise_sigma": in `state.log_history`,
    in what the Trainer prints, and for the reporting callbacks that stand after this one.

    Args:
        schedule: t -> sigma_t^2, a variance: `Annealed`, `Fixed`, or any callable; or `Relative`. Without one it is
            that of the arm which `gradnoise compare` gave this run; outside of a comparison nothing is done.
        seed: any integer; it may be left out where `schedule` is. The same seed gives the same noise on any device.
        options: further arguments of `attach`, such as `where`.

    Attributes:
        noise: the handle of `attach`; None before the first training, and without noise.

    Raises:
        ValueError: when training starts, for what `attach` refuses.

    Example:
        >>> trainer = Trainer(model, arguments, callbacks=[GradientNoise(Annealed(eta=0.01), seed=0)])
    """

    def __init__(self, schedule: Schedule | None = None, *, seed: int | None = None, **options: Any) -> None:
        if schedule is not None and seed is None:
            raise ValueError("GradientNoise with a schedule needs a seed, any integer, such as seed=0")
        self.schedule = schedule
        self.seed = seed
        self.options = options
        self.noise: Noise | None = None
        self._before = 0, 0  # its clock and the Trainer's when training began

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        **_: Any,
    ) -> None:
        """Attach: the optimizer now has its last form, and a checkpoint's state is in it."""
        self._detach()  # a training that raised has no end of its own
        schedule = schedule_of_arm() if self.schedule is None else self.schedule
        if schedule is None:
            return
        seed = seed_of_arm(optimizer) if self.seed is None else self.seed
        names = model.named_parameters()
        self.noise = attach(optimizer, schedule, seed=seed, named_parameters=names, **self.options)
        self._before = self.noise.step, state.global_step
        if state.global_step > 0 and self.noise.step == 0:
            say(
                f"training resumes at step {state.global_step} from a checkpoint that has no noise clock, as one made"
                " without noise: noise starts at t = 0"
            )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, logs: dict[str, Any], **_: Any
    ) -> None:
        """Add the standard deviation to what is logged with the loss."""
        if self.noise is not None and "loss" in logs:
            # The Trainer has put a copy of `logs` into the history already; callbacks after this one get `logs`.
            state.log_history[-1]["noise_sigma"] = logs["noise_sigma"] = self.noise.sigma

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Detach, and warn if no update had noise. The handle can still be read."""
        if self.noise is not None:
            t, steps = self._before
            warn_of_absence([self.noise], [t], state.global_step - steps)
        self._detach()

    def _detach(self) -> None:
        if self.noise is not None:
            self.noise.detach()
