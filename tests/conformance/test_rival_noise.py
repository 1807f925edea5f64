"""What gradient noise is compared with: noise on weights, and on labels."""

import pytest
import torch
from support.loop import SEED, closure_for, make_model, same, train, values
from torch import nn

from gradnoise import Annealed, Fixed, Relative, attach, flip_labels
from gradnoise.noise.gaussian import normal, stream_key


def moved(schedule, steps, kind=torch.optim.SGD, **options):
    """The weights of a noisy run less those of a plain one, where the loss has no gradient; and the handle."""
    p = nn.Parameter(torch.ones(40))
    optimizer = kind([p], lr=0.5, **options)
    noise = attach(optimizer, schedule, seed=SEED, on="weights")
    for _ in range(steps):
        p.grad = torch.zeros(40)
        optimizer.step()
        assert not p.grad.any()
    return p.detach() - 1, noise


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_noise_on_weights_is_added_after_the_update_whatever_the_learning_rate(kind):
    options = {"weight_decay": 0.0} if kind is torch.optim.AdamW else {}
    difference, noise = moved(Annealed(0.04), 3, kind, **options)
    assert noise.step == 3
    assert torch.allclose(difference, sum(noise.replay("0.0", t) for t in range(3)), atol=1e-6)
    own = 0.2 * normal(stream_key(stream_key(SEED, "weights"), "0.0"), 0, 40)
    assert torch.allclose(noise.replay("0.0", 0), own) and noise.diagnostics()[0].gradient_norm == pytest.approx(
        float((1 + difference).norm()), rel=1e-6
    )


def test_noise_on_weights_that_is_taken_away_again():
    p = nn.Parameter(torch.ones(40))
    optimizer = torch.optim.SGD([p], lr=0.5)
    attach(optimizer, Fixed(0.1), seed=SEED, on="weights", anti_pgd=True)
    for _ in range(5):
        p.grad = torch.zeros(40)
        optimizer.step()
    assert torch.allclose(p - 1, 0.1 * normal(stream_key(stream_key(SEED, "weights"), "0.0"), 4, 40), atol=1e-6)


def test_noise_on_weights_resumes_and_pauses_and_skips_what_overflowed():
    def run(stops):
        model, state = make_model(), None
        for first, last in stops:
            optimizer = torch.optim.Adam(model.parameters())
            if state is not None:
                optimizer.load_state_dict(state)
            attach(optimizer, Annealed(1e-4), seed=SEED, on="weights")
            train(model, optimizer, last - first, first)
            state = optimizer.state_dict()
        return values(model)

    assert same(run([(0, 6)]), run([(0, 2), (2, 6)]))
    p = nn.Parameter(torch.ones(40))
    optimizer = torch.optim.SGD([p], lr=0.5, fused=True)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(1.0)
    noise = attach(optimizer, Fixed(1.0), seed=SEED, on="weights")
    p.grad = torch.full((40,), torch.inf)
    optimizer.step()
    assert noise.step == 0 and torch.equal(p, torch.ones(40))
    optimizer.found_inf.zero_()
    p.grad.zero_()
    with noise.paused():
        optimizer.step()
    assert noise.step == 1 and torch.equal(p, torch.ones(40))
    optimizer.step()
    assert torch.equal(p, 1 + noise.replay("0.0", 1))


def test_an_update_within_a_closure():
    model = make_model()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)
    noise = attach(optimizer, Fixed(0.1), seed=SEED, named_parameters=model.named_parameters(), on="weights")
    plain = make_model()
    other = torch.optim.LBFGS(plain.parameters(), lr=0.1)
    optimizer.step(closure_for(model, optimizer))
    other.step(closure_for(plain, other))
    for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q + noise.replay(name, 0), atol=1e-6)


class Clearing(torch.optim.SGD):
    def step(self, closure=None):
        loss = super().step(closure)
        self.zero_grad()
        return loss


@pytest.mark.parametrize("who", ["the step", "a hook"])
@pytest.mark.parametrize("closing", [True, False])
def test_noise_on_weights_whose_step_lets_gradients_go(who, closing):
    p = nn.Parameter(torch.ones(40))
    optimizer = (Clearing if who == "the step" else torch.optim.SGD)([p], lr=0.5)
    if who == "a hook":
        optimizer.register_step_post_hook(lambda o, *_: o.zero_grad())
    noise = attach(optimizer, Fixed(0.1), seed=SEED, on="weights")

    def closure():
        p.grad = torch.zeros(40)

    for _ in range(3):
        if not closing:
            closure()
        optimizer.step(*[closure] * closing)
        p.data = p.data.clone()  # other memory in every update
    assert noise.step == 3
    assert torch.allclose(p - 1, sum(noise.replay("0.0", t) for t in range(3)), atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "on", "message"),
    [
        (Relative(0.1), "weights", "noise on weights has no gradient to be compared with"),
        (Annealed(0.1, until=0.1), "weights", "noise on weights has no gradient to be compared with"),
        (Annealed(0.1), "weight", "on must be 'gradients' or 'weights', got 'weight'"),
    ],
)
def test_refusals(schedule, on, message):
    with pytest.raises(ValueError, match=message):
        attach(torch.optim.SGD([nn.Parameter(torch.ones(3))]), schedule, seed=0, on=on)


def test_labels_are_flipped_at_the_rate_to_all_other_classes():
    labels = torch.arange(40_000).view(200, 200) % 5
    new = flip_labels(labels, 0.3, 5, seed=SEED, t=7)
    assert new.shape == labels.shape and new.dtype == labels.dtype
    share = (new != labels).double().mean()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 40_000) ** 0.5
    step = ((new - labels) % 5).flatten().bincount(minlength=5)[1:] / (0.3 * 40_000)
    assert step.tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert torch.equal(new, flip_labels(labels, 0.3, 5, seed=SEED, t=7))
    assert not torch.equal(new, flip_labels(labels, 0.3, 5, seed=SEED, t=8))
    assert torch.equal(flip_labels(labels, 0.0, 5, seed=SEED, t=0), labels)
    assert (flip_labels(labels, 1.0, 5, seed=SEED, t=0) != labels).all()


@pytest.mark.parametrize(
    ("labels", "rate", "classes", "message"),
    [
        (torch.zeros(3), 0.1, 2, "labels must be integers, got torch.float32"),
        (torch.zeros(3, dtype=torch.int64), 1.1, 2, r"rate must be a probability in \[0, 1\], got 1.1"),
        (
            torch.zeros(3, dtype=torch.int64),
            0.1,
            1,
            "classes must be an integer of at least 2 and at most 2,147,483,648",
        ),
    ],
)
def test_labels_that_cannot_be_flipped(labels, rate, classes, message):
    with pytest.raises(ValueError, match=message):
        flip_labels(labels, rate, classes, seed=0, t=0)


I64 = torch.int64


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (
            [-100, 3, 10, -1],
            {},
            r"labels must be in 0 \.\. 9, got -100; pass ignore_index=-100 if",
        ),
        ([1, 10], {}, r"labels must be in 0 \.\. 9, got 10"),
        ([-100, -1], {"ignore_index": -100}, r"labels must be in 0 \.\. 9, got -1$"),
        (
            [1, 2],
            {"ignore_index": 3},
            r"ignore_index must be an integer that is no class, hence not in 0",
        ),
        ([1, 2], {"part": -1}, "part must be an integer >= 0, got -1"),
        ([1, 2], {"classes": 200, "dtype": torch.int8}, "labels are torch.int8, which holds no more than 127"),
        ([1, 2], {"classes": 2.0}, "classes must be an integer of at least 2"),
        ([1, 2], {"rate": "0.1"}, "rate must be a probability"),
        ([1, 2], {"rate": float("nan")}, "rate must be a probability"),
        (torch.eye(10, dtype=I64).tolist(), {}, r"labels of shape \[10, 10\] are one-hot vectors of 10 classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused_even_at_rate_0(labels, options, message):
    options = {"rate": 0.0, "classes": 10, "dtype": I64} | options
    with pytest.raises(ValueError, match=message):
        flip_labels(torch.tensor(labels, dtype=options.pop("dtype")), **options, seed=0, t=0)
    with pytest.raises(ValueError, match="labels must be a tensor of integers, got a list"):
        flip_labels(labels, 0.0, 10, seed=0, t=0)


def test_labels_that_stand_for_none_are_left():
    labels = torch.arange(4000) % 10
    flipped = flip_labels(labels, 0.5, 10, seed=SEED, t=1)
    labels[::3] = -100
    new = flip_labels(labels, 0.5, 10, seed=SEED, t=1, ignore_index=-100)
    assert (new[::3] == -100).all() and torch.equal(new[1::3], flipped[1::3]) and torch.equal(new[2::3], flipped[2::3])
    assert flip_labels(labels[:0], 0.5, 10, seed=SEED, t=1).shape == (0,)
    small = torch.full((3000,), 199, dtype=torch.uint8)
    assert set(flip_labels(small, 1.0, 256, seed=SEED, t=0).tolist()) == set(range(256)) - {199}


def test_parts_of_a_minibatch_are_flipped_apart():
    labels = torch.zeros(1000, dtype=I64)
    parts = [flip_labels(labels, 0.5, 2, seed=SEED, t=3, part=i) for i in range(4)]
    assert torch.equal(parts[0], flip_labels(labels, 0.5, 2, seed=SEED, t=3))
    for i, a in enumerate(parts):
        for b in parts[:i]:
            assert 400 < int((a != b).sum()) < 600
