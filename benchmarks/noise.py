"""Time of the noise: ours against torch's way, alone and within an optimizer's step.

    python benchmarks/noise.py                # some 2 minutes
    python benchmarks/noise.py --seconds 10   # on a busy machine
    python benchmarks/noise.py --device cuda  # a GPU; 10^9 parameters need 20 GB

The rivals take turns, and the fastest of many short rounds counts: other work on the machine only ever slows
them. Torch's way is g.add_(torch.randn_like(g), alpha=sigma). Ratios say how many times faster ours is; the last
column says what the project asks for.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import torch
from baselines.c_noise import c_kernel
from torch import Tensor, nn

from gradnoise import Annealed, attach, backend
from gradnoise.noise.gaussian import add_, add_rows_, stream_key, word_rows

SIGMA = 0.1
KEY = stream_key(0, "weight")
Rivals = dict[str, Callable[[], object]]

#: Title, sizes of the tensors, and the ratio to reach on (1, 2) threads.
ADDITIONS: tuple[tuple[str, list[int], dict[int, float]], ...] = (
    ("256", [256], {1: 1.0, 2: 1.0}),
    ("1000 x 256", [256] * 1000, {}),
    ("65,536", [65_536], {}),
    ("1,048,576", [1_048_576], {}),
    ("16,777,216", [16_777_216], {2: 6.0}),
)
STEP_SHAPES = [(512, 512), (512,)] * 4  # 1M parameters in 8 tensors
STEPS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-6),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=1e-6, fused=True),
}
STEP_BAR = {"AdamW fused": 4.0}  # a step with noise takes at most so many times a step without
SMALL_SHAPES = [(16, 16)] * 500
SMALL_BAR = {"SGD": 1.6, "AdamW fused": 1.3}
FIRST = """
import os, time, torch, gradnoise
parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in {shapes}]
for p in parameters:
    p.grad = torch.zeros_like(p)
optimizer = torch.optim.SGD(parameters, lr=1e-6)
optimizer.step()
gradnoise.attach(optimizer, gradnoise.Annealed(eta=0.01), seed=0)
start = time.perf_counter()
optimizer.step()
print(time.perf_counter() - start, flush=True)
os._exit(0)
"""
FIRST_BAR = 1.0  # seconds
GPU_SHAPES = [(8192, 8192)] * 15  # 10^9 parameters
GPU_STEP_BAR, GPU_KERNEL_BAR = 1.4, 0.8


def seconds(rivals: Rivals, budget: float, device: str = "cpu") -> dict[str, float]:
    """Return the least time per call of each rival, in turns of a millisecond or one call, within `budget` seconds."""

    def took(call: Callable[[], object], repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / repeats

    repeats = {}
    for name, call in rivals.items():
        took(call, 1)  # compiles, warms up
        repeats[name] = max(1, int(1e-3 / took(call, 1)))
    least = dict.fromkeys(rivals, float("inf"))
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for name, call in rivals.items():
            least[name] = min(least[name], took(call, repeats[name]))
    return least


def torch_way(gradients: Sequence[Tensor]) -> None:
    """Add noise as one writes it without gradnoise."""
    for g in gradients:
        g.add_(torch.randn_like(g), alpha=SIGMA)


def compare_additions(threads: int, budget: float) -> None:
    """Print a line per size for the addition alone."""
    for title, sizes, bars in ADDITIONS:
        ours, theirs = ([torch.zeros(n) for n in sizes] for _ in range(2))
        rivals: Rivals = {
            "ours": lambda g=ours: add_(g, keys=[KEY] * len(g), t=0, sigma=SIGMA),
            "torch": lambda g=theirs: torch_way(g),
        }
        took = {name: 1e9 * s / sum(sizes) for name, s in seconds(rivals, budget).items()}
        bar = f"{bars[threads]:9.1f}" if threads in bars else ""
        print(f"{threads:7} {title:>12} {took['ours']:12.2f} {took['torch']:12.2f} "
              f"{took['torch'] / took['ours']:9.1f} {bar}")  # fmt: skip


def compare_with_c(budget: float) -> None:
    """Print Numba's kernel and the same mapping in C, one thread."""
    kernel = c_kernel()
    if kernel is None:
        print("\nno C compiler to compare with")
        return
    g, h = torch.zeros(1_048_576), torch.zeros(1_048_576)
    kernel(h, KEY, 0, SIGMA)
    add_([g], keys=[KEY], t=0, sigma=SIGMA)
    assert torch.equal(g, h)
    rivals: Rivals = {"ours": lambda: add_([g], keys=[KEY], t=0, sigma=SIGMA), "C": lambda: kernel(h, KEY, 0, SIGMA)}
    took = {name: 1e9 * s / g.numel() for name, s in seconds(rivals, budget).items()}
    print(f"\nthe same numbers by a kernel in C: {took['C']:.2f} ns/el, ours {took['ours']:.2f} (1 thread, 1,048,576)")


def optimizer_step(name: str, noise: str, shapes: Sequence[tuple[int, ...]], device: str) -> Callable[[], object]:
    """Return a step of optimizer `name` with noise "none", "ours" or "torch"."""
    parameters = [nn.Parameter(torch.zeros(shape, device=device)) for shape in shapes]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    optimizer = STEPS[name](parameters)
    if noise == "ours":
        attach(optimizer, Annealed(eta=0.01), seed=0)
    if noise == "torch":
        gradients = [p.grad for p in parameters if p.grad is not None]
        optimizer.register_step_pre_hook(lambda *_: torch_way(gradients))
    return optimizer.step


def compare_steps(
    threads: int, budget: float, shapes: Sequence[tuple[int, ...]] = STEP_SHAPES, bars: dict[str, float] = STEP_BAR
) -> None:
    """Print a line per optimizer for a whole step."""
    for name in STEPS:
        rivals = {noise: optimizer_step(name, noise, shapes, "cpu") for noise in ("none", "ours", "torch")}
        took = seconds(rivals, budget)
        columns = " ".join(f"{1e3 * s:10.3f}" for s in took.values())
        bar = f"{bars[name]:6.1f}" if name in bars else ""
        print(f"{threads:7} {name:12} {columns} {took['ours'] / took['none']:8.2f} {bar}")


def first_update(shapes: Sequence[tuple[int, ...]], backend: str, cache: str) -> float:
    """Return the seconds of a new process's first step with noise; kernels are looked for, and kept, in a folder."""
    environment = {**os.environ, "GRADNOISE_BACKEND": backend, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", FIRST.format(shapes=shapes)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def compare_first_updates(turns: int = 5) -> None:
    """Print the first update of a process, by torch while Numba compiles and after waiting for Numba."""
    for title, shapes in {"500 of 16 x 16": SMALL_SHAPES, "1M": STEP_SHAPES, "8M": [(1024, 1024)] * 8}.items():
        with tempfile.TemporaryDirectory() as kept:
            first_update(shapes, "numba", kept)
            for cache in ("none", "kept"):
                took: dict[str, list[float]] = {"auto": [], "numba": []}
                for _ in range(turns):
                    for choice, times in took.items():
                        with tempfile.TemporaryDirectory() as new:
                            times.append(first_update(shapes, choice, kept if cache == "kept" else new))
                ours, waits = (statistics.median(times) for times in took.values())
                print(f"{title:>15} {cache:>7} {ours:10.3f} {waits:10.3f} {waits / ours:9.1f} {FIRST_BAR:9.1f}")


def compare_kernels_on_gpu(budget: float) -> None:
    """Print the kernel against copying and torch's generator."""
    g, h = (torch.zeros(2**28, device="cuda") for _ in range(2))
    rivals: Rivals = {
        "ours": lambda: add_([g], keys=[KEY], t=0, sigma=SIGMA),
        "copy": lambda: h.copy_(g),
        "generator": lambda: h.uniform_(),
        "torch": lambda: torch_way([h]),
    }
    took = seconds(rivals, budget, "cuda")
    share = max(took["copy"], took["generator"]) / took["ours"]
    print(f"{torch.cuda.get_device_name()}, 2^28 elements, ms:", {n: round(1e3 * s, 3) for n, s in took.items()})
    print(f"kernel reaches {share:.0%} of the slower of copying and generating (bar {GPU_KERNEL_BAR:.0%})")


def compare_rows_on_gpu(budget: float) -> None:
    """Print scaling and noise of a population's gradients, with all numbers on the device, and torch's two passes."""
    rows, columns = 300, 2**18
    g, h, scale = torch.ones(rows, columns, device="cuda"), torch.ones(rows, columns, device="cuda"), torch.ones(rows)
    keys, sigma, scale = torch.arange(rows)[:, None].cuda(), torch.full((rows,), SIGMA).double().cuda(), scale.cuda()
    numbers = {"offsets": [0, columns], "keys": keys, "t": torch.tensor(0).cuda(), "sigma": sigma, "scale": scale}
    rivals: Rivals = {
        "ours": lambda: add_rows_(g, **numbers),
        "torch": lambda: torch_way([h.mul_(scale[:, None])]),
        "copy": lambda: h.copy_(g),
    }
    took = {name: round(1e3 * s, 3) for name, s in seconds(rivals, budget, "cuda").items()}
    print(f"{rows} rows of {columns:,}, scaled and with noise, ms:", took)


def compare_steps_on_gpu(budget: float) -> None:
    """Print a step of 10^9 parameters with noise against one without."""
    took = {}
    for noise in ("none", "ours"):
        took |= seconds({noise: optimizer_step("AdamW fused", noise, GPU_SHAPES, "cuda")}, budget, "cuda")
        torch.cuda.empty_cache()
    ratio = took["ours"] / took["none"]
    print(f"step of fused AdamW with noise, 10^9 parameters: {ratio:.2f} of one without (bar {GPU_STEP_BAR})")


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="time to measure one line")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to measure")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where to measure")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, backend {backend(arguments.device)}, float32\n")
    if arguments.device == "cuda":
        compare_kernels_on_gpu(arguments.seconds)
        compare_rows_on_gpu(arguments.seconds)
        compare_steps_on_gpu(arguments.seconds)
        return
    print("     parameters   cache   ours (s)  waits (s)     ratio   at most   (first update of a process)")
    compare_first_updates()
    word_rows([0], 0, 1)  # from here on Numba draws
    print("\nthreads     elements   ours ns/el  torch ns/el     ratio   at least")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        compare_additions(threads, arguments.seconds)
    torch.set_num_threads(1)
    compare_with_c(arguments.seconds)
    print("\nthreads step of       no noise       ours      torch   ours/no  at most  (ms, 1M parameters)")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        compare_steps(threads, arguments.seconds)
    torch.set_num_threads(1)
    print("\nthreads step of       no noise       ours      torch   ours/no  at most  (ms, 500 tensors of 16 x 16)")
    compare_steps(1, arguments.seconds, SMALL_SHAPES, SMALL_BAR)


if __name__ == "__main__":
    main()
