"""Gradient noise in Lightning: one callback. pip install 'gradnoise[lightning]'"""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradnoise import Annealed
from gradnoise.integrations.lightning import GradientNoise


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        layers = [layer for _ in range(4) for layer in (nn.Linear(32, 32), nn.ReLU())]
        self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), *layers, nn.Linear(32, 2))
        self.losses = []

    def training_step(self, batch, _):
        x, y = batch
        loss = nn.functional.cross_entropy(self.net(x), y)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def rings(n=512):
    """Two classes: points near the origin, and points around them."""
    radius, angle = 2 * torch.rand(n), 2 * torch.pi * torch.rand(n)
    return TensorDataset(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), (radius > 1).long())


def main():
    torch.manual_seed(0)
    model, schedule = Classifier(), Annealed(eta=0.01)
    callback = GradientNoise(schedule, seed=0, log=True)  # logs "noise_sigma"
    trainer = pl.Trainer(
        max_epochs=15,
        gradient_clip_val=1.0,
        callbacks=[callback],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(rings(), batch_size=32, shuffle=True))

    noise = callback.noises[0]
    last = noise.step - 1
    added = noise.replay("net.0.weight", last)
    print(f"updates with noise: {noise.step}")
    print(f"sigma: {schedule(0) ** 0.5:.4f} in the first update, {schedule(last) ** 0.5:.4f} in the last")
    print(f"noise on net.0.weight in the last update: norm {added.norm():.4f}, {added.numel()} elements")
    print(f"loss: {model.losses[0]:.3f} in the first update, {model.losses[-1]:.3f} in the last")


if __name__ == "__main__":
    main()
