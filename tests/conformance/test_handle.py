"""What the handle says and does, and what the schedule is asked."""

import gc

import pytest
import torch
from support.loop import SCHEDULE, SEED, noise_of, noisy_sgd, promised

from gradnoise import Annealed, Fixed, attach


def test_while_paused_no_noise_is_added_and_the_clock_goes_on():
    p, optimizer, noise = noisy_sgd((5,))
    with noise.paused():
        with noise.paused():
            optimizer.step()
        optimizer.step()
    assert p.grad.count_nonzero() == 0
    optimizer.step()
    assert torch.equal(p.grad, promised("0.0", 2, p))


def test_a_pause_may_be_kept_entered_again_and_decorate_a_function():
    p, optimizer, noise = noisy_sgd((5,))
    pause = noise.paused()
    step = noise.paused()(optimizer.step)
    for _ in range(2):
        with pause, pause:
            optimizer.step()
        step()
    assert p.grad.count_nonzero() == 0 and noise.step == 4
    with pytest.raises(OSError, match="disk"), pause:
        raise OSError("disk")
    optimizer.step()
    assert torch.equal(p.grad, promised("0.0", 4, p))


def test_a_pause_that_nobody_enters():
    p, optimizer, noise = noisy_sgd((5,))
    with pytest.warns(UserWarning, match="alone pauses nothing; write `with noise.paused.*` around") as caught:
        noise.paused()
        gc.collect()
    assert caught[0].filename == __file__
    optimizer.step()
    assert torch.equal(p.grad, promised("0.0", 0, p))


@pytest.mark.parametrize("name, value", [("seed", 7), ("schedule", Fixed(1.0)), ("optimizer", None)])
def test_what_was_given_to_attach_cannot_be_changed_by_the_handle(name, value):
    _, _, noise = noisy_sgd((5,))
    before = getattr(noise, name)
    with pytest.raises(AttributeError) as error:
        setattr(noise, name, value)
    assert str(error.value) == (
        f"{name} of a handle cannot become {value!r}, since the noise would stay what it is; detach() it and attach"
        " again"
    )
    assert getattr(noise, name) is before


@pytest.mark.parametrize("name", ["step", "sigma", "keys", "eta", "t", "where", "paused_", "_eta"])
def test_the_handle_takes_no_attributes(name):
    _, _, noise = noisy_sgd((5,))
    with pytest.raises(AttributeError):
        setattr(noise, name, 3)


def test_detach_ends_the_noise_and_attach_goes_on_counting():
    p, optimizer, noise = noisy_sgd((5,))
    optimizer.step()
    noise.detach()
    noise.detach()
    p.grad.zero_()
    optimizer.step()
    assert p.grad.count_nonzero() == 0
    again = attach(optimizer, SCHEDULE, seed=SEED)
    assert again.step == 1
    optimizer.step()
    assert torch.equal(p.grad, promised("0.0", 1, p))


def test_any_update_can_be_replayed_at_any_time():
    p, optimizer, noise = noisy_sgd((5,))
    before = [noise.replay("0.0", t) for t in (0, 2, 10**9)]
    with noise.paused():
        optimizer.step()
    noise.detach()
    after = [noise.replay("0.0", t) for t in (0, 2, 10**9)]
    assert all(map(torch.equal, before, after)) and torch.equal(before[1], promised("0.0", 2, p))


def test_sigma_is_that_of_the_coming_update():
    _, optimizer, noise = noisy_sgd((5,), schedule=Annealed(eta=0.3))
    for t in range(3):
        assert noise.sigma == pytest.approx((0.3 / (1 + t) ** 0.55) ** 0.5, rel=1e-15)
        optimizer.step()


def test_the_variance_follows_the_schedule():
    """Bound the sample variance of 4e5 numbers by 5 standard errors: a false alarm in 6e-7 of the seeds."""
    p, optimizer, noise = noisy_sgd((400, 1000), schedule=Annealed(eta=0.3))
    for t in (0, 1, 10**6):
        noise.load_state_dict({**noise.state_dict(), "t": t})
        variance = 0.3 / (1 + t) ** 0.55
        assert noise.sigma == pytest.approx(variance**0.5, rel=1e-15)
        p.grad.zero_()
        optimizer.step()
        assert p.grad.double().square().mean().item() == pytest.approx(variance, rel=5 * (2 / p.numel()) ** 0.5)


def test_the_schedule_is_asked_for_0_1_2():
    asked = []

    def schedule(t):
        asked.append(t)
        return 0.25

    p, optimizer, _ = noisy_sgd((5,), schedule=schedule)
    asked.clear()
    for _ in range(3):
        optimizer.step()
    assert asked == [0, 1, 2]
    assert torch.equal(p.grad, sum(noise_of("0.0", t, 0.5, (5,)) for t in range(3)))


@pytest.mark.parametrize("schedule", [Fixed(0.5), lambda t: torch.tensor(0.25), lambda t: 0.25])
def test_any_callable_is_a_schedule(schedule):
    p, optimizer, _ = noisy_sgd((5,), schedule=schedule)
    optimizer.step()
    assert torch.equal(p.grad, noise_of("0.0", 0, 0.5, (5,)))
