"""Situations in which noise would be absent, doubled, undone or counted wrong without a word; each as users meet it."""

import copy
import gc
import pickle
import types
import warnings
import weakref

import pytest
import torch
from support.loop import SEED, flat, noise_of
from torch import nn

from gradnoise import Annealed, Fixed, attach

SHAPE = (50,)


def added(optimizer, p, *, name="0.0", t=0, before=None):
    """Tell whether p's gradient holds `before` plus the noise of update t."""
    expected = noise_of(name, t, 1.0, p.shape) + (0 if before is None else before)
    return torch.allclose(p.grad, expected, atol=1e-6)


# --- the update does not come through the hooked step ---------------------------------------------------


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation as its public implementation has it: the base optimizer makes the update."""

    def __init__(self, params, base_optimizer, rho=0.05, **options):
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = base_optimizer(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                e = group["rho"] * p.grad / p.grad.norm().clamp(min=1e-12)
                self.state[p]["e"] = e
                p.add_(e)

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.state[p]["e"])
        self.base_optimizer.step()

    def step(self, closure=None):
        with torch.enable_grad():
            closure()
        self.first_step()
        with torch.enable_grad():
            closure()
        self.second_step()

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.base_optimizer.param_groups = self.param_groups


@pytest.mark.parametrize("by_hand", [True, False])
def test_sharpness_aware_minimisation(by_hand):
    p = nn.Parameter(torch.ones(SHAPE))
    optimizer = SAM([p], torch.optim.SGD, lr=0.1)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)

    def closure():
        p.grad = None
        (p * p).sum().backward()

    if by_hand:
        closure()
        optimizer.first_step()
        closure()
        optimizer.second_step()
    else:
        optimizer.step(closure)
    assert noise.step == 1 and noise.optimizer is optimizer.base_optimizer
    second = 2 * (1 + 0.05 * 2 / (2 * 50**0.5))
    assert added(optimizer, p, before=second)
    assert torch.allclose(p, 1 - 0.1 * p.grad)


def test_an_optimizer_under_another_name():
    class Engine:
        def __init__(self, optimizer):
            self.lr, self.my_adam = 0.1, optimizer

        def step(self):
            self.my_adam.step()

    (p,) = flat(SHAPE)
    engine = Engine(torch.optim.Adam([p]))
    attach(engine, Fixed(1.0), seed=SEED)
    engine.step()
    assert added(engine, p)


def test_two_optimizers_in_one_object_are_not_guessed_at():
    a, b = flat(SHAPE, SHAPE)
    both = types.SimpleNamespace(first=torch.optim.SGD([a]), second=torch.optim.SGD([b]))
    with pytest.raises(ValueError, match=r"keeps several optimizers \(first, second\); attach noise to each"):
        attach(both, Fixed(1.0), seed=SEED)


class Half(torch.optim.SGD):
    """Hands only some of its parameters to another optimizer, as implementations of Muon do."""

    def __init__(self, mine, others):
        super().__init__([*mine, *others], lr=1.0)
        self.adam = torch.optim.Adam(others)


def test_an_inner_optimizer_of_some_parameters_does_not_get_all_the_noise():
    a, b = flat(SHAPE, SHAPE)
    optimizer = Half([a], [b])
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    assert noise.optimizer is optimizer
    optimizer.step()
    assert added(optimizer, a) and added(optimizer, b, name="0.1")


def test_a_step_replaced_on_the_instance():
    """What apex and IPEX do: the class's hooked step is never called."""
    (p,) = flat(SHAPE)
    optimizer = torch.optim.SGD([p], lr=1.0)
    calls = []
    optimizer.step = lambda: calls.append(p.grad.clone())
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert noise.step == 1 and torch.equal(calls[0], noise_of("0.0", 0, 1.0, SHAPE))


def test_a_replaced_step_that_calls_the_real_one_adds_noise_once():
    (p,) = flat(SHAPE)
    optimizer = torch.optim.SGD([p], lr=1.0)
    real = optimizer.step
    optimizer.step = lambda: real()
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert noise.step == 1 and added(optimizer, p)


@pytest.mark.parametrize("first", [True, False])
def test_the_step_that_a_learning_rate_scheduler_wraps(first):
    (p,) = flat(SHAPE)
    optimizer = torch.optim.SGD([p], lr=1.0)
    if first:
        torch.optim.lr_scheduler.StepLR(optimizer, 10)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    if not first:
        torch.optim.lr_scheduler.StepLR(optimizer, 10)
    optimizer.step()
    assert noise.step == 1 and added(optimizer, p)


def test_a_class_whose_step_was_replaced():
    class Mine(torch.optim.SGD):
        pass

    (p,) = flat(SHAPE)
    optimizer = Mine([p], lr=1.0)
    seen = []
    Mine.step = lambda self, closure=None: seen.append(self.param_groups[0]["params"][0].grad.clone())
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert torch.equal(seen[0], noise_of("0.0", 0, 1.0, SHAPE))


def test_an_optimizer_within_the_backward_pass_leaves_no_gradient():
    (p,) = flat(SHAPE)
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    p.grad = None
    with pytest.warns(UserWarning, match="SGD.step found no gradient on any parameter that gets noise"):
        optimizer.step()
    optimizer.step()  # said once
    assert noise.step == 0


def test_a_closure_that_leaves_no_gradient_is_no_update():
    (p,) = flat(SHAPE)
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    p.grad = None
    with pytest.warns(UserWarning, match="found no gradient"):
        optimizer.step(lambda: 0.0)
    assert noise.step == 0


# --- noise goes where it is undone ----------------------------------------------------------------------


class Again(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure=closure)


class Clipping(torch.optim.SGD):
    """Full-model clipping as Detectron2 and DETR have it."""

    def step(self, closure=None):
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1.0)
        super().step(closure=closure)


class ClippingAgain(Again):
    def step(self, closure=None):
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1.0)
        super().step(closure)


class ClippingByName(torch.optim.SGD):
    def step(self, closure=None):
        nn.utils.clip_grad_norm_([p for group in self.param_groups for p in group["params"]], 1.0)
        return torch.optim.SGD.step(self, closure)


@pytest.mark.parametrize("kind", [Clipping, ClippingAgain, ClippingByName])
def test_a_subclass_that_clips_in_its_step(kind):
    p = nn.Parameter(torch.zeros(SHAPE))
    p.grad = torch.full(SHAPE, 100.0)
    optimizer = kind([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    for t in range(2):
        p.grad = torch.full(SHAPE, 100.0)
        optimizer.step()
        assert noise.step == t + 1 and added(optimizer, p, t=t, before=1 / 50**0.5)


def test_a_subclass_that_clips_after_its_closure():
    class Closing(torch.optim.SGD):
        def step(self, closure):
            loss = closure()
            nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 1.0)
            super().step()
            return loss

    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = Closing([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)

    def closure():
        p.grad = torch.full(SHAPE, 100.0)
        return 5.0

    assert optimizer.step(closure) == 5.0
    assert noise.step == 1 and added(optimizer, p, before=1 / 50**0.5)


def test_a_subclass_that_skips_its_update():
    class Careful(torch.optim.SGD):
        def step(self, closure=None):
            if self.param_groups[0]["params"][0].grad.isfinite().all():
                super().step()

    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = Careful([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    p.grad = torch.full(SHAPE, torch.inf)
    with pytest.warns(UserWarning, match="Careful.step ended without the step that it inherits"):
        optimizer.step()
    assert noise.step == 0
    p.grad = torch.zeros(SHAPE)
    optimizer.step()
    assert noise.step == 1 and added(optimizer, p)


def test_an_optimizer_that_clips_inside():
    class Lamb(torch.optim.SGD):
        def __init__(self, params):
            super().__init__(params, lr=1.0)
            self.param_groups[0]["max_grad_norm"] = 1.0

    optimizer = Lamb(flat(SHAPE))
    with pytest.warns(UserWarning, match=r"Lamb has max_grad_norm=1.0: it clips within its step, after the noise"):
        attach(optimizer, Fixed(1.0), seed=SEED).detach()
    attach(optimizer, Fixed(1.0), seed=SEED, warn=False).detach()
    optimizer.param_groups[0]["max_grad_norm"] = None
    attach(optimizer, Fixed(1.0), seed=SEED)


# --- noise lands twice or alike -------------------------------------------------------------------------


@pytest.mark.parametrize("share", [lambda g: g, lambda g: g.view(g.shape), torch.Tensor.detach])
def test_two_parameters_with_one_gradient(share):
    a, b = flat(SHAPE, SHAPE)
    b.grad = share(a.grad)
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    with pytest.raises(ValueError, match=r"'0.0' and '0.1' share one gradient tensor"):
        optimizer.step()
    assert noise.step == 0 and not a.grad.any()


def test_optimizers_that_are_used_in_turn():
    """One optimizer for each parameter, or a generator and a discriminator: default names are equal."""
    a, b = flat(SHAPE, SHAPE)
    first, second = torch.optim.SGD([a], lr=1.0), torch.optim.SGD([b], lr=1.0)
    attach(first, Fixed(1.0), seed=SEED)
    attach(second, Fixed(1.0), seed=SEED)
    with pytest.warns(UserWarning, match="another optimizer that is used in turn .* has noise of the same seed"):
        for _ in range(2):
            first.step()
            second.step()


@pytest.mark.filterwarnings("error")
def test_runs_one_after_another_and_other_names_are_no_doubt():
    for _ in range(2):
        (p,) = flat(SHAPE)
        p.grad += 100
        optimizer = torch.optim.SGD([p], lr=1.0)
        attach(optimizer, Fixed(1.0), seed=SEED)
        for _ in range(3):
            p.grad.fill_(100)
            optimizer.step()
    a, b = flat(SHAPE, SHAPE)
    pair = []
    for p, name in ((a, "generator.w"), (b, "discriminator.w")):
        p.grad += 100
        pair.append(torch.optim.SGD([p], lr=1.0))
        attach(pair[-1], Fixed(1.0), seed=SEED, named_parameters=[(name, p)])
    for _ in range(3):
        for optimizer in pair:
            optimizer.param_groups[0]["params"][0].grad.fill_(100)
            optimizer.step()


# --- the clock ------------------------------------------------------------------------------------------


def test_a_container_that_saves_something_else():
    class Container(torch.optim.Optimizer):
        """As torchtitan's: it steps and saves optimizers in a list."""

        def __init__(self, params):
            self.optimizers = [torch.optim.SGD([p], lr=1.0) for p in params]
            super().__init__(params, {})

        def step(self, closure=None):
            for optimizer in self.optimizers:
                optimizer.step()

        def state_dict(self):
            return {f"state.{i}": o.state_dict() for i, o in enumerate(self.optimizers)}

    p, q = flat(SHAPE, SHAPE)
    optimizer = Container([p, q])
    with pytest.warns(UserWarning, match=r"state_dict\(\) of Container does not keep the clock"):
        noise = attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert noise.step == 1 and added(optimizer, p) and added(optimizer, q, name="0.1")


@pytest.mark.parametrize("fail_at", ["start", "end"])
def test_a_step_that_raises_and_is_tried_again_is_one_update(fail_at):
    class Flaky(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 1.0})
            self.failures = 2

        def step(self, closure=None):
            if self.failures:
                self.failures -= 1
                raise OSError("disk")

    (p,) = flat(SHAPE)
    optimizer = Flaky([p])
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            optimizer.step()
        assert noise.step == 0
    optimizer.step()
    assert noise.step == 1 and torch.equal(p.grad, noise_of("0.0", 0, 1.0, SHAPE))
    p.grad.zero_()
    optimizer.step()
    assert torch.equal(p.grad, noise_of("0.0", 1, 1.0, SHAPE))


def test_gradients_made_anew_after_a_step_that_raised_get_their_noise():
    class Flaky(torch.optim.SGD):
        failed = False

        def zero(self):
            for p in self.param_groups[0]["params"]:
                p.grad.zero_()

    (p,) = flat(SHAPE)
    optimizer = Flaky([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    handle = optimizer.register_step_pre_hook(lambda *_: (_ for _ in ()).throw(OSError("once")))
    with pytest.raises(OSError, match="once"):
        optimizer.step()
    handle.remove()
    optimizer.zero()
    optimizer.step()
    assert noise.step == 1 and torch.equal(p.grad, noise_of("0.0", 0, 1.0, SHAPE))


def test_the_clock_advances_after_the_closure():
    (p,) = flat(SHAPE)
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    seen = []
    optimizer.step(lambda: seen.append(noise.step) or 0.0)
    assert seen == [0] and noise.step == 1


def test_a_rehearsal_of_deepspeed_does_not_count():
    (p,) = flat(SHAPE)
    optimizer = torch.optim.Adam([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)

    def initialize_optimizer_states():
        optimizer.step()

    initialize_optimizer_states()
    assert noise.step == 0 and not p.grad.any()
    optimizer.step()
    assert noise.step == 1


# --- frozen, replaced, copied ---------------------------------------------------------------------------


def test_what_is_frozen_gets_no_noise():
    a, b = flat(SHAPE, SHAPE)
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    a.requires_grad_(False)
    for p in (a, b):
        p.grad.zero_()
    optimizer.step()
    assert not a.grad.any() and added(optimizer, b, name="0.1", t=1)
    a.requires_grad_(True)
    optimizer.step()
    assert added(optimizer, a, t=2)


def test_master_copies_never_required_a_gradient():
    """Megatron and others keep a float32 copy of each weight, whose gradient they set by hand."""
    master = torch.zeros(SHAPE)
    master.grad = torch.zeros(SHAPE)
    optimizer = torch.optim.SGD([master], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert added(optimizer, master)


@pytest.mark.parametrize("named", [True, False])
def test_parameters_that_are_replaced_are_let_go(named):
    """Gaussian splatting grows and prunes its parameters all the time."""
    (p,) = flat(SHAPE)
    (q,) = flat((70,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    names = {"named_parameters": [("points", p), ("points.2", q)]} if named else {}
    attach(optimizer, Fixed(1.0), seed=SEED, **names)
    optimizer.step()
    gone = weakref.ref(p)
    optimizer.param_groups[0]["params"][0] = q
    optimizer.step()
    del p, names
    gc.collect()
    assert gone() is None
    assert added(optimizer, q, name="points.2" if named else "0.0", t=1)


def test_gradients_are_let_go_after_the_update():
    """They would stand in memory beside those of the next backward pass."""
    (p,) = flat(SHAPE)
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    gone = weakref.ref(p.grad)
    optimizer.zero_grad()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("copying", [pickle.dumps, copy.deepcopy, copy.copy])
def test_a_handle_is_not_copied(copying):
    noise = attach(torch.optim.SGD(flat(SHAPE)), Fixed(1.0), seed=SEED)
    with pytest.raises(TypeError, match="handle of gradient noise cannot be copied or pickled"):
        copying(noise)


# --- the dose -------------------------------------------------------------------------------------------


def test_noise_that_drowns_the_gradient_is_said_once():
    p = nn.Parameter(torch.zeros(10_000))
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Annealed(1.0), seed=SEED)
    p.grad = torch.full((10_000,), 0.01)
    with pytest.warns(UserWarning, match=r"has a norm of 100, the gradient one of 1: 100 times as much"):
        optimizer.step()
    p.grad = torch.full((10_000,), 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("gradient", "options"), [(0.2, {}), (0.01, {"warn": False}), (0.0, {})])
def test_noise_of_a_usual_size_is_not_mentioned(gradient, options):
    """Nor where there is no gradient at all, as at the start from zeros."""
    p = nn.Parameter(torch.zeros(10_000))
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Annealed(1.0), seed=SEED, **options)
    p.grad = torch.full((10_000,), gradient)
    optimizer.step()


def test_a_gradient_under_a_loss_scale_is_compared_without_it():
    p = nn.Parameter(torch.zeros(10_000))
    optimizer = torch.optim.SGD([p], lr=1.0, fused=True)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
    attach(optimizer, Annealed(1.0), seed=SEED)
    p.grad = torch.full((10_000,), 10.24)
    with pytest.warns(UserWarning, match="100 times as much"):
        optimizer.step()
