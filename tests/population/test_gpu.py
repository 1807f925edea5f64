"""Populations on a GPU: the numbers of the CPU; recorded updates have the bits of launched ones, whoever leaves."""

import warnings
from functools import partial

import pytest
import torch
from support.toys import MIXED, Regression, all_with, assert_close, assert_same, net_experiment, trajectories
from torch import nn

from gradnoise.paper import load_system
from gradnoise.population import Adam, Population, RMSProp
from gradnoise.population.cuda_graph import CudaGraphs
from gradnoise.study import Options, run_study
from gradnoise.study.run.population_engine import PopulationEngine

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
SYSTEMS = ("deep-mlp", "memn2n", "nram", "lstm-lm", "neural-programmer", "neural-gpu")


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def on_cpu(paths):
    return {i: path.cpu() for i, path in paths.items()}


def recorded(population) -> int:
    """How many updates are recorded."""
    return sum(graph is not None for graph in population._parts[0].graphs._known.values())


@pytest.fixture
def launched(monkeypatch):
    """A context in which nothing is recorded."""

    def population(*args, **options):
        made = Population(*args, **options)
        made._parts[0].graphs = CudaGraphs(made.device, enabled=False)
        return made

    return population


@pytest.mark.parametrize("trace", [True, False])
def test_updates_are_those_of_the_cpu(trace):
    make = partial(Population, net_experiment(), MIXED, dtype=torch.float64, trace=trace)
    cpu, gpu = make(), make(device="cuda")
    assert_close(trajectories(cpu, 12), on_cpu(trajectories(gpu, 12)), tolerance=1e-9)
    assert recorded(gpu) == trace
    for name, x in cpu.evaluate().items():
        torch.testing.assert_close(gpu.evaluate()[name].cpu(), x, rtol=1e-9, atol=1e-12)
    for name, x in cpu.telemetry().items():
        torch.testing.assert_close(gpu.telemetry()[name].cpu(), x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [None, Adam(), RMSProp()])
def test_recorded_updates_are_the_launched_ones_bit_for_bit(launched, optimizer):
    """Over the end of a table of 64 updates."""
    given = {} if optimizer is None else {"optimizer": optimizer}
    runs = all_with(MIXED, lr=0.02, **given)
    one, other = (make(net_experiment(), runs, device="cuda") for make in (Population, launched))
    assert_same(trajectories(one, 140), trajectories(other, 140))
    assert (recorded(one), recorded(other)) == (1, 0)


@pytest.mark.parametrize("patience", [1, 3])
def test_rows_that_end_leave_a_recorded_population(launched, patience):
    class Patient(Regression):
        pass

    Patient.patience = patience
    experiment = Patient(net_experiment().build, poison={1: 5, 2: 8})
    one, other = (make(experiment, MIXED, device="cuda") for make in (Population, launched))
    assert_same(trajectories(one, 20), trajectories(other, 20))
    assert one.diverged == other.diverged and len(one.alive) == (7 if patience > 1 else 4)


def test_a_checkpoint_goes_on_bit_for_bit():
    one, other = (Population(net_experiment(), MIXED, device="cuda") for _ in range(2))
    trajectories(one, 7)
    state = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in one.state_dict().items()}
    state |= {k: {n: x.clone() for n, x in state[k].items()} for k in ("fixed", "optimizer", "course")}
    expected = trajectories(one, 7)
    trajectories(other, 3)
    other.load_state_dict(state)
    assert_same(trajectories(other, 7), expected)


class Asks(nn.Module):
    """Reads a value on the host, which no recording can follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x):
        y = self.layer(x)
        return (2 * y if y.sum().item() > 0 else y).squeeze(-1)


def test_what_cannot_be_recorded_is_launched():
    make = partial(Population, Regression(lambda config: Asks()), MIXED[:3], dtype=torch.float64)
    cpu, gpu = make(), make(device="cuda")
    with pytest.warns(UserWarning, match="cannot be recorded as a CUDA graph"):
        assert_close(trajectories(cpu, 6), on_cpu(trajectories(gpu, 6)), tolerance=1e-9)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_replica_of_a_system_trains_alike_alone_and_on_the_cpu(system):
    study = load_system(system).study("smoke", "digits" if system == "deep-mlp" else "auto")
    trials = list(study.trials())[:4]
    engine = PopulationEngine(study.experiment)
    together = [t for t in trials if engine.group(t.config) == engine.group(trials[0].config)]
    runs = [engine.replica(t.seed, t.config) for t in together]
    make = partial(Population, study.experiment, dtype=torch.float64)
    cpu, gpu, alone = make(runs), make(runs, device="cuda"), make(runs[-1:], device="cuda")
    paths = [on_cpu(trajectories(p, 6)) for p in (cpu, gpu, alone)]
    assert_close(paths[0], paths[1], tolerance=1e-7)
    assert_close({0: paths[1][len(runs) - 1]}, paths[2], tolerance=1e-7)
    seen = gpu.evaluate()
    for name, x in cpu.evaluate().items():
        torch.testing.assert_close(seen[name].cpu(), x, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_study_runs_to_its_results(system, tmp_path):
    study = load_system(system).study("smoke", "digits" if system == "deep-mlp" else "auto")
    results = run_study(study, tmp_path, options=Options(device="cuda", slice_seconds=1.0))
    assert {t.status for t in results.trials} <= {"finished", "diverged"}
