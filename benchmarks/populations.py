"""Replica-steps per second of the deep MLP: populations against the plain loop and against JAX, in one run.

Every rival does the same work: 20 x 50 ReLU units, minibatches of 100, clip at 10, noise, SGD, in float32.
Rivals take turns, so that a machine whose speed drifts drifts for all of them; ratios are medians over rounds.

    python benchmarks/populations.py                    # one core: what each rival gets out of a core
    python benchmarks/populations.py --threads 2        # one process on two cores
    python benchmarks/populations.py --sizes 40 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from baselines import jax_vmap, plain_loop
from baselines.deep_mlp import CLIP, ETA, GAMMA, LR, synthetic_digits

from gradnoise import Annealed
from gradnoise.data import ImageData
from gradnoise.paper.deep_mlp import DeepMLPExperiment
from gradnoise.population import Population, Replica

SIZES = (1, 16, 64, 256)


def synthetic() -> ImageData:
    """Random images in MNIST's shapes."""
    images, labels = (torch.from_numpy(a) for a in synthetic_digits())
    return ImageData(
        "synthetic", "synthetic images", images, labels.long(), images[:100], labels[:100].long(), "synthetic"
    )


def population(data: ImageData, size: int, *, noise: bool, shared: bool) -> Population:
    """A population at He's initialisation; `shared`: all replicas of one seed, so that they share minibatches."""
    schedule = Annealed(ETA, GAMMA) if noise else None
    config = {"init": "he", "batch_size": 100}
    replicas = [Replica(0 if shared else i, LR, schedule, CLIP, config=config) for i in range(size)]
    return Population(DeepMLPExperiment(data), replicas)


def population_speed(data: ImageData, size: int, steps: int, *, noise: bool = True, shared: bool = False) -> float:
    """Replica-steps per second, after warm-up."""
    p = population(data, size, noise=noise, shared=shared)
    for _ in range(3):
        p.step()
    start = time.perf_counter()
    for _ in range(steps):
        p.step()
    return size * steps / (time.perf_counter() - start)


def rivals(data: ImageData, size: int, threads: int) -> dict[str, Callable[[], float]]:
    """Name -> a measurement of replica-steps per second."""
    images, labels = data.train_images.numpy(), data.train_labels.numpy()
    steps = max(4, 400 // size)
    found: dict[str, Callable[[], float]] = {
        "population": lambda: population_speed(data, size, steps),
        "population, no noise": lambda: population_speed(data, size, steps, noise=False),
        "population, one seed": lambda: population_speed(data, size, steps, shared=True),
        "plain loop": lambda: plain_loop.steps_per_second(images=images, labels=labels, steps=100, threads=threads),
    }
    if jax_vmap.unavailable() is None:

        def jax() -> float:
            return jax_vmap.replica_steps_per_second(size, images=images, labels=labels, steps=steps) or 0.0

        found["JAX vmap + scan"] = jax
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of replicas P")
    parser.add_argument("--threads", type=int, default=1, help="cores that every rival may use")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    if reason := jax_vmap.unavailable():
        print(f"JAX left out: {reason}")
    data = synthetic()
    print(f"{options.threads} core(s), {options.rounds} rounds; replica-steps per second (median), ratio of")
    print("'population' to each rival (median over rounds of the ratio within a round)")
    for size in options.sizes:
        contenders = rivals(data, size, options.threads)
        rounds = [{name: measure() for name, measure in contenders.items()} for _ in range(options.rounds)]
        print(f"\nP = {size}")
        for name in contenders:
            speed = statistics.median(r[name] for r in rounds)
            ratio = statistics.median(r["population"] / r[name] for r in rounds)
            print(f"  {name:<22} {speed:9.0f} /s   {ratio:6.2f}x")


if __name__ == "__main__":
    main()
