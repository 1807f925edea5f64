import copy
import math
import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

from gradnoise.attach import attach
from gradnoise.clock import CLOCK
from gradnoise.gaussian import normal, stream_key
from gradnoise.schedule import Annealed, Fixed, sigma

SEED = 3

# One row per optimizer: every promise below runs over the table.
OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, foreach=True),
    "LBFGS": lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=3),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def make_model(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model


def loss_of(model, k=0):
    p = next(model.parameters())
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(k)).to(p.dtype)
    return model(x).square().mean()


def closure_for(model, optimizer, k):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, k)
        loss.backward()
        return loss

    return closure


def train(model, optimizer, steps, first=0):
    """Updates as a user writes them: LBFGS takes a closure, the others a plain loop."""
    for k in range(first, first + steps):
        closure = closure_for(model, optimizer, k)
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()


def parameters_of(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def zero_gradients(*shapes, dtype=torch.float32):
    parameters = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    return parameters


def noise_of(seed, name, t, deviation, shape):
    return torch.tensor(deviation) * normal(stream_key(seed, name), t, math.prod(shape)).view(shape)


# --- what is added ------------------------------------------------------------------------------------


@every_optimizer
def test_a_step_equals_a_step_on_noisy_gradients(make):
    """The slow reference: the user adds the same noise by hand before step, or at the end of the closure."""
    ours, by_hand = make_model(), make_model()
    schedule = Annealed(0.1)
    optimizer, plain = make(ours.parameters()), make(by_hand.parameters())
    attach(optimizer, schedule, seed=SEED, named_parameters=ours.named_parameters())
    train(ours, optimizer, 4)

    def add(t):
        for name, p in by_hand.named_parameters():
            p.grad += noise_of(SEED, name, t, sigma(schedule, t), p.shape)

    for t in range(4):
        closure = closure_for(by_hand, plain, t)

        def noisy(closure=closure, t=t):
            loss = closure()
            add(t)
            return loss

        if isinstance(plain, torch.optim.LBFGS):
            plain.step(noisy)
        else:
            noisy()
            plain.step()
    assert equal(parameters_of(ours), parameters_of(by_hand))
    assert not equal(parameters_of(ours), parameters_of(make_model()))


@every_optimizer
def test_eta_0_is_a_bitwise_no_op(make):
    noisy, plain = make_model(), make_model()
    optimizer = make(noisy.parameters())
    attach(optimizer, Annealed(0.0), seed=SEED)
    train(noisy, optimizer, 3)
    train(plain, make(plain.parameters()), 3)
    assert equal(parameters_of(noisy), parameters_of(plain))


@every_optimizer
def test_a_resumed_run_equals_an_uninterrupted_one(make, tmp_path):
    whole = make_model()
    optimizer = make(whole.parameters())
    attach(optimizer, Annealed(0.1), seed=SEED)
    train(whole, optimizer, 6)

    first = make_model()
    optimizer = make(first.parameters())
    attach(optimizer, Annealed(0.1), seed=SEED)
    train(first, optimizer, 3)
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint")

    second = make_model()
    optimizer = make(second.parameters())
    noise = attach(optimizer, Annealed(0.1), seed=SEED)
    saved = torch.load(tmp_path / "checkpoint", weights_only=True)
    second.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    assert noise.step == 3
    train(second, optimizer, 3, first=3)
    assert equal(parameters_of(whole), parameters_of(second))


@pytest.mark.parametrize("t", [0, 1, 10**6])
def test_the_variance_law_holds_at(t):
    """The sample variance of 4e5 numbers is within 5 standard errors, false alarm 6e-7."""
    (p,) = zero_gradients((400, 1000))
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Annealed(eta=0.3, gamma=0.55), seed=SEED)
    optimizer.param_groups[0][CLOCK] = t
    variance = 0.3 / (1 + t) ** 0.55
    assert noise.sigma == pytest.approx(variance**0.5, rel=1e-15)
    optimizer.step()
    assert p.grad.double().square().mean().item() == pytest.approx(variance, rel=5 * (2 / p.numel()) ** 0.5)
    assert torch.equal(p.data, -p.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_gets_the_same_noise_rounded_once(dtype):
    (p,) = zero_gradients((50, 7), dtype=dtype)
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Fixed(0.5), seed=SEED)
    optimizer.step()
    z = normal(stream_key(SEED, "0.0"), 0, 350).view(50, 7)
    assert torch.equal(p.grad, (0.5 * z.to(dtype)) if dtype == torch.float64 else (0.5 * z).to(dtype))


def test_gradients_of_any_stride_are_addressed_in_row_major_order():
    weight = nn.Parameter(torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last))
    weight.grad = torch.zeros_like(weight)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert torch.equal(weight.grad, noise_of(SEED, "0.0", 0, 1.0, weight.shape))


def test_gradients_are_changed_in_place():
    (p,) = zero_gradients((10,))
    gradient, memory = p.grad, p.grad.data_ptr()
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    assert p.grad is gradient and gradient.data_ptr() == memory and gradient.count_nonzero() == 10


def test_noise_of_a_parameter_depends_on_its_name_alone():
    shapes = {"a": (4, 3), "b": (7,), "c": (2, 2)}

    def gradients(order, frozen=()):
        parameters = dict(zip(order, zero_gradients(*(shapes[n] for n in order)), strict=True))
        for name in frozen:
            parameters[name].grad = None
        optimizer = torch.optim.SGD(parameters.values(), lr=1.0)
        attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=parameters.items())
        optimizer.step()
        return {name: p.grad for name, p in parameters.items()}

    whole = gradients("abc")
    for other in (gradients("cab"), gradients("ab"), gradients("abc", frozen="b")):
        assert all(g is None or torch.equal(g, whole[name]) for name, g in other.items())
    assert gradients("abc", frozen="b")["b"] is None
    assert not torch.equal(whole["a"].flatten()[:4], whole["c"].flatten())


def test_without_names_parameters_go_by_group_and_index():
    a, b, c = zero_gradients((5,), (5,), (5,))
    optimizer = torch.optim.SGD([{"params": [a, b]}, {"params": [c]}], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    for name, p in (("0.0", a), ("0.1", b), ("1.0", c)):
        assert torch.equal(p.grad, noise_of(SEED, name, 0, 1.0, (5,)))


def test_a_group_added_later_joins_the_clock():
    a, b = zero_gradients((5,), (6,))
    optimizer = torch.optim.SGD([a], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("a", a), ("b", b)])
    optimizer.step()
    optimizer.add_param_group({"params": [b]})
    optimizer.step()
    assert torch.equal(b.grad, noise.replay("b", 1))
    assert [g[CLOCK] for g in optimizer.param_groups] == [2, 2]


def test_a_tied_parameter_gets_noise_once_under_its_first_name():
    (p,) = zero_gradients((5,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("encoder", p), ("decoder", p)])
    optimizer.step()
    assert torch.equal(p.grad, noise_of(SEED, "encoder", 0, 1.0, (5,)))


# --- mistakes of the past -----------------------------------------------------------------------------


def one_noisy_step(schedule, lr=1.0, shape=(1000, 100)):
    (p,) = zero_gradients(shape)
    optimizer = torch.optim.SGD([p], lr=lr)
    attach(optimizer, schedule, seed=SEED)
    optimizer.step()
    return p


def test_the_schedule_is_a_variance_not_a_standard_deviation():
    gradient = one_noisy_step(Annealed(eta=0.01)).grad
    assert gradient.double().std().item() == pytest.approx(0.1, rel=0.02)  # 0.01 would be the mistake


def test_the_first_update_has_variance_eta():
    deviations = []
    (p,) = zero_gradients((1000,))
    optimizer = torch.optim.SGD([p], lr=0.0)
    noise = attach(optimizer, lambda t: deviations.append(t) or 0.25, seed=SEED)
    deviations.clear()
    p.grad += 1.0
    for _ in range(3):
        optimizer.step()
    assert deviations == [0, 1, 2]
    assert noise.step == 3
    first = one_noisy_step(Annealed(eta=0.25, gamma=0.55))
    assert torch.equal(first.grad, noise_of(SEED, "0.0", 0, 0.5, (1000, 100)))  # starting at 1: 0.5 / 2^0.275


def test_noise_comes_after_the_clip():
    (p,) = zero_gradients((1000,))
    p.grad += 1000.0
    optimizer = torch.optim.SGD([p], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    nn.utils.clip_grad_norm_([p], 1e-3)
    clipped = p.grad.clone()
    optimizer.step()
    assert p.grad.norm() > 25  # about sqrt(1000): the clip has not seen it
    assert torch.equal(p.grad, clipped + noise_of(SEED, "0.0", 0, 1.0, (1000,)))


def test_noise_is_added_once_per_update_not_per_micro_batch():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Fixed(0.5), seed=SEED, named_parameters=model.named_parameters())
    for k in range(4):
        (loss_of(model, k) / 4).backward()
    clean = {name: p.grad.clone() for name, p in model.named_parameters()}
    optimizer.step()
    assert noise.step == 1
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, clean[name] + noise_of(SEED, name, 0, 0.5, p.shape))


def test_noise_is_not_truncated():
    """Of 1e6 normals some 63 are beyond 4 sigma; a truncated normal has none beyond 2."""
    z = one_noisy_step(Fixed(1.0), shape=(1000, 1000)).grad
    assert 20 < (z.abs() > 4).sum() < 120


def test_noise_goes_through_the_learning_rate():
    """Noise added after it would move the parameter by sigma, whatever the learning rate."""
    p = one_noisy_step(Fixed(1.0), lr=1e-3)
    assert torch.equal(p.data, -1e-3 * p.grad)
    assert p.data.double().std().item() == pytest.approx(1e-3, rel=0.02)


# --- edges of torch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("keyword", [False, True])
def test_a_closure_gets_the_same_noise_after_each_backward(keyword):
    model = make_model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.0, max_iter=5, tolerance_grad=0, tolerance_change=-1)
    noise = attach(optimizer, Fixed(0.5), seed=SEED, named_parameters=model.named_parameters())
    clean, calls = {}, 0

    def closure():
        nonlocal calls
        calls += 1
        if calls > 1:  # what the optimizer left since the call before
            for name, p in model.named_parameters():
                assert torch.equal(p.grad, clean[name] + noise.replay(name, 0))
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        clean.update({name: p.grad.clone() for name, p in model.named_parameters()})
        return loss

    returned = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
    assert calls > 1 and noise.step == 1
    assert returned == loss_of(model)


class CallsItsParent(torch.optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


class CallsItsGrandparent(CallsItsParent):
    def step(self, closure=None):
        loss = None if closure is None else closure()
        super().step()
        return loss


@pytest.mark.parametrize("cls", [CallsItsParent, CallsItsGrandparent])
@pytest.mark.parametrize("with_closure", [False, True])
def test_a_step_that_calls_super_adds_noise_once(cls, with_closure):
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)  # the parent's step is hooked by its first instance
    ours, by_hand = make_model(), make_model()
    optimizer = cls(ours.parameters(), lr=0.1)
    noise = attach(optimizer, Annealed(0.1), seed=SEED)
    plain = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    attach(plain, Annealed(0.1), seed=SEED)
    for k in range(3):
        closure = closure_for(ours, optimizer, k)
        if with_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
    train(by_hand, plain, 3)
    assert noise.step == 3
    assert equal(parameters_of(ours), parameters_of(by_hand))


def test_a_step_that_raised_does_not_silence_the_next():
    class Fails(CallsItsParent):
        fail = True

        def step(self, closure=None):
            if self.fail:
                raise RuntimeError("out of luck")
            return super().step(closure)

    (p,) = zero_gradients((5,))
    optimizer = Fails([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    with pytest.raises(RuntimeError, match="out of luck"):
        optimizer.step()
    optimizer.fail = False
    p.grad.zero_()
    optimizer.step()
    assert torch.equal(p.grad, noise.replay("0.0", 1))


def test_wrappers_that_never_ran_init_are_seen_through():
    class Accelerated(torch.optim.Optimizer):
        def __init__(self, optimizer):
            self.optimizer = optimizer

        def step(self, closure=None):
            self.optimizer.step(closure)

    class Private(Accelerated):
        def __init__(self, optimizer):
            self.original_optimizer = optimizer

        def step(self, closure=None):
            self.original_optimizer.step(closure)

    (p,) = zero_gradients((5,))
    wrapped = Private(Accelerated(torch.optim.SGD([p], lr=1.0)))
    noise = attach(wrapped, Fixed(1.0), seed=SEED)
    wrapped.step()
    assert torch.equal(p.grad, noise.replay("0.0", 0))


def test_a_checkpoint_s_rehearsal_step_changes_nothing():
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    state = get_optimizer_state_dict(model, optimizer)["state"]  # steps once with zero gradients and lr 0
    assert all(s["exp_avg"].count_nonzero() == 0 for s in state.values())
    assert noise.step == 0


def test_a_copy_has_no_noise_but_keeps_the_clock():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attach(optimizer, Fixed(1.0), seed=SEED)
    train(model, optimizer, 2)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        p = twin.param_groups[0]["params"][0]
        p.grad = torch.zeros_like(p)
        twin.step()
        assert p.grad.count_nonzero() == 0
        assert attach(twin, Fixed(1.0), seed=SEED).step == 2


def test_noise_works_beside_a_learning_rate_schedule():
    (p,) = zero_gradients((5,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.step()
    schedule.step()
    assert torch.equal(p.grad, noise.replay("0.0", 0)) and noise.step == 1


def test_global_generators_are_not_touched():
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = states()
    one_noisy_step(Fixed(1.0))
    assert states() == before


# --- the handle ---------------------------------------------------------------------------------------


def test_while_paused_no_noise_is_added_and_the_clock_goes_on():
    (p,) = zero_gradients((5,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Annealed(1.0), seed=SEED)
    with noise.paused():
        with noise.paused():
            optimizer.step()
        optimizer.step()
    assert p.grad.count_nonzero() == 0
    optimizer.step()
    assert torch.equal(p.grad, noise.replay("0.0", 2))


def test_detach_ends_the_noise_and_attach_goes_on_counting():
    (p,) = zero_gradients((5,))
    optimizer = torch.optim.SGD([p], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.step()
    noise.detach()
    p.grad.zero_()
    optimizer.step()
    assert p.grad.count_nonzero() == 0
    assert attach(optimizer, Fixed(1.0), seed=SEED).step == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_replay_is_what_was_added(dtype):
    model = make_model(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Annealed(0.1), seed=SEED, named_parameters=model.named_parameters())
    for t in range(2):
        closure_for(model, optimizer, t)()
        clean = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
        for name, p in model.named_parameters():
            assert torch.equal(p.grad, clean[name] + noise.replay(name, t))


def test_replay_names_the_nearest_parameter():
    model = make_model()
    noise = attach(
        torch.optim.SGD(model.parameters(), lr=0.1),
        Fixed(1.0),
        seed=SEED,
        named_parameters=model.named_parameters(),
    )
    with pytest.raises(ValueError, match=r"no parameter is named '2.wieght'; the nearest is '2.weight'"):
        noise.replay("2.wieght", 0)


# --- what is refused ----------------------------------------------------------------------------------


def sgd(*shapes):
    return torch.optim.SGD([nn.Parameter(torch.zeros(s)) for s in shapes], lr=1.0)


def test_attaching_twice_is_refused():
    optimizer = sgd((3,))
    attach(optimizer, Fixed(1.0), seed=SEED)
    with pytest.raises(ValueError, match="has noise attached already; call detach"):
        attach(optimizer, Fixed(1.0), seed=SEED)


def test_an_optimizer_without_parameters_is_refused():
    optimizer = sgd((3,))
    optimizer.param_groups.clear()
    with pytest.raises(ValueError, match="has no parameters"):
        attach(optimizer, Fixed(1.0), seed=SEED)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(ValueError, match=r"attribute `optimizer`, got Linear; pass the torch optimizer itself"):
        attach(nn.Linear(2, 2), Fixed(1.0), seed=SEED)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"schedule": 0.01},
            r"schedule must be a callable t -> variance such as Annealed\(eta=0.01\), got 0.01",
        ),
        ({"schedule": lambda t: -1.0}, "at t = 0 it returned -1.0"),
        ({"seed": 0.5}, "seed must be an integer, got 0.5"),
        (
            {"named_parameters": []},
            r"parameter 0.0 \(group.index\) of shape \[3\] is in the optimizer but not in",
        ),
    ],
)
def test_unusable_arguments_are_named_and_leave_no_trace(arguments, message):
    optimizer = sgd((3,))
    with pytest.raises(ValueError, match=message):
        attach(optimizer, **({"schedule": Fixed(1.0), "seed": SEED} | arguments))
    attach(optimizer, Fixed(1.0), seed=SEED)


def test_a_name_given_to_two_parameters_is_refused():
    optimizer = sgd((3,), (3,))
    names = [("w", p) for p in optimizer.param_groups[0]["params"]]
    with pytest.raises(ValueError, match="the name 'w' to two parameters"):
        attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=names)


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_sparse_and_complex_gradients_are_refused(kind):
    if kind == "sparse":
        layer = nn.Embedding(10, 3, sparse=True)
        parameter = layer.weight
        layer(torch.tensor([1, 2])).sum().backward()
    else:
        parameter = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=[("w", parameter)])
    with pytest.raises(NotImplementedError, match=r"dense real gradients that are plain tensors, but that of 'w'"):
        optimizer.step()
    assert noise.step == 0


def test_a_tensor_subclass_such_as_dtensor_is_refused():
    class Sharded(torch.Tensor):
        pass

    parameter = nn.Parameter(torch.zeros(3).as_subclass(Sharded))
    parameter.grad = torch.zeros(3).as_subclass(Sharded)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    attach(optimizer, Fixed(1.0), seed=SEED)
    with pytest.raises(NotImplementedError, match="is a Sharded"):
        optimizer.step()


def test_a_fused_optimizer_under_a_gradient_scaler_is_refused():
    (p,) = zero_gradients((3,))
    optimizer = torch.optim.AdamW([p], lr=0.1, fused=True)
    attach(optimizer, Fixed(1.0), seed=SEED)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(torch.zeros(()))
    with pytest.raises(NotImplementedError, match="build the optimizer with fused=False"):
        scaler.step(optimizer)


def test_an_optimizer_that_is_not_fused_works_under_a_gradient_scaler():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, named_parameters=model.named_parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for bad in (True, False):
        optimizer.zero_grad()
        scaler.scale(loss_of(model) * (math.inf if bad else 1.0)).backward()
        scaler.step(optimizer)  # skips the update, and so the clock, where a gradient is not finite
        scaler.update()
        assert noise.step == (0 if bad else 1)
