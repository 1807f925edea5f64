"""Gradient noise in Lightning: a callback. Install with `pip install 'gradnoise[lightning]'`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gradnoise.integrations import warn_of_absence
from gradnoise.noise.arm import schedule_of_arm, seed_of_arm
from gradnoise.noise.attachment import attach
from gradnoise.noise.gaussian import stream_key
from gradnoise.noise.handle import Noise
from gradnoise.noise.schedule import Schedule

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:  # the same framework under its other name
        from pytorch_lightning import Callback


class GradientNoise(Callback):
    """Noise on every optimizer of a LightningModule, from the start of `Trainer.fit` to its end.

    Each optimizer has its own clock t, which counts that optimizer's updates and is part of Lightning's
    checkpoints. Parameters go by their names in the LightningModule. To leave an optimizer without noise, give
    its parameter groups the option `noise_eta=0.0`.

    Args:
        schedule: t -> sigma_t^2, a variance: `Annealed`, `Fixed`, or any callable; or `Relative`. Without one it is
            that of the arm which `gradnoise compare` gave this run; outside of a comparison nothing is done.
        seed: any integer; it may be left out where `schedule` is. The same seed gives the same noise on any device. An
            optimizer that shares parameters with an earlier one gets a seed of its own, derived from this, so that they
            add different numbers.
        log: whether to log the standard deviation with every batch: as "noise_sigma", with several optimizers
            as "noise_sigma/0", "noise_sigma/1" and so on.
        options: further arguments of `attach`, such as `where`.

    Attributes:
        noises: the handles of `attach`, one per optimizer; empty before the first fit.

    Raises:
        ValueError: when the fit starts, for what `attach` refuses.

    Example:
        >>> trainer = Trainer(callbacks=[GradientNoise(Annealed(eta=0.01), seed=0)])
    """

    def __init__(
        self, schedule: Schedule | None = None, *, seed: int | None = None, log: bool = False, **options: Any
    ) -> None:
        if schedule is not None and seed is None:
            raise ValueError("GradientNoise with a schedule needs a seed, any integer, such as seed=0")
        self.schedule = schedule
        self.seed = seed
        self.log_sigma = log  # `log` itself is an attribute that Lightning sets
        self.options = options
        self.noises: list[Noise] = []
        self._before: tuple[list[int], int] = ([], 0)  # the clocks, and Lightning's own

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach: under every strategy the optimizers now exist.

        A checkpoint is loaded after this. A distributed one fills only what is there, the clock included.
        """
        self.noises = []
        schedule = schedule_of_arm() if self.schedule is None else self.schedule
        if schedule is None:
            return
        taken: set[Tensor] = set()
        for k, optimizer in enumerate(trainer.optimizers):
            parameters = {p for group in optimizer.param_groups for p in group["params"]}
            first = seed_of_arm(optimizer) if self.seed is None else self.seed
            seed = stream_key(first, f"optimizer {k}") if parameters & taken else first
            names = pl_module.named_parameters()
            self.noises.append(attach(optimizer, schedule, seed=seed, named_parameters=names, **self.options))
            taken |= parameters

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the clocks, which a checkpoint may have set."""
        self._before = [noise.step for noise in self.noises], trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log the standard deviation of the update that this batch goes into; of `Relative` noise that of the last."""
        if self.log_sigma:
            for k, sigma in enumerate(noise.sigma for noise in self.noises):
                if not math.isnan(sigma):
                    pl_module.log("noise_sigma" if len(self.noises) == 1 else f"noise_sigma/{k}", sigma)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Detach, and warn if no update had noise. The handles can still be read."""
        before, steps = self._before
        if len(before) == len(self.noises):
            warn_of_absence(self.noises, before, trainer.global_step - steps)
        self._detach()

    def _detach(self) -> None:
        for noise in self.noises:
            noise.detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detach from the optimizers of a fit that failed or was interrupted."""
        self._detach()
