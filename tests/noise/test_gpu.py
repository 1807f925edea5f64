"""The Triton kernel against the reference: in Triton's interpreter on the CPU, and on a GPU where there is one."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from gradnoise import Annealed, attach
from gradnoise.noise.gaussian import Part, add_parts_, add_rows_, backend, reference, stream_key

pytest.importorskip("triton", reason="Triton is not installed")

COMPARE = """
import numpy as np, torch
from gradnoise.noise.gaussian import Part, reference, stream_key
from gradnoise.noise.gaussian import triton_kernels as gpu

key = stream_key(3, "weight")
for dtype in gpu.SUPPORTED:
    for first, n in ((None, 5000), (torch.tensor([3]), 4097), (torch.tensor([1, 10, 2**33 + 5]), 300)):
        start = torch.linspace(-1, 1, n).to(dtype)
        ours, expected = start.clone(), start.clone()
        gpu.add_parts_([Part(ours, key, first)], 2**35 + 7, 0.3, torch.tensor(2.0))
        reference.add_parts_([Part(expected, key, first)], 2**35 + 7, 0.3, torch.tensor(2.0))
        if dtype == torch.bfloat16:  # the interpreter cuts bits off where the device rounds
            torch.testing.assert_close(ours, expected, rtol=2**-7, atol=0)
        else:
            assert torch.equal(ours, expected), (dtype, first, n)
x = torch.linspace(-1, 1, 150).view(3, 50)
y = x.clone()
keys = np.array([[1, 2**63 + 5], [3, 4], [5, 6]], dtype=np.uint64)
arguments = np.array([0, 7, 50]), keys, np.array([0, 5, 9], dtype=np.uint64), np.array([0.1, 0, 0.3])
gpu.add_rows_(x, *arguments, torch.tensor([2, 1, 0.7]))
reference.add_rows_(y, *arguments, torch.tensor([2, 1, 0.7]))
assert torch.equal(x, y)
words = torch.empty(2, 3, 9, dtype=torch.int64)
gpu.fill_words_(words[0], keys[:, 0], 5)
reference.fill_words_(words[1], keys[:, 0], 5)
assert torch.equal(*words)
"""


def test_the_kernel_equals_the_reference_in_the_interpreter():
    environment = os.environ | {"TRITON_INTERPRET": "1"}  # read when Triton is imported
    subprocess.run([sys.executable, "-c", COMPARE], env=environment, check=True, timeout=300)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnTheDevice:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_the_kernel_equals_the_reference(self, dtype):
        assert backend("cuda") == "triton"
        start = torch.linspace(-1, 1, 100_003).to(dtype)
        part = Part(start.cuda(), stream_key(3, "weight"), torch.tensor([5]))
        add_parts_([part], t=2**35 + 7, sigma=0.3)
        reference.add_parts_([part._replace(x=start)], 2**35 + 7, 0.3, None)
        assert torch.equal(part.x.cpu(), start)

    def test_rows_equal_the_reference(self):
        x = torch.linspace(-1, 1, 150).view(3, 50)
        y, keys = x.cuda(), np.arange(6, dtype=np.uint64).reshape(3, 2)
        arguments = {"offsets": [0, 7, 50], "keys": keys, "t": [0, 5, 9], "sigma": [0.1, 0, 0.3]}
        add_rows_(x, **arguments)
        add_rows_(y, **arguments)
        assert torch.equal(x, y.cpu())

    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.filterwarnings("ignore:.*lr_scheduler")
    def test_an_overflow_under_a_scaler_is_not_counted(self, fused):
        p = torch.nn.Parameter(torch.ones(4, device="cuda"))
        optimizer = torch.optim.AdamW([p], lr=0.1, fused=fused)
        noise = attach(optimizer, Annealed(0.01), seed=0)
        scaler = torch.amp.GradScaler("cuda", init_scale=8.0)
        for factor, expected in ((1.0, 1), (float("inf"), 1), (1.0, 2)):
            optimizer.zero_grad()
            scaler.scale((p * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            assert noise.step == expected

    @pytest.mark.parametrize("lr_on_device", [False, True])
    def test_a_step_waits_for_nothing(self, lr_on_device):
        p = torch.nn.Parameter(torch.ones(1000, device="cuda"))
        lr = torch.tensor(0.1, device="cuda") if lr_on_device else 0.1
        optimizer = torch.optim.AdamW([p], lr=lr, fused=True)
        attach(optimizer, Annealed(0.01), seed=0)
        for _ in range(2):  # the first compiles
            p.grad = torch.ones_like(p)
            torch.cuda.set_sync_debug_mode("error")
            try:
                optimizer.step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
