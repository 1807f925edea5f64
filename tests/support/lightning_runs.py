"""Small LightningModules and their fits, for the tests of the callback."""

import pytest
import torch

from support.steady import batch

reason = "Lightning is not installed: pip install 'gradnoise[lightning]'"
pl = pytest.importorskip("lightning.pytorch", reason=reason)
older = pytest.importorskip("pytorch_lightning", reason=reason)
from lightning.fabric import Fabric  # noqa: E402
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy  # noqa: E402

__all__ = [
    "DDPStrategy",
    "Fabric",
    "Manual",
    "MixedPrecision",
    "ModelParallelStrategy",
    "Module",
    "Older",
    "Resumable",
    "fit",
    "older",
    "one_process_ddp",
    "pl",
    "quiet_lightning",
    "scaled",
]

quiet_lightning = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")


class Steps:
    """What a LightningModule needs around a net whose `forward` gives the loss. A batch is a number: what to draw."""

    def __init__(self, net, configure=lambda net: torch.optim.SGD(net.parameters(), lr=1.0)):
        super().__init__()
        self.net, self.configure, self.seen = net, configure, []

    def training_step(self, k, index):
        self.seen.append(k)
        return self.net(batch(k))

    def configure_optimizers(self):
        return self.configure(self.net)


class Module(Steps, pl.LightningModule):
    pass


class Older(Steps, older.LightningModule):
    """The same in the framework's older package."""


class Manual(Module):
    """Several optimizers; all but the first update with every other batch."""

    automatic_optimization = False

    def training_step(self, k, index):
        for turn, optimizer in enumerate(self.optimizers()):
            if turn == 0 or index % 2:
                optimizer.zero_grad()
                self.manual_backward(self.net(batch(k)))
                optimizer.step()


class Resumable:
    """Numbers of batches, as a loader whose place a checkpoint can keep."""

    def __init__(self, size=12):
        self.size, self.place = size, 0

    def __len__(self):
        return self.size

    def __iter__(self):
        while self.place < self.size:
            self.place += 1
            yield self.place - 1
        self.place = 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


def fit(module, *callbacks, framework=pl, data=None, ckpt_path=None, **settings):
    quiet = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger")
    settings = {**dict.fromkeys(quiet, False), "accelerator": "cpu", "max_steps": 3, **settings}
    trainer = framework.Trainer(callbacks=list(callbacks), **settings)
    trainer.fit(module, data or Resumable(), ckpt_path=ckpt_path)
    return trainer


def scaled(scale=2.0**10):
    """Return settings for float16 under a GradScaler. (Lightning itself turns 16-mixed on a CPU into bf16-mixed.)"""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2.0**-30)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


def one_process_ddp():
    return {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": 1}
