"""Gradient noise with Accelerate: `attach` on the prepared optimizer. pip install 'gradnoise[accelerate]'"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradnoise import Annealed, attach


def waves(n=512):
    """Points in the plane, and a smooth function of them."""
    x = torch.randn(n, 2)
    return TensorDataset(x, torch.sin(2 * x).sum(1, keepdim=True))


def main():
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(waves(), batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    schedule = Annealed(eta=1e-3)
    noise = attach(optimizer, schedule, seed=0, named_parameters=model.named_parameters())  # after prepare

    losses = []
    for _ in range(20):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(x), y)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()  # adds noise where it updates, which is with every second batch
                optimizer.zero_grad()
            losses.append(loss.item())

    last = noise.step - 1
    added = noise.replay("0.weight", last)
    print(f"batches: {len(losses)}, updates with noise: {noise.step}")
    print(f"sigma: {schedule(0) ** 0.5:.4f} in the first update, {schedule(last) ** 0.5:.4f} in the last")
    print(f"noise on 0.weight in the last update: norm {added.norm():.4f}, {added.numel()} elements")
    print(f"loss: {losses[0]:.3f} with the first batch, {losses[-1]:.3f} with the last")


if __name__ == "__main__":
    main()
