"""`GradientNoise` in Lightning's Trainer: once per update, after the clip, and by the parameter's name."""

import runpy
import sys

import pytest
import torch
from support.lightning_runs import Manual, Module, Older, fit, older, one_process_ddp, quiet_lightning, scaled
from support.steady import SCHEDULE, SEED, Curved, Steady, assert_differ_by_noise, assert_same, batch, values
from torch.utils.data import DataLoader

import gradnoise.integrations.lightning
from gradnoise import attach
from gradnoise.integrations.lightning import GradientNoise

pytestmark = quiet_lightning


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
    """Train with LBFGS, which calls its closure several times per update, and compare with a loop written by hand."""

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


# --- what goes without a word ---------------------------------------------------------------------------


class Bypassed(Module):
    """Makes its updates without the optimizer's step."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step = lambda closure: closure()
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


def test_a_fit_whose_updates_had_no_noise_is_reported():
    callback = GradientNoise(SCHEDULE, seed=SEED)
    with pytest.warns(UserWarning, match=r"training made \d updates and none of them had noise"):
        fit(Bypassed(Steady()), callback)
    assert callback.noises[0].step == 0
