import itertools
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gradnoise.noise.gaussian import add_rows_, backend, bernoulli_rows_, normal, threads

numba_only = pytest.mark.skipif(backend() != "numba", reason="only the Numba kernels start threads of ours")


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_pieces_make_up_the_whole(monkeypatch):
    monkeypatch.setattr(threads, "CHUNK", 7)
    pieces = []
    threads.split(lambda lo, hi: pieces.append((lo, hi)), 100, 3)
    pieces.sort()
    assert pieces[0][0] == 0 and pieces[-1][1] == 100
    assert all(a[1] == b[0] and a[0] < a[1] for a, b in itertools.pairwise(pieces))


def test_small_work_stays_on_the_calling_thread():
    pieces = []
    threads.split(lambda lo, hi: pieces.append((lo, hi)), threads.CHUNK, 8)
    assert pieces == [(0, threads.CHUNK)]


def test_an_error_in_a_piece_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(threads, "CHUNK", 1)

    def fail(lo, hi):
        raise RuntimeError(f"piece {lo}")

    with pytest.raises(RuntimeError, match="piece"):
        threads.split(fail, 10, 2)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("chunk", [1999, 1024, 333, 61])
def test_the_split_over_threads_changes_no_bit(chunk, workers, monkeypatch):
    x, whole = torch.zeros(3, 2000), torch.zeros(3, 2000)
    arguments = {
        "offsets": [0, 1, 1203, 2000],
        "keys": np.arange(9, dtype=np.uint64).reshape(3, 3),
        "t": [1, 2, 3],
        "sigma": [1.0, 0.0, 2.0],
    }
    masks, whole_masks = torch.zeros(3, 2000), torch.zeros(3, 2000)
    mask_arguments = {"keys": [1, 2, 3], "t": [0, 0, 0], "keep": [0.1, 0.5, 0.9]}
    add_rows_(whole, **arguments)
    bernoulli_rows_(whole_masks, **mask_arguments)
    monkeypatch.setattr(threads, "CHUNK", chunk)
    torch.set_num_threads(workers)
    add_rows_(x, **arguments)
    bernoulli_rows_(masks, **mask_arguments)
    assert torch.equal(x, whole) and torch.equal(masks, whole_masks)


def test_several_python_threads_may_draw_at_once():
    n = 200_000
    expected = [normal(key, 0, n) for key in range(8)]
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda key: normal(key, 0, n), range(8)))
    assert all(map(torch.equal, drawn, expected))


def _draw(n):
    return normal(1, 2, n).numpy()  # as an array: torch's own threads do hang after a fork


@numba_only
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking a process with threads is what is tested
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_draw_the_same(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    expected = _draw(200_000)  # the parent's threads are running by now
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert np.array_equal(pool.apply_async(_draw, (200_000,)).get(timeout=60), expected)
