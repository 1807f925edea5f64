"""Replica-steps per second: populations against the plain loop, and for the deep MLP against JAX, in one run.

Every rival does the same work, in float32. Deep MLP: 20 x 50 ReLU units, minibatches of 100, clip at 10, noise, SGD.
Memory network: 3 hops, D = 20, 32 questions, each table clipped at 40, noise, SGD; generated stories of task 1 (up to
10 sentences) and task 2 (up to 50), two arms to a seed, as in a study.
NRAM: lists, minibatches of 50, both clips, noise, Adam; the time step compiled or by its definition in plain torch.
Neural Programmer: d = 256, 50 questions, clip, noise, Adam; minibatches shared by two arms of one seed; the plain loop
follows the formulas example by example.
LSTM language model: 2 x 200 units, 20 columns, windows of 20 among 10,000 words, dropout, clip at 5, noise, SGD; the
plain loop uses torch.nn.LSTM. A replica-step reads 400 words.
Rivals take turns, so that a machine whose speed drifts drifts for all of them; ratios are medians over rounds.

Parts of a population's step are timed alone: "matrix products" of deep MLP, Neural Programmer and LSTM, the bmm of
forward and backward pass, below which no implementation in torch can come, and for the LSTM the same of single replicas
by torch.mm; and "minibatches" of the deep MLP. Their share is their part of the step.

    python benchmarks/populations.py                    # one core: what each rival gets out of a core
    python benchmarks/populations.py --threads 2        # one process on two cores
    python benchmarks/populations.py --sizes 40 --rounds 5
    python benchmarks/populations.py --systems memn2n --sizes 20
    python benchmarks/populations.py --sizes 64 300 1000 --device cuda --json populations.json

In Python, `measure("deep-mlp", 40, "cuda")` returns the same figures as plain values.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from baselines import diagonal, jax_vmap, lstm_lm, memory_network, neural_gpu, neural_programmer, nram, plain_loop
from baselines.contest import Contest, Seconds, timed
from baselines.deep_mlp import CLIP, ETA, GAMMA, LR, SIZES, synthetic_digits
from torch import Tensor

from gradnoise import Annealed
from gradnoise.data import ImageData
from gradnoise.data.babi import encode, load_babi
from gradnoise.paper.deep_mlp import DeepMLPExperiment
from gradnoise.paper.memory_network import MemoryNetworkExperiment
from gradnoise.population import Adam, Experiment, Population, Replica, Training
from gradnoise.population.feed import Feed

NUMBERS = (1, 16, 40, 64, 256)
BATCH = 100
#: System -> what is trained of it.
VARIANTS = {
    "deep-mlp": ("20 x 50",),
    "memn2n": ("task 1", "task 2"),
    "neural-programmer": tuple(neural_programmer.VARIANTS),
    "nram": tuple(nram.SHAPES),
    "neural-gpu": (*neural_gpu.VARIANTS, "diagonal"),
    "lstm-lm": ("2 x 200",),
}


def measure(
    system: str,
    size: int,
    device: str = "cpu",
    *,
    variant: str | None = None,
    threads: int = 1,
    rounds: int = 3,
    steps: int | None = None,
) -> list[dict[str, Any]]:
    """Let the rivals of a system take turns.

    Args:
        system: one of `VARIANTS`.
        size: P, replicas.
        device: of populations and plain loops; JAX takes part on a CPU alone.
        variant: one of the system's, or None for all of them.
        threads: cores that every rival may use; the caller sets torch's threads.
        rounds: turns of each.
        steps: updates of the population in a turn; None for about a second of a CPU core.

    Returns:
        A dict for each variant: system, variant, replicas, device, threads, rounds; for each of its rivals ms,
        milliseconds per replica-step, per_second, and speedup, how many times faster the population is; for each of
        its parts ms, and share of the population's step; for all of them gflops where the operations are known.
    """
    return [
        _figures(_contest(system, each, size, device, threads, steps), rounds)
        | {"system": system, "variant": each, "replicas": size, "device": device, "threads": threads, "rounds": rounds}
        for each in (VARIANTS[system] if variant is None else (variant,))
    ]


def _contest(system: str, variant: str, size: int, device: str, threads: int, steps: int | None) -> Contest:
    if system == "deep-mlp":
        return deep_mlp(size, device, threads, steps or max(4, 400 // size))
    if system == "memn2n":
        return readers(int(variant.removeprefix("task ")), size, device, steps or max(32, 640 // size))
    if system == "neural-programmer":
        return neural_programmer.contest(variant, size, device, steps or max(3, 80 // size))
    if variant == "diagonal":
        return diagonal.contest(size, device, steps or max(2, 16 // size))
    if system == "neural-gpu":
        return neural_gpu.contest(variant, size, device, steps or max(1, 4 // size))
    if system == "lstm-lm":
        return language_models(size, device, steps or max(3, 12 // size))
    return machines(variant, size, device, steps or 20)


def _figures(contest: Contest, rounds: int) -> dict[str, Any]:
    seen = [{name: once() for name, once in (contest.rivals | contest.parts).items()} for _ in range(rounds)]

    def ms(name: str) -> float:
        return 1000 * statistics.median(one[name] for one in seen)

    def times(name: str) -> float:
        """Time of a contender in those of the population."""
        return statistics.median(one[name] / one["population"] for one in seen)

    def work(name: str) -> dict[str, float]:
        return {} if contest.operations is None else {"gflops": contest.operations / ms(name) / 1e6}

    rivals = {
        name: {"ms": ms(name), "per_second": 1000 / ms(name), "speedup": times(name)} | work(name)
        for name in contest.rivals
    }
    parts = {name: {"ms": ms(name), "share": times(name)} | work(name) for name in contest.parts}
    return {"rivals": rivals, "parts": parts}


# --- the deep MLP -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def synthetic() -> ImageData:
    """Return random images in MNIST's shapes."""
    images, labels = (torch.from_numpy(a) for a in synthetic_digits())
    return ImageData(
        "synthetic", "synthetic images", images, labels.long(), images[:100], labels[:100].long(), "synthetic"
    )


def deep_mlp(size: int, device: str, threads: int, steps: int) -> Contest:
    """Return a population of distinct seeds, the same without noise and of one seed, the plain loop, and JAX."""
    data = synthetic()
    experiment = DeepMLPExperiment(data)
    config = experiment.Config(init="he", batch_size=BATCH)
    plain = Training(lr=LR, clip=CLIP)
    noisy = dataclasses.replace(plain, noise=Annealed(ETA, GAMMA))

    def population(training: Training, seeds: range | list[int]) -> Seconds:
        replicas = [Replica(seed, training, config) for seed in seeds]
        return timed(Population(experiment, replicas, device=device).step, size, steps, device)

    arrays = {"images": data.train_images.numpy(), "labels": data.train_labels.numpy()}
    rivals: dict[str, Seconds] = {
        "population": population(noisy, range(size)),
        "population, no noise": population(plain, range(size)),
        "population, one seed": population(noisy, [0] * size),
        "plain loop": lambda: 1 / plain_loop.steps_per_second(**arrays, steps=100, threads=threads, device=device),
    }
    if device == "cpu" and jax_vmap.unavailable() is None:
        rivals["JAX vmap + scan"] = lambda: 1 / jax_vmap.replica_steps_per_second(size, **arrays, steps=steps)
    return Contest(
        rivals,
        {
            "minibatches": timed(feeding(experiment, config, size, device), size, steps, device),
            "matrix products": timed(products(size, device), size, steps, device),
        },
    )


def feeding(experiment: Experiment, config: object, size: int, device: str) -> Callable[[], object]:
    """Return what makes the minibatches of one update after the other, for replicas of distinct seeds."""
    feed = Feed(experiment, config, torch.device(device), torch.float32)
    feed.select([Replica(seed) for seed in range(size)])
    updates = iter(range(1 << 62))
    return lambda: feed(next(updates), {})


def products(size: int, device: str) -> Callable[[], None]:
    """Return what makes the matrix products of a step of deep MLPs: forward, to the inputs and to the weights."""

    def random(*shape: int) -> Tensor:
        return torch.randn(size, *shape, device=device)

    layers = [(random(BATCH, n), random(m, n), random(BATCH, m)) for n, m in pairwise(SIZES)]

    def step() -> None:
        for x, w, _ in layers:
            torch.bmm(x, w.transpose(1, 2))
        for i, (x, w, d) in reversed(list(enumerate(layers))):
            torch.bmm(d.transpose(1, 2), x)
            if i:  # nobody asks for the gradient of the images
                torch.bmm(d, w)

    return step


# --- memory networks and NRAMs ------------------------------------------------------------------------


def readers(task: int, size: int, device: str, steps: int) -> Contest:
    """Return a population of memory networks, two arms of one seed sharing their minibatches, and the plain loop."""
    stories = load_babi("generated")
    experiment = MemoryNetworkExperiment(stories)
    config = experiment.Config(task=task, dim=memory_network.DIM, hops=memory_network.HOPS, time_noise=0.1)
    arms = [
        Training(lr=memory_network.LR, noise=noise, clip=memory_network.CLIP, clip_per="tensor")
        for noise in (Annealed(ETA), Annealed(1.0))
    ]
    population = Population(experiment, [Replica(i // 2, arms[i % 2], config) for i in range(size)], device=device)
    for _ in range(max(32, steps)):  # records the shapes that are still to come
        population.step()
    return Contest(
        {
            "population": timed(population.step, size, steps, device),
            "plain loop": lambda: 1 / memory_network.steps_per_second(encode(stories, [task]), device=device),
        }
    )


def machines(shape: str, size: int, device: str, steps: int) -> Contest:
    """Return populations of NRAMs, compiled and by their definition in plain torch ("eager"), and the plain loop."""
    experiment, config = nram.setting(shape)
    training = Training(lr=nram.LR, noise=Annealed(nram.ETA), clip=nram.CLIP, optimizer=Adam())
    replicas = [Replica(seed, training, config) for seed in range(size)]
    compiled, eager = (Population(experiment, replicas, device=device, trace=trace) for trace in (True, False))

    def interpreted() -> None:
        with nram.without_kernel():
            eager.step()

    return Contest(
        {
            "population": timed(compiled.step, size, steps, device),
            "population, eager": timed(interpreted, size, steps, device),
            "plain loop": lambda: 1 / nram.steps_per_second(shape, steps, device=device),
        }
    )


# --- LSTM language models -----------------------------------------------------------------------------


def language_models(size: int, device: str, steps: int) -> Contest:
    """Return a population of distinct seeds, which share their minibatches, and the plain loop with torch.nn.LSTM."""
    experiment = lstm_lm.experiment()
    config = experiment.Config(units=lstm_lm.UNITS, dropout=lstm_lm.DROPOUT)
    training = Training(lr=lstm_lm.LR, noise=Annealed(lstm_lm.ETA), clip=lstm_lm.CLIP, dropout=lstm_lm.DROPOUT)
    population = Population(experiment, [Replica(seed, training, config) for seed in range(size)], device=device)
    together, single = lstm_lm.products(size, device), lstm_lm.products(1, device)

    def all_products(multiply: Callable[[Tensor, Tensor], Tensor], factors: list[tuple[Tensor, Tensor, int]]) -> None:
        for a, b, times in factors:
            for _ in range(times):
                multiply(a, b)

    def one_by_one(a: Tensor, b: Tensor) -> None:
        for _ in range(size):
            torch.mm(a[0], b[0])

    return Contest(
        {
            "population": timed(population.step, size, steps, device),
            "plain loop": lambda: 1 / lstm_lm.steps_per_second(max(steps, 5), device=device),
        },
        {
            "matrix products": timed(lambda: all_products(torch.bmm, together), size, steps, device),
            "the same by torch.mm": timed(lambda: all_products(one_by_one, single), size, steps, device),
        },
    )


# --- on the command line ------------------------------------------------------------------------------


def show(figures: dict[str, Any]) -> None:
    """Print the figures of one contest."""
    print(f"\n{figures['system']}, {figures['variant']}, P = {figures['replicas']}")
    for name, one in figures["rivals"].items():
        print(f"  {name:<22} {one['per_second']:9.0f} /s  {one['ms']:9.3f} ms   {one['speedup']:6.2f}x{gflops(one)}")
    for name, one in figures["parts"].items():
        share = f"{100 * one['share']:5.0f} % of the population's step"
        print(f"    {name:<20} {'':9}     {one['ms']:9.3f} ms   {share}{gflops(one)}")


def gflops(one: dict[str, float]) -> str:
    """Return operations per second, where they are known."""
    return f"  {one['gflops']:,.0f} GFLOP/s" if "gflops" in one else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=NUMBERS, help="numbers of replicas P")
    parser.add_argument("--threads", type=int, default=1, help="cores that every rival may use")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=VARIANTS, default=tuple(VARIANTS))
    parser.add_argument("--device", default="cpu", help="of populations and plain loops")
    parser.add_argument("--steps", type=int, help="updates of a population in a round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    print(
        f"{options.device}, {options.threads} core(s), {options.rounds} rounds; replica-steps per second (median), and"
    )
    print("how many times faster 'population' is than each rival (median over rounds of the ratio within a round)")
    if reason := jax_vmap.unavailable():
        print(f"JAX left out: {reason}")
    found: list[dict[str, Any]] = []
    for system in options.systems:
        for variant in VARIANTS[system]:
            for size in options.sizes:
                found += measure(
                    system, size, options.device, variant=variant, threads=options.threads,
                    rounds=options.rounds, steps=options.steps,
                )  # fmt: skip
                show(found[-1])
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
