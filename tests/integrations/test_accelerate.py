"""Accelerate needs no code of ours: `attach` on the prepared optimizer keeps its promises."""

import pytest
import torch
from support.steady import SCHEDULE, SEED, Curved, Steady, assert_differ_by_noise, assert_same, batch, values

from gradnoise import attach

accelerate = pytest.importorskip(
    "accelerate", reason="accelerate is not installed: pip install 'gradnoise[accelerate]'"
)


@pytest.fixture
def accelerator_of():
    """Return an Accelerator without settings of an earlier test: Accelerate keeps them in the process."""

    def make(**settings):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        return accelerate.Accelerator(cpu=True, **settings)

    yield make
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


class Run:
    """A training loop as Accelerate's users write it."""

    def __init__(self, accelerator, net, optimizer, noise=True, before_prepare=False, clip=None):
        self.accelerator, self.net, self.clip = accelerator, net, clip
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=1.0)
        options = {"seed": SEED, "named_parameters": net.named_parameters()}
        if noise and before_prepare:
            self.noise = attach(optimizer, SCHEDULE, **options)
        self.model, self.optimizer, self.scheduler = accelerator.prepare(net, optimizer, scheduler)
        if noise and not before_prepare:
            self.noise = attach(self.optimizer, SCHEDULE, **options)

    def train(self, batches):
        for k in batches:
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(self.model(batch(k)))
                if self.clip and self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
        return self


def sgd(net):
    return torch.optim.SGD(net.parameters(), lr=1.0)


@pytest.mark.parametrize("before_prepare", [False, True], ids=["attach after prepare", "attach before prepare"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_each_update_gets_its_noise_once_and_after_the_clip(accumulation, precision, before_prepare, accelerator_of):
    accelerator = accelerator_of(gradient_accumulation_steps=accumulation, mixed_precision=precision)
    noisy, plain = Steady(), Steady()
    run = Run(accelerator, noisy, sgd(noisy), before_prepare=before_prepare, clip=1e-3).train(range(3 * accumulation))
    Run(accelerator, plain, sgd(plain), noise=False, clip=1e-3).train(range(3 * accumulation))
    assert run.noise.step == 3
    assert_differ_by_noise(noisy, plain, updates=3)


def test_an_update_that_overflows_does_not_count(accelerator_of):
    accelerator_of()  # the wrapper reads its state; fp16, which comes with a scaler, needs a GPU there
    nets = []
    for noisy in (True, False):
        net = Steady()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        optimizer = accelerate.optimizer.AcceleratedOptimizer(sgd(net), scaler=scaler)
        if noisy:
            noise = attach(optimizer, SCHEDULE, seed=SEED, named_parameters=net.named_parameters())
        for k in range(3):
            loss = net(batch(k)) * (float("inf") if k == 1 else 1.0)
            scaler.scale(loss).backward()
            optimizer.step()
            optimizer.zero_grad()
            assert optimizer.step_was_skipped == (k == 1)
        nets.append(net)
    assert noise.step == 2
    assert_differ_by_noise(*nets, updates=2)


def test_resumed_at_any_step_equals_uninterrupted(accelerator_of, tmp_path):
    def start():
        net = Curved(dropout=0.5)
        return Run(accelerator_of(), net, torch.optim.AdamW(net.parameters(), lr=0.1))

    whole = start()
    for step in range(5):
        whole.accelerator.save_state(tmp_path / str(step))
        whole.train([step])
    for step in range(5):
        resumed = start()
        resumed.accelerator.load_state(tmp_path / str(step))
        resumed.train(range(step, 5))
        assert resumed.noise.step == 5
        assert_same(values(resumed.net), values(whole.net))
