"""`GradientNoise` in Lightning's Trainer: once per update, after the clip, by the parameter's name, and resumable."""

import os
import runpy
import sys
from unittest import mock

import pytest
import torch
from support.steady import SCHEDULE, SEED, Curved, Steady, assert_differ_by_noise, assert_same, batch, values
from torch.utils.data import DataLoader

from gradnoise import attach

reason = "Lightning is not installed: pip install 'gradnoise[lightning]'"
pl = pytest.importorskip("lightning.pytorch", reason=reason)
older = pytest.importorskip("pytorch_lightning", reason=reason)
from lightning.fabric import Fabric  # noqa: E402
from lightning.pytorch.plugins import MixedPrecision  # noqa: E402
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy  # noqa: E402
from torch.distributed.fsdp import fully_shard  # noqa: E402

import gradnoise.integrations.lightning  # noqa: E402
from gradnoise.integrations.lightning import GradientNoise  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")


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
    """float16 under a GradScaler. (Lightning itself turns 16-mixed on a CPU into bf16-mixed.)"""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2.0**-30)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}


def one_process_ddp():
    return {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": 1}


@pytest.fixture
def process_group():
    """Takes back what Lightning leaves behind in the process."""
    with mock.patch.dict(os.environ):
        yield
    torch.distributed.destroy_process_group()


# --- what is added ------------------------------------------------------------------------------------

SETTINGS = {
    "plain": dict,
    "accumulation": lambda: {"accumulate_grad_batches": 3},
    "clip by norm": lambda: {"gradient_clip_val": 1e-3},
    "clip by value": lambda: {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"},
    "bf16-mixed": lambda: {"precision": "bf16-mixed", "gradient_clip_val": 1e-3},
    "16-mixed": lambda: {**scaled(), "gradient_clip_val": 1e-3, "accumulate_grad_batches": 2},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_each_update_gets_its_noise_once_and_after_the_clip(settings):
    noisy, plain = Module(Steady()), Module(Steady())
    callback = GradientNoise(SCHEDULE, seed=SEED)
    fit(noisy, callback, **settings())
    fit(plain, **settings())
    assert callback.noises[0].step == 3
    assert_differ_by_noise(noisy, plain, updates=3)


def test_an_update_that_overflows_does_not_count():
    noisy, plain = Module(Steady()), Module(Steady())
    callback = GradientNoise(SCHEDULE, seed=SEED)
    fit(noisy, callback, **scaled(2.0**30))
    fit(plain, **scaled(2.0**30))
    assert callback.noises[0].step == 2  # of 3 batches
    assert_differ_by_noise(noisy, plain, updates=2)


def test_names_are_those_of_the_module_under_ddp(process_group):
    noisy, plain = Module(Steady()), Module(Steady())
    fit(noisy, GradientNoise(SCHEDULE, seed=SEED), **one_process_ddp())
    fit(plain)
    assert_differ_by_noise(noisy, plain, updates=3)


def test_where_only_the_older_package_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    callback = runpy.run_path(gradnoise.integrations.lightning.__file__)["GradientNoise"](SCHEDULE, seed=SEED)
    assert isinstance(callback, older.Callback)
    noisy, plain = Older(Steady()), Older(Steady())
    fit(noisy, callback, framework=older)
    fit(plain, framework=older)
    assert_differ_by_noise(noisy, plain, updates=3)


def test_every_call_of_a_closure_sees_the_same_noise():
    """LBFGS calls it several times per update, as in a loop written by hand."""

    def configure(net):
        return torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4)

    module, by_hand = Module(Curved(), configure), Module(Curved())
    fit(module, GradientNoise(SCHEDULE, seed=SEED))
    optimizer = configure(by_hand.net)
    attach(optimizer, SCHEDULE, seed=SEED, named_parameters=by_hand.named_parameters())
    for k in range(3):

        def closure(k=k):
            optimizer.zero_grad()
            loss = by_hand.net(batch(k))
            loss.backward()
            return loss

        optimizer.step(closure)
    assert len(module.seen) > 3
    assert_same(values(module), values(by_hand))


# --- several optimizers -------------------------------------------------------------------------------


def one_per_layer(net):
    return [torch.optim.SGD(layer.parameters(), lr=1.0) for layer in (net.first, net.second)]


def test_each_optimizer_has_its_own_clock():
    noisy, plain = Manual(Steady(), one_per_layer), Manual(Steady(), one_per_layer)
    callback = GradientNoise(SCHEDULE, seed=SEED)
    fit(noisy, callback, max_steps=6)  # Lightning counts the steps of both
    fit(plain, max_steps=6)
    assert [noise.step for noise in callback.noises] == [4, 2]
    assert_differ_by_noise(noisy, plain, updates=4, only="net.first")
    assert_differ_by_noise(noisy, plain, updates=2, only="net.second")


def test_optimizers_that_share_a_parameter_add_different_numbers_to_it():
    def twice(net):
        return [torch.optim.SGD(net.parameters(), lr=1.0) for _ in range(2)]

    callback = GradientNoise(SCHEDULE, seed=SEED)
    fit(Manual(Steady(), twice), callback)
    first, second = callback.noises
    for name in values(Steady()):
        assert not torch.isclose(first.replay(f"net.{name}", 0), second.replay(f"net.{name}", 0)).any()


def test_an_optimizer_may_go_without_noise():
    def second_without(net):
        quiet = {"params": net.second.parameters(), "noise_eta": 0.0}
        return [torch.optim.SGD(net.first.parameters(), lr=1.0), torch.optim.SGD([quiet], lr=1.0)]

    noisy, plain = Manual(Steady(), second_without), Manual(Steady(), one_per_layer)
    fit(noisy, GradientNoise(SCHEDULE, seed=SEED), max_steps=6)
    fit(plain, max_steps=6)
    assert_differ_by_noise(noisy, plain, updates=4, only="net.first")
    assert_differ_by_noise(noisy, plain, updates=0, only="net.second")


def test_options_of_attach():
    noisy, plain = Module(Steady()), Module(Steady())
    fit(noisy, GradientNoise(SCHEDULE, seed=SEED, where=lambda name: name.startswith("net.second")))
    fit(plain)
    assert_differ_by_noise(noisy, plain, updates=0, only="net.first")
    assert_differ_by_noise(noisy, plain, updates=3, only="net.second")


# --- checkpoints --------------------------------------------------------------------------------------


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


# --- what is left alone -------------------------------------------------------------------------------


def test_shuffling_and_the_global_random_state_are_as_without_noise():
    seen, states = [], []
    for callbacks in ([GradientNoise(SCHEDULE, seed=SEED)], []):
        torch.manual_seed(0)
        module = Module(Curved(dropout=0.5))
        fit(module, *callbacks, data=DataLoader(range(12), batch_size=None, shuffle=True), max_steps=20)
        seen.append(module.seen)
        states.append(torch.get_rng_state())
    assert seen[0] == seen[1] != list(range(12)) + list(range(8))
    assert torch.equal(*states)


def test_the_optimizer_is_clean_after_the_fit():
    net = Steady()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    fit(Module(net, lambda _: optimizer), GradientNoise(SCHEDULE, seed=SEED))
    before = values(net)
    optimizer.zero_grad()
    optimizer.step()
    assert_same(values(net), before)


def test_the_optimizer_is_clean_after_a_fit_that_failed():
    class Broken(Module):
        def training_step(self, k, index):
            raise RuntimeError("out of memory")

    net = Steady()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(Broken(net, lambda _: optimizer), GradientNoise(SCHEDULE, seed=SEED))
    attach(optimizer, SCHEDULE, seed=SEED)


# --- the log ------------------------------------------------------------------------------------------


def test_sigma_of_each_update_is_logged_on_request():
    trainer = fit(Module(Steady()), GradientNoise(SCHEDULE, seed=SEED, log=True))
    assert trainer.callback_metrics["noise_sigma"].item() == pytest.approx(SCHEDULE(2) ** 0.5)
    trainer = fit(Manual(Steady(), one_per_layer), GradientNoise(SCHEDULE, seed=SEED, log=True))
    assert set(trainer.callback_metrics) == {"noise_sigma/0", "noise_sigma/1"}
    trainer = fit(Module(Steady()), GradientNoise(SCHEDULE, seed=SEED))
    assert trainer.callback_metrics == {}


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
