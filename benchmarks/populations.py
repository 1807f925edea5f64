"""Replica-steps per second: populations against the plain loop, and for the deep MLP against JAX, in one run.

Every rival does the same work, in float32. Deep MLP: 20 x 50 ReLU units, minibatches of 100, clip at 10, noise, SGD.
Memory network: 3 hops, D = 20, 32 questions, each table clipped at 40, noise, SGD; generated stories of task 1 (up to
10 sentences) and task 2 (up to 50), two arms to a seed, as in a study.
NRAM: lists, minibatches of 50, both clips, noise, Adam; the time step compiled or by its definition in plain torch.
Rivals take turns, so that a machine whose speed drifts drifts for all of them; ratios are medians over rounds.

    python benchmarks/populations.py                    # one core: what each rival gets out of a core
    python benchmarks/populations.py --threads 2        # one process on two cores
    python benchmarks/populations.py --sizes 40 --rounds 5
    python benchmarks/populations.py --systems memn2n --sizes 20
    python benchmarks/populations.py --systems nram --sizes 300 600 --device cuda
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable

import torch
from baselines import jax_vmap, memory_network, nram, plain_loop
from baselines.deep_mlp import CLIP, ETA, GAMMA, LR, synthetic_digits

from gradnoise import Annealed
from gradnoise.data import ImageData
from gradnoise.data.babi import encode, load_babi
from gradnoise.paper.deep_mlp import DeepMLPExperiment
from gradnoise.paper.memory_network import MemoryNetworkExperiment
from gradnoise.population import Adam, Population, Replica

SIZES = (1, 16, 64, 256)
SYSTEMS = ("deep-mlp", "memn2n", "nram")


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


def reader_rivals(task: int, size: int) -> dict[str, Callable[[], float]]:
    """The same for memory networks; two arms of one seed share their minibatches."""
    experiment = MemoryNetworkExperiment(load_babi("generated"))
    config = {"task": task, "dim": memory_network.DIM, "hops": memory_network.HOPS, "time_noise": 0.1}
    noise = (Annealed(ETA), Annealed(1.0))
    replicas = [
        Replica(i // 2, memory_network.LR, noise[i % 2], memory_network.CLIP, config=config) for i in range(size)
    ]
    p = Population(experiment, replicas, clip_per="tensor")
    steps = max(32, 640 // size)
    for _ in range(steps):  # records the shapes that are still to come
        p.step()

    def population() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            p.step()
        return size * steps / (time.perf_counter() - start)

    return {
        "population": population,
        "plain loop": lambda: memory_network.steps_per_second(encode(experiment.data, [task])),
    }


def machine_rivals(shape: str, size: int, device: str, steps: int) -> dict[str, Callable[[], float]]:
    """The same for NRAMs; "eager" interprets the definition of the time step in plain torch."""
    experiment, config = nram.setting(shape)
    replicas = [Replica(i, nram.LR, Annealed(nram.ETA), nram.CLIP, config=config) for i in range(size)]

    def timed(p: Population) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            p.step()
        if p.device.type == "cuda":
            torch.cuda.synchronize()
        return size * steps / (time.perf_counter() - start)

    def interpreted() -> float:
        with nram.without_kernel():
            return timed(eager)

    compiled, eager = (
        Population(experiment, replicas, optimizer=Adam(), device=device, trace=trace) for trace in (True, False)
    )
    compiled.step()
    return {
        "population": lambda: timed(compiled),
        "population, eager": interpreted,
        "plain loop": lambda: nram.steps_per_second(shape, steps),
    }


def report(contenders: dict[str, Callable[[], float]], rounds: int) -> None:
    """Let contenders take turns and print their speeds and ratios."""
    seen = [{name: measure() for name, measure in contenders.items()} for _ in range(rounds)]
    for name in contenders:
        speed = statistics.median(r[name] for r in seen)
        ratio = statistics.median(r["population"] / r[name] for r in seen)
        print(f"  {name:<22} {speed:9.0f} /s  {1000 / speed:8.2f} ms   {ratio:6.2f}x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of replicas P")
    parser.add_argument("--threads", type=int, default=1, help="cores that every rival may use")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--device", default="cpu", help="of NRAM populations")
    parser.add_argument("--steps", type=int, default=20, help="updates of NRAMs in a round")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    print(f"{options.threads} core(s), {options.rounds} rounds; replica-steps per second (median), ratio of")
    print("'population' to each rival (median over rounds of the ratio within a round)")
    if "deep-mlp" in options.systems:
        if reason := jax_vmap.unavailable():
            print(f"JAX left out: {reason}")
        data = synthetic()
        for size in options.sizes:
            print(f"\ndeep MLP, P = {size}")
            report(rivals(data, size, options.threads), options.rounds)
    if "memn2n" in options.systems:
        for task, size in itertools.product((1, 2), options.sizes):
            print(f"\nmemory network, task {task}, P = {size}")
            report(reader_rivals(task, size), options.rounds)
    if "nram" in options.systems:
        for shape, size in itertools.product(nram.SHAPES, options.sizes):
            print(f"\nNRAM, {shape}, P = {size}")
            report(machine_rivals(shape, size, options.device, options.steps), options.rounds)


if __name__ == "__main__":
    main()
