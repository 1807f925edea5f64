"""Opacus needs no code of ours: `attach` on its optimizer adds noise after the per-example clip."""

import pytest
import torch
from support.steady import SCHEDULE, SEED, Steady, assert_differ_by_noise, batch

from gradnoise import attach

opacus = pytest.importorskip("opacus", reason="opacus is not installed: pip install opacus")


def private(net):
    """Return model and optimizer as `PrivacyEngine` makes them; every example's gradient is clipped to 0.001."""
    model = opacus.GradSampleModule(net, loss_reduction="mean")
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(net.parameters(), lr=1.0),
        noise_multiplier=1.0,
        max_grad_norm=1e-3,
        expected_batch_size=4,
        generator=torch.Generator().manual_seed(0),
    )
    return model, optimizer


def train(model, optimizer):
    """Make three updates, each from two physical batches."""
    for k in range(6):
        optimizer.signal_skip_step(do_skip=k % 2 == 0)
        model(batch(k)).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
def test_each_update_gets_its_noise_once_and_after_the_clip():
    noisy, plain = Steady(), Steady()
    model, optimizer = private(noisy)
    noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=noisy.named_parameters())
    train(model, optimizer)
    train(*private(plain))
    assert noise.step == 3
    assert_differ_by_noise(noisy, plain, updates=3)
