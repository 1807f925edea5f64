"""Time of the noise: ours against torch's way, alone and within an optimizer's step.

    python benchmarks/noise.py                # some 30 s
    python benchmarks/noise.py --seconds 10   # on a busy machine

The rivals take turns, and the fastest of many short rounds counts: other work on the machine only ever slows
them. Torch's way is g.add_(torch.randn_like(g), alpha=sigma).
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gradnoise.attach import attach
from gradnoise.gaussian import add_, backend, stream_key
from gradnoise.schedule import Annealed

SIZES = (256, 65_536, 1_048_576, 16_777_216)
SIGMA = 0.1
STEP_SHAPES = [(512, 512), (512,)] * 4  # 1M parameters in 8 tensors
STEPS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-6),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=1e-6, fused=True),
}


def seconds(rivals: dict[str, Callable[[], object]], budget: float) -> dict[str, float]:
    """Least time per call of each rival, in turns of a millisecond or one call, within `budget` seconds."""
    repeats = {}
    for name, call in rivals.items():
        call()  # compiles, warms up
        start = time.perf_counter()
        call()
        repeats[name] = max(1, int(1e-3 / (time.perf_counter() - start)))
    least = dict.fromkeys(rivals, float("inf"))
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for name, call in rivals.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            least[name] = min(least[name], (time.perf_counter() - start) / repeats[name])
    return least


def torch_way(gradients: list[Tensor]) -> None:
    """What one writes without gradnoise."""
    for g in gradients:
        g.add_(torch.randn_like(g), alpha=SIGMA)


def compare_additions(threads: int, budget: float) -> None:
    """Print a line per size for the addition alone."""
    key = stream_key(0, "weight")
    for size in SIZES:
        g, h = torch.zeros(size), torch.zeros(size)
        rivals = {
            "ours": lambda g=g: add_([g], keys=[key], t=0, sigma=SIGMA),
            "torch": lambda h=h: torch_way([h]),
        }
        took = {name: 1e9 * s / size for name, s in seconds(rivals, budget).items()}
        ratio = took["torch"] / took["ours"]
        print(f"{threads:7} {size:10,} {took['ours']:12.2f} {took['torch']:12.2f} {ratio:9.1f}")


def optimizer_step(name: str, noise: str) -> Callable[[], object]:
    """A step of optimizer `name` with noise "none", "ours" or "torch"."""
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in STEP_SHAPES]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    optimizer = STEPS[name](parameters)
    if noise == "ours":
        attach(optimizer, Annealed(eta=0.01), seed=0)
    if noise == "torch":
        gradients = [p.grad for p in parameters if p.grad is not None]
        optimizer.register_step_pre_hook(lambda *_: torch_way(gradients))
    return optimizer.step


def compare_steps(threads: int, budget: float) -> None:
    """Print a line per optimizer for a whole step."""
    for name in STEPS:
        took = seconds({noise: optimizer_step(name, noise) for noise in ("none", "ours", "torch")}, budget)
        columns = " ".join(f"{1e3 * s:10.3f}" for s in took.values())
        print(f"{threads:7} {name:12} {columns}")


def main() -> None:
    """Read the options and print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="time to measure one line")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to measure")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, backend {backend()}, float32\n")
    print("threads   elements   ours ns/el  torch ns/el    ratio")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        compare_additions(threads, arguments.seconds)
    print("\nthreads step of       no noise       ours      torch   (ms, 1M parameters)")
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        compare_steps(threads, arguments.seconds)


if __name__ == "__main__":
    main()
