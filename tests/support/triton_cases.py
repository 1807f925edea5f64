"""What the Triton backend must do as the reference does, bit for bit: on a GPU, and in Triton's interpreter.

The interpreter needs TRITON_INTERPRET=1 before Triton is imported:
`python -c "from support.triton_cases import run; run('cpu')"`.
"""

import itertools

import numpy as np
import torch

from gradnoise.noise.gaussian import Part, reference, stream_key
from gradnoise.noise.gaussian import triton_backend as triton

KEY = stream_key(3, "weight")
STEP = 2**35 + 7
SIZES = {"cuda": (1, 3, 2047, 2048, 4097, 5000), "cpu": (3, 2049)}  # the interpreter is slow
CUTS = {"cuda": ([0, 8, 4096, 8192], [0, 7, 50], [0, 0, 2049, 4099, 4099], [0, 1]), "cpu": ([0, 2048], [0, 0, 9, 50])}
FIRSTS = {"cuda": (None, [0], [3], [2**33 + 5], [1, 10, 2**33 + 6, 77]), "cpu": (None, [2**33 + 5, 3])}


def run(device):
    """Run all cases on "cuda", or in the interpreter on "cpu"."""
    for case in (parts, parts_together, rows, masks_and_words):
        case(device)


def same(ours, expected, device, what):
    ours = ours.cpu()
    if ours.dtype == torch.bfloat16 and device == "cpu":  # the interpreter cuts bits off where the device rounds
        torch.testing.assert_close(ours, expected, rtol=2**-6, atol=2**-6)
    else:
        assert torch.equal(ours, expected), what


def parts(device):
    scale = torch.tensor(2.0)
    for dtype, n, first in itertools.product(triton.TYPES, SIZES[device], FIRSTS[device]):
        count = n * (1 if first is None else len(first))
        for shift, view in ((0, "plain"), (1, "unaligned"), (0, "strided")):
            memory = torch.linspace(-1, 1, 2 * count + 1).to(dtype)
            place = slice(shift, None, 2) if view == "strided" else slice(shift, shift + count)
            ours, expected = memory.to(device, copy=True), memory.clone()
            starts = None if first is None else torch.tensor(first)
            target = ours[place][:count]
            triton.add_parts_([Part(target, KEY, starts)], STEP, 0.3, scale.to(device))
            reference.add_parts_([Part(expected[place][:count], KEY, starts)], STEP, 0.3, scale)
            same(ours, expected, device, (dtype, n, first, view))


def parts_together(device):
    shapes = [(), (3,), (0,), (7, 5), (2, 1000), (4099,)]
    for dtypes in ([torch.float32], [torch.float64, torch.float32, torch.bfloat16]):
        start = [torch.ones(shape, dtype=dtype) for shape in shapes for dtype in dtypes]
        keys = [stream_key(0, str(i)) for i in range(len(start))]
        for t in (0, 1, 2**63 + 1):  # from the second time on the table of programs is there already
            ours, expected = [x.to(device, copy=True) for x in start], [x.clone() for x in start]
            triton.add_parts_(list(map(Part, ours, keys)), t, 1.5, None)
            reference.add_parts_(list(map(Part, expected, keys)), t, 1.5, None)
            for x, y in zip(ours, expected, strict=True):
                same(x, y, device, (x.shape, x.dtype))


def rows(device):
    for dtype, offsets, gap in itertools.product((torch.float32, torch.float64), CUTS[device], (0, 3)):
        n, segments = offsets[-1], len(offsets) - 1
        for sigma, scale in (
            ([0.1, 0.0, 0.3, 1e-50, 0.0], None),
            ([0.1, 0.0, 0.3, 1e-50, 0.0], [2.0, 0.3, 1.0, 1.0, 1.0]),
            ([0.0], [-0.7]),
        ):
            p = len(sigma)
            rng = np.random.default_rng(0)
            keys = torch.from_numpy(rng.integers(-(2**63), 2**63, (p, segments)))
            memory = torch.from_numpy(rng.normal(size=p * (n + gap))).to(dtype)
            memory[: min(3, n)] = -0.0
            t = torch.from_numpy(rng.integers(0, 2**63, p))
            factors = None if scale is None else torch.tensor(scale, dtype=dtype)
            for step in (t, t[0].expand(p)):
                ours, expected = memory.to(device, copy=True), memory.clone()
                arguments = keys, step, torch.tensor(sigma, dtype=torch.float64), factors
                there = [a if a is None else a.to(device) for a in arguments]
                triton.add_rows_(ours.as_strided((p, n), (n + gap, 1)), np.array(offsets), *there)
                reference.add_rows_(expected.as_strided((p, n), (n + gap, 1)), np.array(offsets), *arguments)
                same(ours, expected, device, (dtype, offsets, gap, scale))
                assert torch.equal(ours.cpu().signbit(), expected.signbit())


def masks_and_words(device):
    keep = torch.tensor([0.0, 1.0, 0.5, 0.37, 1e-9], dtype=torch.float64)
    keys, t = torch.tensor([1, -5, KEY - 2**64, 7, 2**40]), torch.tensor([0, 1, 2**40, -1, 5])
    for n in (0, 1, 9, 2048, 4100):
        for step in (t, t[2].expand(5)):
            there = keys.to(device), step.to(device)
            words = torch.empty(5, n, dtype=torch.int64, device=device)
            expected = torch.empty(5, n, dtype=torch.int64)
            triton.fill_words_(words, *there)
            reference.fill_words_(expected, keys, step)
            assert torch.equal(words.cpu(), expected)
            for dtype in (torch.float32, torch.float64):
                masks, expected = torch.zeros(5, n + 3, dtype=dtype, device=device), torch.zeros(5, n + 3, dtype=dtype)
                triton.bernoulli_rows_(masks[:, :n], *there, keep.to(device))
                reference.bernoulli_rows_(expected[:, :n], keys, step, keep)
                assert torch.equal(masks.cpu(), expected), (n, dtype)
