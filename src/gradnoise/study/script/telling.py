"""What the store is told of the runs of one seed: numbers, how each ended, and what a reader must know of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from gradnoise.study.engine import Job, JobTrial, MetricRow, SliceResult
from gradnoise.study.script.outcome import BROKEN, FAILED, FINISHED, TIMEOUT, Outcome
from gradnoise.study.script.pairing import Run, pair_notes


class Told(Protocol):
    """What of an engine its results are told with."""

    @property
    def metric(self) -> str:
        """What decides."""
        ...

    @property
    def arms(self) -> tuple[str, ...]:
        """Names, the baseline first."""
        ...


def result_of(
    job: Job, outcomes: Sequence[Outcome], engine: Told, baseline: Outcome | None = None, further: Sequence[str] = ()
) -> SliceResult:
    """Return what the store is to know of a chunk.

    Args:
        job: its trials, of one seed.
        outcomes: of each of them.
        engine: its metric and arms.
        baseline: how the baseline of the seed ended, where it is not among the trials: arms may have been added later.
        further: what else a reader of verdicts must know.
    """
    rows: list[MetricRow] = []
    ended: dict[str, int] = {}
    for trial, outcome in zip(job.trials, outcomes, strict=True):
        rows += [(trial.id, name, int(s), float(v)) for name, values in outcome.points.items() for s, v in values]
        ended[trial.id] = outcome.updates
    broken = {t.id for t, o in zip(job.trials, outcomes, strict=True) if o.status != FINISHED}
    return SliceResult(
        chunk=job.chunk,
        step=job.steps,
        done=True,
        rows=rows,
        diverged={id: step for id, step in ended.items() if id in broken},
        finished={id: step for id, step in ended.items() if id not in broken},
        final={
            t.id: {n: v for n, v in o.final.items() if math.isfinite(v)}
            for t, o in zip(job.trials, outcomes, strict=True)
        },
        seconds=sum(o.seconds for o in outcomes),
        events=tuple(
            f"seed {t.seed}, arm {t.config['arm']}: {o.sentence}"
            for t, o in zip(job.trials, outcomes, strict=True)
            if o.sentence
        ),
        notes=(*_notes(job, outcomes, engine, baseline), *further),
    )


def _notes(job: Job, outcomes: Sequence[Outcome], engine: Told, baseline: Outcome | None) -> list[str]:
    """Say how a chunk is paired, what ended badly, and where its metric is read."""
    ran = [(t, o) for t, o in zip(job.trials, outcomes, strict=True)]
    others = [(t, o) for t, o in ran if t.config["arm"] != engine.arms[0]]
    own = [(t, o) for t, o in ran if t.config["arm"] == engine.arms[0]]
    first = own[0][1] if own else baseline
    said = pair_notes(
        engine.arms[0],
        None if first is None or first.status == FAILED else first.beginning,
        [Run(t.config["arm"], o.beginning, "arguments" in t.config) for t, o in others if o.status != FAILED],
    )
    words = {
        TIMEOUT: "ran into the time limit",
        FAILED: "failed",
        BROKEN: f"ended with a {engine.metric} that is not finite",
    }
    said += [f"Runs of {t.config['arm']} {words[o.status]}" for t, o in ran if o.status in words]
    if counted := [t.config["arm"] for t, o in ran if o.counted]:
        said.append(
            f"Runs of {', '.join(counted)} told steps twice or not in order, as when each epoch counts from 0: their"
            " steps are counted instead"
        )
    if anew := [t.config["arm"] for t, o in ran if any(b.get("again") and "schedule" in b for b in o.begin)]:
        said.append(
            f"The noise of {', '.join(anew)} began anew, at its first sigma, with each further optimizer of the same"
            " weights: it counts the updates of one optimizer. To have it go on, keep that optimizer"
        )
    said += [f"{engine.metric} is read from {source}" for source in dict.fromkeys(o.source for _, o in ran if o.source)]
    return said + _beside(first, engine.arms[0], others)


def _beside(first: Outcome | None, baseline: str, others: Sequence[tuple[JobTrial, Outcome]]) -> list[str]:
    """Say of arms that they changed no number, or ran elsewhere than the baseline did."""
    if first is None:
        return []
    said = [
        f"Every number of {t.config['arm']} equals that of {baseline}"
        for t, o in others
        if o.status == first.status == FINISHED and o.numbers == first.numbers
    ]
    places = [", ".join(f"{k}={v}" for k, v in o.variables.items()) for o in (first, *(o for _, o in others))]
    if len(set(places)) > 1:
        said.append(f"Runs of one seed took place under different {' and '.join(first.variables)}")
    return said
