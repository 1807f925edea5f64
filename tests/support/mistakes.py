"""Gradient noise as public code gets it wrong. Each function stands in for `attach` and makes one mistake."""

import itertools

import torch

from gradnoise import add_gradient_noise_
from gradnoise.noise.gaussian import normal, stream_key
from gradnoise.noise.schedule import sigma
from support.loop import noise_of


def a_mere_hook(optimizer, schedule, *, seed, named_parameters):
    """Right in a plain loop that is never interrupted, and blind to whatever else a step can be."""
    pairs, clock = list(named_parameters), itertools.count()
    optimizer.register_step_pre_hook(lambda *_: add_gradient_noise_(pairs, schedule, t=next(clock), seed=seed))


def variance_for_deviation(optimizer, schedule, **options):
    a_mere_hook(optimizer, lambda t: schedule(t) ** 2, **options)


def t_from_1(optimizer, schedule, **options):
    a_mere_hook(optimizer, lambda t: schedule(t + 1), **options)


def after_the_learning_rate(optimizer, schedule, *, seed, named_parameters):
    pairs, clock = list(named_parameters), itertools.count()

    def move(*_):
        t = next(clock)
        for name, p in pairs:
            p.data.sub_(noise_of(name, t, sigma(schedule, t), p.shape, seed=seed))

    optimizer.register_step_post_hook(move)


def in_the_backward_pass(optimizer, schedule, *, seed, named_parameters):
    """Hence before the clip, and on every micro-batch."""
    for name, p in named_parameters:
        clock = itertools.count()

        def add(p, name=name, clock=clock):
            add_gradient_noise_([(name, p)], schedule, t=next(clock), seed=seed)

        p.register_post_accumulate_grad_hook(add)


def clock_among_the_moments(optimizer, schedule, *, seed, named_parameters):
    """Per-parameter state gets the parameter's dtype when it is loaded."""
    pairs = list(named_parameters)

    def add(*_):
        for name, p in pairs:
            clock = optimizer.state[p].setdefault("noise_step", torch.zeros(()))
            add_gradient_noise_([(name, p)], schedule, t=int(clock), seed=seed)
            clock += 1

    optimizer.register_step_pre_hook(add)


# --- other draws: z(name, parameter, t, seed) ----------------------------------------------------------


def hook_that_draws(draw):
    def attach(optimizer, schedule, *, seed, named_parameters):
        pairs, clock = list(named_parameters), itertools.count()

        def add(*_):
            t = next(clock)
            for name, p in pairs:
                p.grad.add_(draw(name, p, t, seed) * sigma(schedule, t))

        optimizer.register_step_pre_hook(add)

    return attach


@hook_that_draws
def from_the_global_generator(name, p, t, seed):
    """What stands in most training scripts."""
    return torch.randn_like(p.grad)


@hook_that_draws
def from_one_seed_for_all(name, p, t, seed):
    """The generator starts anew for every parameter, as it does for every shard."""
    return torch.randn(p.shape, generator=torch.Generator().manual_seed(seed + t))


def from_one_generator_in_turn(optimizer, schedule, *, seed, named_parameters):
    """A parameter's numbers follow those of the parameters before it."""
    generator = torch.Generator().manual_seed(seed)
    draw = hook_that_draws(lambda name, p, t, seed: torch.randn(p.shape, generator=generator))
    draw(optimizer, schedule, seed=seed, named_parameters=named_parameters)


@hook_that_draws
def truncated_normal(name, p, t, seed):
    return noise_of(name, t, 1.0, p.shape, seed=seed).clamp(-2, 2)


@hook_that_draws
def of_128_values(name, p, t, seed):
    """A uniform number of bfloat16 in [1, 2), through the inverse of the normal distribution function."""
    generator = torch.Generator().manual_seed(stream_key(seed, name) % 2**32 + t)
    uniform = (torch.randint(128, p.shape, generator=generator) + 0.5) / 128
    return torch.special.ndtri(uniform).to(p.dtype)


@hook_that_draws
def full_variance_in_each_part(name, p, t, seed):
    return torch.view_as_complex(normal(stream_key(seed, name), t, 2 * p.numel()).view(*p.shape, 2))


@hook_that_draws
def plain(name, p, t, seed):
    """Where sigma is 0 it adds 0, which turns -0 into 0 and infinity times 0 into nan."""
    return noise_of(name, t, 1.0, p.shape, seed=seed)
