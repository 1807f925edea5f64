"""The engine that trains a chunk of trials as one population of an `Experiment`.

What else of the study lab knows populations stands in files beside it: a slice, what is timed, the probe, the facts.
"""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from gradnoise.errors import StudyError
from gradnoise.population import Experiment, Population, Replica, Training, best_size
from gradnoise.population.chunks import CANDIDATES, usual_seconds
from gradnoise.population.fallbacks import ExperimentWarning
from gradnoise.study.engine import Job, Keep, Measurement, Probed, SliceResult
from gradnoise.study.run.facts import facts
from gradnoise.study.run.memory import first_line, memory_told, peak_bytes
from gradnoise.study.run.own_code import not_ended
from gradnoise.study.run.population_slice import train
from gradnoise.study.run.probing import device_problem, probed
from gradnoise.study.run.rewinding import Begun
from gradnoise.study.spec import STUDY_KEYS, Config, Subject, known_keys

#: Settings of the engine that may differ between the replicas of a population.
PER_REPLICA = frozenset({"lr", "noise", "clip", "dropout", "early_stop", "noise_first", "noise_on", "weight_noise"})
#: Seconds to a first update above which some may be of what is slow once in a process.
ONCE = 0.5


@dataclass(frozen=True, eq=False)
class PopulationEngine:
    """Trains trials of an experiment, those with tensors of the same shapes together.

    Args:
        experiment: what is trained.
        device: where, such as "cpu" or "cuda".
        compile: whether to compile the training step.
        trace: whether to record it once and replay it.
    """

    experiment: Experiment
    device: str = "cpu"
    compile: bool = False
    trace: bool = True

    @classmethod
    def of(cls, subject: Subject, device: str = "cpu", compile: bool = False, trace: bool = True) -> PopulationEngine:
        """Return the engine of an experiment.

        Raises:
            StudyError: `subject` is none.
        """
        if not isinstance(subject, Experiment):
            raise StudyError(
                f"a study trains an Experiment or an Engine, not a {type(subject).__name__}; derive its class from"
                " gradnoise.population.Experiment"
            )
        return cls(subject, device, compile, trace)

    def on(self, device: str) -> PopulationEngine:
        """Return the same engine on another device of the same kind.

        Raises:
            StudyError: it is of another kind, which gives other last bits.
        """
        mine, other = torch.device(self.device).type, _kind(device)
        if other != mine:
            raise StudyError(
                f"the study trains on {mine}, not on {other}: its trials would differ by where they ran; start its"
                f" driver with --device {other} to train there"
            )
        return dataclasses.replace(self, device=device)

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.experiment.name

    @property
    def fingerprint(self) -> str:
        """Hash of the experiment's data."""
        return self.experiment.fingerprint

    @property
    def data_title(self) -> str:
        """What reports call the data."""
        return self.experiment.data_title

    @property
    def stand_in(self) -> bool:
        """Whether the data only stands in for a published data set."""
        return self.experiment.stand_in

    @property
    def on_cpu(self) -> bool:
        """Whether it trains on the processor."""
        return self.device == "cpu"

    @property
    def hardware(self) -> str:
        """The device it trains on, and its name where it has one: "cpu", "cuda, NVIDIA H100 80GB HBM3"."""
        device = torch.device(self.device)
        if device.type != "cuda" or not torch.cuda.is_available():  # workers may be on another machine
            return self.device
        return f"{self.device}, {torch.cuda.get_device_name(device)}"

    def facts(self, trials: Sequence[TrialLike]) -> tuple[tuple[str, str], ...]:
        """Say what is trained, for the report: see `gradnoise.study.run.facts`."""
        usual = () if any("lr" in t.config for t in trials) else (("learning rate", f"{Training().lr:g}, the default"),)
        return (*facts(self.experiment, [self.replica(t.seed, t.config) for t in trials]), *usual)

    def keys(self) -> frozenset[str] | None:
        """Return all keys that a configuration may have; None where the experiment does not say."""
        return known_keys(self.experiment)

    def check(self, seed: int, config: Config) -> None:
        """Check the values of one trial's configuration.

        Raises:
            PopulationError: a value is out of range.
        """
        self.replica(seed, config)

    def replica(self, seed: int, config: Config) -> Replica:
        """Return a trial as the population sees it.

        Raises:
            PopulationError: a setting is unknown, or its value out of range.
        """
        settings = {k: v for k, v in config.items() if k not in STUDY_KEYS}
        return Replica.of(self.experiment, seed, settings, config.get("study_seed", 0))

    def group(self, config: Config) -> Hashable:
        """Return what trials must agree on to train as one population."""
        shared = {k: v for k, v in config.items() if k not in PER_REPLICA | self.experiment.replica_keys}
        shared["dropout"] = bool(config.get("dropout"))
        return tuple(sorted((k, repr(v)) for k, v in shared.items()))

    def probe(self, configs: Sequence[Config], known: Collection[str]) -> Probed:
        """Measure what the experiment's code does with these configurations, see `Probing`."""
        with self.threads():
            device = self.device if device_problem(self.device) is None else "cpu"
            return probed(self.experiment, configs, known, device, recorded=self.trace)

    def local_workers(self) -> int:
        """Return the number of cores, or one for an accelerator.

        Raises:
            StudyError: the device cannot be used here.
        """
        if self.device.startswith("meta"):
            raise StudyError("device 'meta' has shapes and no numbers; use --device cpu")
        if problem := device_problem(self.device):
            reason = str(problem).strip().splitlines()[0]
            raise StudyError(f"device {self.device!r} cannot be used here ({reason}); use --device cpu") from problem
        if not self.on_cpu:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def worker(self, keep: Keep) -> PopulationWorker:
        """Make a worker that trains in the calling process."""
        return PopulationWorker(self, keep)

    def build(self, trials: Sequence[TrialLike]) -> Population:
        """Return a fresh population of some trials that can train together."""
        replicas = [self.replica(t.seed, t.config) for t in trials]
        return Population(self.experiment, replicas, device=self.device, compile=self.compile, trace=self.trace)

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Use one torch thread on a CPU within a block; the caller may be a program with a number of its own.

        The number of threads decides the order of summation, and so the last bits of a result. What makes it slow,
        and what its code keeps, was said before training.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(1 if self.on_cpu else before)
        try:
            with warnings.catch_warnings(), not_ended():
                warnings.simplefilter("ignore", ExperimentWarning)
                yield
        finally:
            torch.set_num_threads(before)


def _kind(device: str) -> str:
    """Return the kind of a device, "cuda" for "cuda:1".

    Raises:
        StudyError: there is no such kind.
    """
    try:
        return torch.device(device).type
    except RuntimeError as error:
        raise StudyError(f"no device {device!r}: there are cpu, cuda, cuda:1 and what else torch knows") from error


class TrialLike(Protocol):
    """A trial, of a study or of a job."""

    @property
    def seed(self) -> int:
        """Trial seed."""
        ...

    @property
    def config(self) -> Config:
        """Everything that decides the run."""
        ...


class PopulationWorker:
    """Trains chunks in one process; the population of the last slice, or the one that was timed, stays in memory.

    Args:
        engine: what is trained and where.
        keep: where checkpoints lie.
    """

    def __init__(self, engine: PopulationEngine, keep: Keep) -> None:
        self.engine, self.keep = engine, keep
        self._held: tuple[Sequence[TrialLike], Population] | None = None
        self._timed: tuple[object, Measurement] | None = None

    def measure(self, job: Job, whole: bool) -> Measurement:
        """Time some updates and an evaluation, see `best_size`; on an accelerator more replicas together always pay."""
        most, begun = len(job.trials), dict[int, Begun]()
        candidates = CANDIDATES if self.engine.on_cpu and not whole else (most,)
        asked = job.trials, {min(size, most) for size in candidates}
        if self._timed and self._timed[0] == asked:
            return self._timed[1]

        def build(size: int) -> Population:
            begun[size] = self._begun(job.trials[:size], keep=self.engine.on_cpu)
            return begun[size].population

        with memory_told(most, self._let_go), self.engine.threads():
            size, seconds = best_size(build, most, candidates=candidates)
            chosen = begun[size]
            usual = usual_seconds(chosen.population, job.steps, job.config["eval_every"])
            seconds = max(seconds, usual / size)
            start = chosen.seconds
            if start > ONCE:  # again, as what is slow once in a process was done by now
                start = self._begun(job.trials[:size], keep=False).seconds
            self._held = (job.trials[:size], chosen.population) if chosen.rewound() else None
        self._timed = asked, Measurement(size, seconds, peak_bytes(), start)
        return self._timed[1]

    def _begun(self, trials: Sequence[TrialLike], *, keep: bool) -> Begun:
        return Begun.of(lambda: self.engine.build(trials), keep=keep)

    def advance(self, job: Job, step: int, seconds: float) -> SliceResult:
        """Train a chunk from `step` for about `seconds`, up to an evaluation, and keep a checkpoint of it.

        Raises:
            PopulationError: the experiment does not fit a population; the message says why.
            CheckpointError: the checkpoint cannot be written.
            MemoryFullError: memory ran out.
        """
        started = time.monotonic()
        with memory_told(len(job.trials), self._let_go), self.engine.threads():
            population, events = self._take(job, step)
            before = set(population.diverged)
            rows, final = train(job, population, started + seconds)
            population.settle()
            done = not population.alive or population.t >= job.steps
            if not done:
                self.keep.save(job.chunk, population.t, population.state_dict())
                self._held = job.trials, population
        broken = population.diverged.keys() - before
        return SliceResult(
            chunk=job.chunk,
            step=population.t,
            done=done,
            rows=rows,
            diverged={job.trials[i].id: t for i, t in population.diverged.items()},
            finished={job.trials[i].id: t for i, t in population.finished.items()},
            final=final | {job.trials[i].id: self.engine.experiment.diverged_metrics() for i in broken},
            seconds=time.monotonic() - started,
            events=events,
        )

    def _let_go(self) -> None:
        self._held = None
        if not self.engine.on_cpu:
            torch.cuda.empty_cache()

    def _take(self, job: Job, step: int) -> tuple[Population, tuple[str, ...]]:
        """Return the population at `step`, or an earlier one of the same run, and what was lost on the way.

        The held population is removed before it is used: an interrupt in the middle of an update would leave it half
        updated.
        """
        held, self._held = self._held, None
        if held and held[0] == job.trials and held[1].t == step:
            return held[1], ()
        population = self.engine.build(job.trials)
        if not step:
            return population, ()
        kept = self.keep.latest(job.chunk, step)
        losses = list(kept.losses)
        while kept.state is not None:
            try:
                population.load_state_dict(kept.state)
                break
            except Exception as error:  # whole, but of another version or kind, or put there by somebody
                population = self.engine.build(job.trials)
                kept = kept.older()
                losses += [f"the checkpoint of chunk {job.chunk} cannot be used ({first_line(error)})", *kept.losses]
        if not losses:
            return population, ()
        again = f"trained again from update {population.t}" if population.t else "trained again from the start"
        return population, tuple(f"{loss}: {again}" for loss in losses)
