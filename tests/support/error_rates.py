"""How often verdicts are wrong: made-up studies whose truth is known, judged by `summarise` as a report would.

`python -m support.error_rates` in the folder of the tests prints the tables of docs/statistics.md.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradnoise.study.analysis import Summary, summarise
from gradnoise.study.analysis.statistics import sign_flip_interval
from gradnoise.study.results import Look, TrialResult
from gradnoise.study.spec import Arm, Claim, Metric
from support.report_fakes import METRIC, study, trial

Array = NDArray[np.float64]
Law = Callable[[np.random.Generator, tuple[int, ...]], Array]

#: Margin 1; neither chance nor success, so that every number has its own scale.
PLAIN = Metric("accuracy", "accuracy", margin=1.0)
SOLVES = replace(METRIC, unit="points", chance=10.0, success=80.0)
RATE = Metric("accuracy", "runs solved", "%", chance=0.0, margin=10.0, success=100.0, rate=True)


def bimodal(share: float) -> Law:
    """Runs that solve their task with this chance, at 95 instead of 10."""
    return lambda rng, size: np.where(rng.random(size) < share, 95.0, 10.0) + rng.normal(0.0, 0.3, size)


def solved(share: float) -> Law:
    """Runs that are solved (100) or not (0)."""
    return lambda rng, size: 100.0 * (rng.random(size) < share)


#: Outcome type -> metric, and the law of a run of either arm.
TYPES: dict[str, tuple[Metric, Law]] = {
    "normal": (PLAIN, lambda rng, size: rng.normal(50.0, 3.0, size)),
    "skewed": (PLAIN, lambda rng, size: 40.0 + rng.exponential(5.0, size)),
    "perplexity": (PLAIN, lambda rng, size: np.exp(rng.normal(4.5, 0.4, size))),
    "bimodal": (SOLVES, bimodal(0.4)),
    "rate": (RATE, solved(0.3)),
}


def judged(
    metric: Metric, values: Array, claims: Sequence[Claim] = (), looks: tuple[Look, ...] = (), **changes: object
) -> Summary:
    """Summarise a study of these final values [rows, arms, seeds]; the first arm is the baseline."""
    rows, count, seeds = values.shape
    names = ["none", "noise", *(f"arm{i}" for i in range(2, count))]
    trials: list[TrialResult] = [
        trial(names[a], s, float(values[r, a, s]), row=str(r))
        for r in range(rows)
        for a in range(count)
        for s in range(seeds)
    ]
    trials = [replace(t, curves={}) for t in trials]
    arms = tuple(Arm(name) for name in names)
    seen = {"metric": metric, "rows": [str(r) for r in range(rows)], "claims": claims, "arms": arms}
    results = study(trials, **{**seen, "seeds": tuple(range(seeds)), **changes})
    return summarise(replace(results, looks=looks))


def decided(summary: Summary, *outcomes: str) -> bool:
    """Tell whether any verdict is one of these; helps or hurts unless said."""
    return any(e.verdict.outcome in (outcomes or ("helps", "hurts")) for e in summary.effects)


def familywise(kind: str, studies: int, seed: int = 0, rows: int = 1, arms: int = 2, seeds: int = 8) -> float:
    """Share of studies that tell arms apart which are the same."""
    rng, (metric, law) = np.random.default_rng(seed), TYPES[kind]
    return float(np.mean([decided(judged(metric, law(rng, (rows, arms, seeds)))) for _ in range(studies)]))


def equivalence(kind: str, studies: int, seed: int = 0, seeds: int = 12) -> float:
    """Share of studies that call a difference of exactly the margin none."""
    rng, (metric, law) = np.random.default_rng(seed), TYPES[kind]
    margin = {"normal": 4.0, "skewed": 8.0, "perplexity": 60.0, "bimodal": 30.0, "rate": 30.0}[kind]
    hits = 0
    for _ in range(studies):
        values = law(rng, (1, 2, seeds))
        if kind == "bimodal":
            values[0] = np.stack([bimodal(0.0)(rng, (seeds,)), bimodal(margin / 85.0)(rng, (seeds,))])
        elif kind == "rate":
            values[0] = np.stack([solved(0.0)(rng, (seeds,)), solved(margin / 100.0)(rng, (seeds,))])
        else:
            values[0, 1] += margin
        hits += judged(replace(metric, margin=margin), values).effects[0].verdict.within
    return hits / studies


def coverage(kind: str, studies: int, seed: int = 0, seeds: int = 8) -> float:
    """Share of intervals that hold the true difference, which is 0."""
    rng, law = np.random.default_rng(seed), TYPES[kind][1]
    pairs = law(rng, (studies, 2, seeds))
    return float(np.mean([0.0 in sign_flip_interval(b - a, seed=0) for a, b in pairs]))


def stuck(studies: int, seeds: int, share: float = 0.1, seed: int = 0) -> float:
    """Share of studies that see no difference though the treatment solves what the baseline never does."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(studies):
        values = np.stack([bimodal(0.0)(rng, (seeds,)), bimodal(share)(rng, (seeds,))])[None]
        hits += decided(judged(SOLVES, values), "no difference")
    return hits / studies


@dataclass(frozen=True)
class Table4:
    """Power over three rows of success rates, as in Table 4 of the paper."""

    runs: int = 100
    without: tuple[float, ...] = (0.01, 0.0, 0.03)
    treated: tuple[float, ...] = (0.05, 0.22, 0.07)

    def power(self, studies: int, seed: int = 0) -> tuple[float, float]:
        """Share of studies that find noise to help in any row, and in all rows."""
        rng = np.random.default_rng(seed)
        claims = [Claim(str(r), str(r), "", "", "noise", "helps") for r in range(3)]
        found = []
        for _ in range(studies):
            values = np.stack(
                [[solved(p)(rng, (self.runs,)) for p in pair] for pair in zip(self.without, self.treated, strict=True)]
            )
            outcomes = [e.verdict.outcome == "helps" for e in judged(RATE, values, claims).effects]
            found.append((any(outcomes), all(outcomes)))
        some, every = np.mean(found, axis=0)
        return float(some), float(every)


def main(studies: int) -> None:
    """Print the tables of the documentation."""
    print(f"any claim between equal arms, 8 seeds, {studies} studies: 1 row, 8 rows, 8 rows and 4 arms")
    for kind in TYPES:
        shares = [
            familywise(kind, studies),
            familywise(kind, studies, rows=8),
            familywise(kind, studies // 2, rows=8, arms=4),
        ]
        print(f"  {kind:12}", *(f"{100 * x:5.1f}%" for x in shares), flush=True)
    print("interval of the difference holds the truth: n = 6, 8, 10, 20")
    for kind in TYPES:
        print(f"  {kind:12}", *(f"{100 * coverage(kind, 4000, seeds=n):5.1f}%" for n in (6, 8, 10, 20)), flush=True)
    print("a difference of the margin is called none: n = 8, 12, 20")
    for kind in TYPES:
        print(f"  {kind:12}", *(f"{100 * equivalence(kind, studies, seeds=n):5.1f}%" for n in (8, 12, 20)), flush=True)
    print("treatment solves 1 in 10, called no difference: n = 6, 12, 30")
    print("  ", *(f"{100 * stuck(studies // 2, n):5.1f}%" for n in (6, 12, 30)), flush=True)
    print("power of Table 4 (any row, all rows)", Table4().power(studies // 10), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
