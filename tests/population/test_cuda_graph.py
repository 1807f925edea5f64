"""What `CudaGraphs` does, on a machine without a CUDA device: recording and replay are played by a stand-in.

The stand-in's graph runs what was recorded again on the tensors that it was recorded with, as a graph does.
"""

import contextlib

import pytest
import torch

from gradnoise.population import cuda_graph
from gradnoise.population.cuda_graph import CudaGraphs


class StandIn:
    """Plays torch.cuda: `recording` is the graph that is being recorded."""

    def __init__(self):
        self.recording, self.replays, self.pools = None, 0, 0

    def CUDAGraph(self):
        outer = self

        class Graph:
            def replay(self):
                outer.replays += 1
                self.again()

        return Graph()

    @contextlib.contextmanager
    def graph(self, graph, pool, capture_error_mode):
        self.recording = graph
        yield
        self.recording = None

    def graph_pool_handle(self):
        self.pools += 1
        return (0, self.pools)

    def synchronize(self):
        self.recording = None


@pytest.fixture
def cuda(monkeypatch):
    stand_in = StandIn()
    for name in ("CUDAGraph", "graph", "graph_pool_handle", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, getattr(stand_in, name))
    return stand_in


def adding(cuda, total):
    """Work that adds fresh to `total` times lasting, and returns twice the sum."""
    out = torch.zeros_like(total)

    def work(fresh, lasting):
        def run():
            total.add_(fresh["x"] * lasting[0])
            return torch.mul(total, 2, out=out)

        if cuda.recording is None:
            return run()
        cuda.recording.again = run
        return out

    return work


def test_the_third_call_replays_and_gives_what_the_work_gives(cuda):
    graphs, total, expected = CudaGraphs(torch.device("cuda")), torch.zeros(3), torch.zeros(3)
    work, factor = adding(cuda, total), (torch.tensor(2.0),)
    for k in range(6):
        if k == 4:
            factor = (torch.tensor(5.0),)
        x = torch.full((3,), float(k))
        expected += x * factor[0]
        assert torch.equal(graphs(work, {"x": x}, factor), 2 * expected)
    assert cuda.replays == 5 and cuda.pools == 1


def test_lasting_inputs_are_copied_once(cuda):
    graphs, total = CudaGraphs(torch.device("cuda")), torch.zeros(())
    work, factor = adding(cuda, total), (torch.tensor(2.0),)
    for _ in range(3):
        graphs(work, {"x": torch.ones(())}, factor)
    factor[0].fill_(100.0)  # the same object: what it holds does not count
    graphs(work, {"x": torch.ones(())}, factor)
    assert total == 8


def test_each_shape_has_its_graph_and_the_oldest_goes(cuda, monkeypatch):
    monkeypatch.setattr(cuda_graph, "MOST_GRAPHS", 2)
    graphs = CudaGraphs(torch.device("cuda"))
    total = torch.zeros(())
    seen = []
    for n in (1, 2, 1, 2, 3, 3, 1, 2):
        before = cuda.replays

        def work(fresh, lasting):
            def run():
                total.add_(fresh.sum())

            if cuda.recording is None:
                run()
            else:
                cuda.recording.again = run

        graphs(work, torch.ones(n), ())
        seen.append(cuda.replays > before)
    assert seen == [False, False, True, True, False, True, False, False]
    assert total == 1 + 2 + 1 + 2 + 3 + 3 + 1 + 2
    graphs.forget()
    assert not graphs._known


def test_what_cannot_be_recorded_is_launched_and_said_once(cuda):
    graphs, calls = CudaGraphs(torch.device("cuda")), []

    def work(fresh, lasting):
        if cuda.recording is not None:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        calls.append(fresh.item())
        return fresh

    assert graphs(work, torch.tensor(1.0)) == 1
    with pytest.warns(UserWarning, match=r"slower: it cannot be recorded .* \(operation not permitted when"):
        assert graphs(work, torch.tensor(2.0)) == 2
    assert graphs(work, torch.tensor(3.0)) == 3
    assert calls == [1.0, 2.0, 3.0] and cuda.replays == 0


@pytest.mark.parametrize("graphs", [CudaGraphs(torch.device("cpu")), CudaGraphs(torch.device("cuda"), enabled=False)])
def test_elsewhere_work_runs_as_it_is(graphs):
    inputs = torch.ones(2), (torch.zeros(1),)
    for _ in range(3):
        assert graphs(lambda fresh, lasting: (fresh, lasting), *inputs) == inputs
