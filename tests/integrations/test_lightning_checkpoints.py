"""Noise in Lightning's Trainer and in Fabric goes on where a checkpoint was made, a distributed one included."""

import pytest
import torch
from support.lightning_runs import Fabric, ModelParallelStrategy, Module, fit, pl, quiet_lightning, scaled
from support.steady import SCHEDULE, SEED, Curved, Steady, assert_differ_by_noise, assert_same, batch, values
from torch.distributed.fsdp import fully_shard

from gradnoise import attach
from gradnoise.integrations.lightning import GradientNoise

pytestmark = quiet_lightning


class SaveEach(pl.Callback):
    """A checkpoint after every batch."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *_):
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.mark.parametrize("settings", [dict, scaled], ids=["float32", "16-mixed"])
def test_resumed_at_any_step_equals_uninterrupted(settings, tmp_path):
    def module():
        return Module(Curved(), lambda net: torch.optim.AdamW(net.parameters(), lr=0.1))

    whole = module()
    fit(whole, GradientNoise(SCHEDULE, seed=SEED), SaveEach(tmp_path), max_steps=5, **settings())
    for step in range(1, 5):
        resumed, callback = module(), GradientNoise(SCHEDULE, seed=SEED)
        fit(resumed, callback, ckpt_path=tmp_path / f"{step}.ckpt", max_steps=5, **settings())
        assert callback.noises[0].step == 5
        assert_same(values(resumed), values(whole))


class Sharded(Module):
    """Its layers are DTensors, as FSDP2 makes them."""

    def configure_model(self):
        for layer in (self.net.first, self.net.second):
            fully_shard(layer, mesh=self.device_mesh["data_parallel"])


def fit_sharded(*callbacks, ckpt_path=None):
    strategy = ModelParallelStrategy(data_parallel_size=1, process_group_backend="gloo")
    module = Sharded(Steady())
    fit(module, *callbacks, strategy=strategy, devices=1, max_steps=4, ckpt_path=ckpt_path)
    for layer in (module.net.first, module.net.second):
        layer.unshard()
    return module


def test_fsdp2_adds_the_same_noise(process_group):
    plain = Module(Steady())
    fit(plain, max_steps=4)
    assert_differ_by_noise(fit_sharded(GradientNoise(SCHEDULE, seed=SEED)), plain, updates=4)


def test_fsdp2_resumed_at_any_step_from_a_distributed_checkpoint(tmp_path, process_group):
    whole = fit_sharded(GradientNoise(SCHEDULE, seed=SEED), SaveEach(tmp_path))
    for step in range(1, 4):
        resumed = fit_sharded(GradientNoise(SCHEDULE, seed=SEED), ckpt_path=tmp_path / f"{step}.ckpt")
        assert_same(values(resumed), values(whole))


# --- Fabric needs no callback -------------------------------------------------------------------------


def test_fabric_takes_attach_itself(tmp_path):
    fabric = Fabric(accelerator="cpu", devices=1)

    def start():
        net = Steady()
        model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=1.0))
        return net, model, optimizer

    def train(model, optimizer, steps):
        for k in range(steps):
            optimizer.zero_grad()
            fabric.backward(model(batch(k)))
            optimizer.step()

    noisy, model, optimizer = start()
    attach(optimizer, SCHEDULE, seed=SEED, named_parameters=noisy.named_parameters())
    train(model, optimizer, 2)
    fabric.save(tmp_path / "state", {"model": model, "optimizer": optimizer})

    noisy, model, optimizer = start()
    noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=noisy.named_parameters())
    fabric.load(tmp_path / "state", {"model": model, "optimizer": optimizer})
    train(model, optimizer, 2)

    plain, model, optimizer = start()
    train(model, optimizer, 2)
    train(model, optimizer, 2)
    assert noise.step == 4
    assert_differ_by_noise(noisy, plain, updates=4)
