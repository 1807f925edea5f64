"""Noise on a GPU: the bits of the reference, the moments of `attach`, and a host that does not wait.

The marked tests need a CUDA device and a Python with torch, numba, triton, pytest and hypothesis, no more:
`PYTHONPATH=src python -m pytest -m gpu tests/noise/test_gpu.py`.
The Triton backend is also run in Triton's interpreter on the CPU.
"""

import contextlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from gradnoise import Annealed, Fixed, attach
from gradnoise.noise.gaussian import (
    Part,
    add_,
    add_parts_,
    add_rows_,
    backend,
    bernoulli_rows_,
    normal,
    stream_key,
    word_rows,
)

on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
needs_triton = pytest.mark.skipif(backend("cuda") != "triton", reason="Triton is not installed")

ROWS = {"offsets": [0, 7, 50, 2100], "sigma": [0.1, 0.0, 0.3], "scale": [1.0, 0.5, 0.7]}
KEYS = np.arange(9, dtype=np.uint64).reshape(3, 3) + np.uint64(2**63)


@contextlib.contextmanager
def no_waiting():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode")  # it says that it is new
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_device():
    """Return the arguments of `add_rows_` for three rows, all on the GPU."""
    keys = torch.from_numpy(KEYS.view(np.int64)).cuda().view(torch.uint64)
    sigma, scale = torch.tensor(ROWS["sigma"], dtype=torch.float64).cuda(), torch.tensor(ROWS["scale"]).cuda()
    return {"offsets": ROWS["offsets"], "keys": keys, "sigma": sigma, "scale": scale}


def on_host(t):
    """Return the same arguments on the CPU, and the step."""
    return ROWS | {"keys": KEYS, "t": t, "scale": torch.tensor(ROWS["scale"])}


@pytest.mark.slow
@needs_triton
def test_the_kernels_equal_the_reference_in_the_interpreter():
    folders = Path(__file__).parents[2] / "src", Path(__file__).parents[1]
    environment = os.environ | {
        "TRITON_INTERPRET": "1",  # read when Triton is imported
        "PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")]),
    }
    command = "from support.triton_cases import run; run('cpu')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", command], env=environment, check=True, timeout=600)


class TestKernels:
    pytestmark = on_gpu

    @needs_triton
    def test_they_equal_the_reference(self):
        from support.triton_cases import run

        run("cuda")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_parts_get_the_noise_of_the_cpu(self, dtype):
        start = torch.linspace(-1, 1, 100_003).to(dtype)
        cpu, gpu = ([start.to(d, copy=True), torch.zeros(7, 5, dtype=dtype, device=d).t()] for d in ("cpu", "cuda"))
        for x in (cpu, gpu):
            firsts = torch.tensor([5]), torch.arange(0, 5 * 70, 70)
            parts = [Part(x[0], stream_key(3, "a"), firsts[0]), Part(x[1], 2**63 + 1, firsts[1])]
            add_parts_(parts, t=2**35, sigma=0.3)
            add_(x, keys=[1, 2], t=0, sigma=0.1)
        assert all(torch.equal(a, b.cpu()) for a, b in zip(cpu, gpu, strict=True))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_rows_get_the_noise_of_the_cpu(self, dtype):
        x = torch.linspace(-1, 1, 6300, dtype=dtype).view(3, 2100)
        y, steps = x.cuda(), [0, 5, 2**62]
        scale = {"scale": torch.tensor(ROWS["scale"], dtype=dtype)}
        add_rows_(x, **on_host(steps) | scale)
        add_rows_(y, **on_device() | {"t": torch.tensor(steps).cuda(), "scale": scale["scale"].cuda()})
        assert torch.equal(x, y.cpu())
        add_rows_(x, **on_host(7) | {"scale": None})
        add_rows_(y, **on_host(7) | {"scale": None})  # numbers of the host
        assert torch.equal(x, y.cpu())

    def test_masks_and_words_are_those_of_the_cpu(self):
        keys, keep = KEYS[:, 0], torch.tensor([0.5, 0.0, 0.9], dtype=torch.float64)
        cpu, gpu = torch.empty(3, 3001), torch.empty(3, 3001, device="cuda")
        there = torch.from_numpy(keys.view(np.int64)).cuda()
        bernoulli_rows_(cpu, keys=keys, t=5, keep=keep)
        bernoulli_rows_(gpu, keys=there, t=torch.tensor(5).cuda(), keep=keep.cuda())
        assert torch.equal(cpu, gpu.cpu())
        words = word_rows(keys, 5, 3001)
        assert torch.equal(word_rows(there, torch.tensor(5).cuda(), 3001, "cuda").cpu(), words)
        assert torch.equal(word_rows(keys, 5, 3001, "cuda").cpu(), words)

    @needs_triton
    def test_rows_masks_and_words_wait_for_nothing(self):
        x, t = torch.zeros(3, 2100, device="cuda"), torch.tensor(3).cuda()
        arguments = on_device()
        keys, keep = arguments["keys"][:, 0], arguments["scale"].double()
        for waiting in (contextlib.nullcontext, no_waiting):  # the first time tables are made and kernels compiled
            with waiting():
                add_rows_(x, **arguments, t=t)
                bernoulli_rows_(x, keys=keys, t=t, keep=keep)
                word_rows(keys, t, 100, "cuda")

    @needs_triton
    def test_a_recorded_graph_draws_the_noise_of_its_step(self):
        x, masks, t = torch.zeros(3, 2100, device="cuda"), torch.zeros(3, 99, device="cuda"), torch.tensor(0).cuda()
        arguments = on_device()
        keys, keep = arguments["keys"][:, 0], arguments["scale"].double()

        def update():
            add_rows_(x, **arguments, t=t)
            bernoulli_rows_(masks, keys=keys, t=t, keep=keep)
            t.add_(1)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            update()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            update()
        expected, expected_masks = torch.zeros(3, 2100), torch.zeros(3, 99)
        for step in range(4):  # step 0 was made outside of the graph
            if step:
                graph.replay()
            add_rows_(expected, **on_host(step))
            bernoulli_rows_(expected_masks, keys=KEYS[:, 0], t=step, keep=[1.0, 0.5, float(np.float32(0.7))])
        assert torch.equal(x.cpu(), expected) and torch.equal(masks.cpu(), expected_masks)

    @pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
    def test_numbers_of_the_host_cannot_be_recorded(self):
        x, arguments = torch.zeros(3, 2100, device="cuda"), on_device()
        add_rows_(x, **arguments, t=0)
        refusal = pytest.raises(RuntimeError, match="numbers on the host cannot go into a CUDA graph")
        with refusal, torch.cuda.graph(torch.cuda.CUDAGraph()):
            add_rows_(x, **arguments, t=0)


def model_of(device):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(9, 33), torch.nn.Linear(33, 1025), torch.nn.Linear(1025, 3))
    return net.to(device)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler")
class TestAttach:
    pytestmark = on_gpu

    @pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
    @pytest.mark.parametrize("fused", [False, True])
    def test_a_step_gets_the_noise_of_the_cpu(self, kind, fused):
        seen = []
        for device in ("cpu", "cuda"):
            model = model_of(device)
            for p in model.parameters():
                p.grad = torch.zeros_like(p)
            optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1, fused=fused)
            attach(optimizer, Annealed(0.01), seed=0, named_parameters=model.named_parameters())
            optimizer.step()
            seen.append([p.grad.cpu() for p in model.parameters()])
        assert all(map(torch.equal, *seen))

    @pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
    @pytest.mark.parametrize("unscaled", [False, True])
    def test_under_a_scaler_a_fused_step_is_that_without(self, kind, unscaled):
        """Compare weights, whose noise must not be divided by the loss scale."""
        weights = []
        for scaled in (False, True):
            p = torch.nn.Parameter(torch.ones(5000, device="cuda"))
            optimizer = getattr(torch.optim, kind)([p], lr=0.125, fused=True)
            attach(optimizer, Fixed(0.5), seed=0)
            scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10, enabled=scaled)
            for _ in range(3):
                optimizer.zero_grad()
                scaler.scale((p * torch.linspace(-1, 1, 5000, device="cuda")).sum()).backward()
                if unscaled:
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_([p], 1e9)
                scaler.step(optimizer)
                scaler.update()
            weights.append(p.detach())
        torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-5)
        assert (weights[0] - 1).std() > 0.05

    @pytest.mark.parametrize("fused", [False, True])
    def test_an_overflow_under_a_scaler_is_not_counted(self, fused):
        p = torch.nn.Parameter(torch.ones(4, device="cuda"))
        optimizer = torch.optim.AdamW([p], lr=0.1, fused=fused)
        noise = attach(optimizer, Annealed(0.01), seed=0)
        scaler = torch.amp.GradScaler("cuda", init_scale=8.0)
        for factor, expected in ((1.0, 1), (float("inf"), 1), (1.0, 2)):
            before = p.detach().clone()
            optimizer.zero_grad()
            scaler.scale((p * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            assert optimizer.state_dict()["param_groups"][0]["gradnoise_t"] == expected
            assert noise.step == expected
            assert torch.equal(p, before) == (factor == float("inf"))

    @needs_triton
    @pytest.mark.parametrize("scaled", [False, True])
    @pytest.mark.parametrize("lr_on_device", [False, True])
    def test_a_step_waits_for_nothing(self, lr_on_device, scaled):
        model = model_of("cuda")
        lr = torch.tensor(0.1, device="cuda") if lr_on_device else 0.1
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
        attach(optimizer, Annealed(0.01), seed=0)
        scaler = torch.amp.GradScaler("cuda", enabled=scaled)
        for waiting in (contextlib.nullcontext, no_waiting, no_waiting):  # the first time tables are made
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(4, 9, device="cuda")).sum()).backward()
            with waiting():
                scaler.step(optimizer)
            torch.cuda.synchronize()
            scaler.update()

    def test_sparse_complex_and_half_gradients_get_the_noise_of_the_cpu(self):
        seen = []
        for device in ("cpu", "cuda"):
            table = torch.nn.Embedding(50, 33, sparse=True, device=device)
            wave = torch.nn.Parameter(torch.zeros(99, dtype=torch.complex64, device=device))
            half = torch.nn.Parameter(torch.zeros(99, dtype=torch.float16, device=device))
            table(torch.tensor([4, 7, 4, 0], device=device)).sum().backward()
            wave.grad, half.grad = torch.zeros_like(wave), torch.ones_like(half)
            optimizer = torch.optim.SGD([table.weight, wave, half], lr=0.1)
            attach(optimizer, Annealed(0.01), seed=0)
            optimizer.step()
            seen.append([table.weight.grad.to_dense().cpu(), wave.grad.cpu(), half.grad.cpu()])
        assert all(map(torch.equal, *seen))

    def test_the_law_of_a_long_walk(self):
        """Compare the sample variance with sigma^2, within 5 standard errors."""
        n = 1_000_000
        p = torch.nn.Parameter(torch.zeros(n, device="cuda"))
        p.grad = torch.zeros_like(p)
        optimizer = torch.optim.SGD([p], lr=1.0)
        noise = attach(optimizer, Annealed(0.5), seed=0, named_parameters=[("p", p)])
        optimizer.step()
        assert abs(p.double().var() / 0.5 - 1) < 5 * (2 / n) ** 0.5
        assert torch.equal(p.cpu(), -noise.replay("p", 0))
        assert torch.equal(noise.replay("p", 0), torch.tensor(0.5**0.5) * normal(stream_key(0, "p"), 0, n))
