"""Noise that does not reach the update: it is brought there, or said to be lost; and what only looks like it."""

import threading
import warnings

import pytest
import torch
from support.loop import SEED, noise_of
from torch import nn

from gradnoise import Annealed, Fixed, attach

SHAPE = (50,)


def some(k=0, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(k))


@pytest.fixture
def said():
    """The warnings of a test, but for that of noise which is large on purpose."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message="the noise of update")
        warnings.filterwarnings("ignore", message="Sparse invariant checks")  # of torch
        yield caught


def noisy(kind=torch.optim.SGD, schedule=Fixed(1.0), shape=SHAPE, lr=1.0, **options):  # noqa: B008
    p = nn.Parameter(torch.zeros(shape))
    optimizer = kind([p], lr=lr, **options)
    return p, optimizer, attach(optimizer, schedule, seed=SEED)


# --- functions that make gradients ------------------------------------------------------------------------


class Own(torch.optim.SGD):
    """Has a `step` that is all its own: x <- x - g."""

    @torch.no_grad()
    def move(self):
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad)


class Deaf(Own):
    def step(self, closure=None):
        self.move()


def test_a_closure_that_is_not_called_is_said_and_later_updates_have_noise(said):
    p, optimizer, noise = noisy(Deaf)
    sums = torch.zeros(SHAPE)
    for k in range(4):
        p.grad = torch.zeros(SHAPE)
        optimizer.step(lambda: None)
        sums += noise_of("0.0", k - 1, 1.0, SHAPE) if k else 0
        assert noise.step == k and torch.allclose(p, -sums, atol=1e-5)
    (one,) = said
    assert "Deaf.step did not call the function that it was given; this update has no noise" in str(one.message)


class Second(Own):
    def step(self, scale=None, closure=None):
        closure()
        self.move()


class Outer(Second):
    def step(self, scale=None, *, evaluate):
        super().step(scale, evaluate)


class Renamed(Own):
    def step(self, evaluate, log=None):
        evaluate()
        log(self)
        self.move()


class Keyword(Own):
    def step(self, closure=None, *, measure, evaluate):
        measure()
        evaluate()
        measure()
        self.move()


CALLS = {
    "second": (Second, lambda step, f: step(1.0, f)),
    "by name": (Second, lambda step, f: step(closure=f, scale=1.0)),
    "handed on": (Outer, lambda step, f: step(1.0, evaluate=f)),
    "renamed": (Renamed, lambda step, f: step(f, lambda optimizer: None)),
    "a keyword": (Keyword, lambda step, f: step(evaluate=f, measure=lambda: 0.0)),
}


@pytest.mark.parametrize("before", ["none", "stale"])
@pytest.mark.parametrize("call", CALLS)
def test_a_closure_of_another_place_or_name(call, before, said):
    kind, update = CALLS[call]
    p, optimizer, noise = noisy(kind)
    p.grad = None if before == "none" else some(5)

    def evaluate():
        p.grad = None
        (p * some()).sum().backward()

    for t in range(3):
        expected = p.detach() - some() - noise_of("0.0", t, 1.0, SHAPE)
        update(optimizer.step, evaluate)
        assert noise.step == t + 1 and torch.allclose(p, expected, atol=1e-5)
    assert not said


def test_a_function_that_makes_no_gradient_changes_nothing(said):
    class Paced(Own):
        def step(self, closure=None, pace=None):
            self.move()
            pace()

    p, optimizer, noise = noisy(Paced)
    for t in range(3):
        p.grad = torch.zeros(SHAPE)
        expected = p.detach() - noise_of("0.0", t, 1.0, SHAPE)
        optimizer.step(pace=lambda: 0.1)
        assert noise.step == t + 1 and torch.equal(p, expected)
    assert not said


def test_a_backward_pass_of_the_steps_own_after_the_noise_is_said(said):
    class Evaluates(Own):
        def step(self, closure=None):
            p = self.param_groups[0]["params"][0]
            p.grad = None
            with torch.enable_grad():
                (p * some()).sum().backward()
            self.move()

    p, optimizer, _ = noisy(Evaluates)
    for _ in range(3):
        p.grad = some()
        optimizer.step()
    (one,) = said
    assert "a backward pass within Evaluates.step made gradients after the noise was added" in str(one.message)


# --- gradients that are filled anew or replaced -----------------------------------------------------------


def refill(p):
    p.grad.copy_(p.bucket)


def refill_data(p):
    p.grad.data.copy_(p.bucket.to(torch.bfloat16))


def reduce_late(p):
    p.grad.copy_(p.bucket + 0.5 * some(9, p.shape))


def replace(p):
    p.grad = p.bucket.clone()


def clip_by_value(p):
    p.grad = p.grad.clamp(-0.01, 0.01)


def clip_by_norm(p):
    p.grad = p.grad * (0.1 / p.grad.norm())


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (refill, "is as it was before the noise"),
        (refill_data, "is as it was before the noise"),
        (reduce_late, "is as it was before the noise"),
        (replace, "is as it was before the noise"),
        (clip_by_value, "clipped gradients after the noise"),
        (clip_by_norm, "clipped gradients after the noise"),
    ],
)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_hook_after_the_noise_that_undoes_it(hook, message, kind, said):
    p, optimizer, _ = noisy(kind, Fixed(1.0), shape=(70, 70), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: hook(p))
    for k in range(3):
        p.grad = some(k, p.shape)
        p.bucket = p.grad.clone()
        optimizer.step()
    (one,) = said
    assert message in str(one.message)


@pytest.mark.parametrize(("hook", "message"), [(refill, "is as it was"), (clip_by_norm, "clipped gradients")])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_fused_step_that_takes_a_loss_scale_away(hook, message, kind, said):
    """It divides gradients by the scale, which is no clip, and may lose noise like any other."""
    p = nn.Parameter(torch.zeros(70, 70))
    optimizer = kind([p], lr=0.1, fused=True)
    attach(optimizer, Fixed(1.0), seed=SEED)
    scaler = torch.amp.GradScaler("cpu", init_scale=1000.0)
    for hooked in (False, True):
        if hooked:
            optimizer.register_step_pre_hook(lambda *_: hook(p))
        optimizer.zero_grad()
        scaler.scale((p * some(int(hooked), p.shape)).sum()).backward()
        p.bucket = p.grad.clone()
        scaler.step(optimizer)
        scaler.update()
        assert len(said) == hooked
    assert message in str(said[0].message)


@pytest.mark.parametrize("hook", [refill, replace, clip_by_value, clip_by_norm])
def test_few_elements(hook, said):
    p, optimizer, _ = noisy(shape=(4,))
    optimizer.register_step_pre_hook(lambda *_: hook(p))
    for _ in range(3):
        p.grad = torch.ones(4)
        p.bucket = p.grad.clone()
        optimizer.step()
    assert len(said) == 1


def test_one_of_many_parameters_that_is_filled_anew(said):
    parameters = [nn.Parameter(torch.zeros(20)) for _ in range(7)]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    attach(optimizer, Fixed(1.0), seed=SEED)
    optimizer.register_step_pre_hook(lambda *_: refill(parameters[3]))
    for p in parameters:
        p.grad = some(1, p.shape)
        p.bucket = p.grad.clone()
    optimizer.step()
    (one,) = said
    assert "the gradient of '0.3' is as it was before the noise" in str(one.message)


def test_an_optimizer_that_steps_from_copies(said):
    class Copies(torch.optim.SGD):
        def __init__(self, params, lr):
            super().__init__(params, lr)
            self.copies = {}
            for p in self.param_groups[0]["params"]:
                p.register_post_accumulate_grad_hook(lambda p: self.copies.update({p: p.grad.clone()}))

        @torch.no_grad()
        def step(self, closure=None):
            for p, g in self.copies.items():
                p.sub_(g, alpha=self.param_groups[0]["lr"])

    p, optimizer, _ = noisy(Copies, lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (p * some()).sum().backward()
        optimizer.step()
    (one,) = said
    assert "Copies.step moved '0.0' by its gradient as it was before the noise" in str(one.message)


# --- gradients that are not made anew ---------------------------------------------------------------------


def test_two_steps_of_one_gradient_are_said(said):
    p, optimizer, _ = noisy(torch.optim.Adam)
    for k in range(2):
        p.grad = some(k)
        optimizer.step()
        optimizer.step()
    (one,) = said
    assert "the gradient of '0.0' was not made anew since the last update: it still has the noise" in str(one.message)


RENEWAL = {
    "zeros": lambda p: p.grad.zero_(),
    "the same": lambda p: setattr(p, "grad", some()),
    "data": lambda p: setattr(p.grad, "data", some()),
    "accumulated": lambda p: p.grad.add_(some()),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("renew", RENEWAL)
def test_gradients_that_are_made_anew_are_no_doubt(renew):
    p, optimizer, noise = noisy(schedule=Fixed(0.1), lr=0.1)
    p.grad = some()
    for _ in range(5):
        RENEWAL[renew](p)
        optimizer.step()
    assert noise.step == 5


@pytest.mark.filterwarnings("error")
def test_two_steps_of_one_gradient_without_noise_are_no_doubt():
    p, optimizer, noise = noisy(schedule=Annealed(0.01, until=1), lr=0.1)
    p.grad = some()
    optimizer.step()
    p.grad = some()
    with noise.paused():
        optimizer.step()
    for _ in range(3):
        optimizer.step()
    assert noise.step == 5 and torch.equal(p.grad, some())


# --- what only looks like it ------------------------------------------------------------------------------


def scratch(what):
    class Scratch(torch.optim.SGD):
        """Uses gradients as a scratch pad once it has moved the weights."""

        def step(self, closure=None):
            super().step()
            self.change()

        @torch.no_grad()
        def change(self):
            for p in self.param_groups[0]["params"]:
                before = getattr(p, "momentum", torch.zeros_like(p.grad))
                p.momentum = before.lerp(p.grad, 0.1)
                what(p.grad, p)

    return Scratch


SCRATCH = {
    "zeros": lambda g, p: g.zero_(),
    "rate": lambda g, p: g.mul_(0.01),
    "decay": lambda g, p: g.add_(p, alpha=0.1),
    "sign": lambda g, p: g.sign_(),
    "adam": lambda g, p: g.div_(g.abs() + 1e-8),
    "root": lambda g, p: g.copy_(g.abs().sqrt()),
    "momentum": lambda g, p: g.copy_(p.momentum),
    "nesterov": lambda g, p: g.lerp_(p.momentum, 0.9),
    "centred": lambda g, p: g.sub_(g.mean()),
    "weights": lambda g, p: g.copy_(p),
    "gone": lambda g, p: setattr(p, "grad", None),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sigma", [1e-8, 1e-3, 1.0, 20.0])
@pytest.mark.parametrize("shape", [(40, 150), (4,)])
@pytest.mark.parametrize(
    ("what", "flat"),
    # A gradient that is 3 everywhere is scaled by signs and roots, as clipping would scale it.
    [(what, flat) for what in SCRATCH for flat in (True, False) if not (flat and what in ("sign", "adam", "root"))],
)
def test_gradients_as_a_scratch_pad_are_no_doubt(what, sigma, flat, shape):
    p, optimizer, _ = noisy(scratch(SCRATCH[what]), Fixed(sigma), shape, lr=0.01, momentum=0.9)
    for k in range(6):
        p.grad = torch.full(p.shape, 3.0) if flat else 3.0 * some(0, p.shape) + 0.1 * some(k, p.shape)
        optimizer.step()


OPTIMIZERS = [
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Rprop,
    torch.optim.ASGD,
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_of_torch_are_no_doubt(kind):
    for sigma in (1e-8, 1e-4, 1e-2, 1.0):
        for flat in (True, False):
            for options in ({}, {"weight_decay": 0.1}, {"momentum": 0.99}):
                if "momentum" in options and kind not in (torch.optim.SGD, torch.optim.RMSprop):
                    continue
                if "weight_decay" in options and kind is torch.optim.Rprop:
                    continue
                p, optimizer, _ = noisy(kind, Fixed(sigma), (40, 150), lr=1e-3, **options)
                p.data += some(7, p.shape)
                for k in range(4):
                    p.grad = torch.ones(p.shape) if flat else some(0, p.shape) + 0.1 * some(k, p.shape)
                    optimizer.step()


@pytest.mark.filterwarnings("error")
def test_line_searches_accumulation_and_clipping_are_no_doubt():
    p, optimizer, _ = noisy(torch.optim.LBFGS, Annealed(1e-6), line_search_fn="strong_wolfe")
    for k in range(3):

        def closure(k=k):
            optimizer.zero_grad()
            loss = (p - some(k)).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    p, optimizer, _ = noisy(torch.optim.Adam, Annealed(1e-4), lr=0.01)
    for k in range(12):
        (p - some(k)).square().sum().backward()
        if k % 3 == 2:
            nn.utils.clip_grad_norm_([p], 0.5)
            optimizer.step()
            optimizer.zero_grad(set_to_none=k > 6)


@pytest.mark.filterwarnings("error")
def test_a_backward_pass_in_another_thread_belongs_to_the_step_that_waits_for_it():
    """On a GPU autograd runs the hooks of gradients in a thread of its own."""
    p, optimizer, noise = noisy(torch.optim.LBFGS, Annealed(1e-6), lr=0.1, max_iter=6)

    def closure():
        def work():
            optimizer.zero_grad()
            (p - some()).square().sum().backward()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return (p - some()).square().sum()

    for _ in range(3):
        optimizer.step(closure)
    assert noise.step == 3


# --- rows that are to stay 0 ------------------------------------------------------------------------------


def embedding(sparse=False, **options):
    model = nn.Embedding(9, 4, sparse=sparse, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.tensor([0, 1, 2, 5])).sum().backward()
    return model, optimizer


def test_the_padding_of_an_embedding_is_said(said):
    model, optimizer = embedding(padding_idx=2)
    attach(optimizer, Fixed(0.1), seed=SEED, named_parameters=model.named_parameters())
    optimizer.step()
    (one,) = said
    assert "row 2 of 'weight' is all zeros and has no gradient, as the row of an embedding's padding_idx" in str(
        one.message
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["none", "sparse", "no noise", "zeros", "trained"])
def test_other_rows_without_a_gradient_are_no_doubt(kind):
    model, optimizer = embedding(sparse=kind == "sparse", padding_idx=None if kind == "none" else 2)
    if kind == "zeros":
        model.weight.data.zero_()
    if kind == "trained":
        model.weight.grad[2] = 1.0
    attach(optimizer, Fixed(0.0 if kind == "no noise" else 0.1), seed=SEED)
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e-6])
def test_a_gradient_that_has_vanished_beside_its_noise_is_no_lost_noise(size, dtype):
    """Deep networks have such gradients: the update is the noise, and what follows the gradient is rounding."""
    p = nn.Parameter(torch.randn(4096, dtype=dtype, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.SGD([p], lr=0.1)
    attach(optimizer, Fixed(0.1), seed=0)
    for t in range(4):
        p.grad = size * torch.randn(4096, dtype=dtype, generator=torch.Generator().manual_seed(t + 1))
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_bias_before_a_batch_normalization_is_no_lost_noise(kind, dtype):
    """Its gradient is rounding alone, and four elements are fitted by chance."""
    for seed in range(100):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(dtype)
        optimizer = kind(model.parameters(), lr=1.0)
        attach(optimizer, Fixed(1.0), seed=seed)
        model(torch.randn(8, 3, dtype=dtype, generator=torch.Generator().manual_seed(seed))).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("lost", ["", "filled anew", "copies"])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.SparseAdam, torch.optim.Adagrad])
def test_rows_of_a_sparse_gradient(kind, lost, said):
    """They come unordered and repeated, and get noise in order and once."""
    model = nn.Embedding(50, 20, sparse=True)
    optimizer = kind(model.parameters(), lr=0.1)
    attach(optimizer, Fixed(1.0), seed=SEED)
    copies = []
    if lost:
        optimizer.register_step_pre_hook(lambda *_: setattr(model.weight, "grad", copies[-1]))
    if lost == "copies":  # and what the step leaves does not tell
        optimizer.register_step_post_hook(lambda *_: setattr(model.weight, "grad", None))
    for k in range(3):
        optimizer.zero_grad()
        (model(torch.tensor([3, 40, 7, 3])) * some(k, (4, 20))).sum().backward()
        copies.append(model.weight.grad.clone())
        optimizer.step()
    assert ["before the noise" in str(one.message) for one in said] == [True] * bool(lost)
