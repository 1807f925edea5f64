"""A small study made up for the tests of summary, tables, export and report."""

from collections.abc import Callable, Sequence

import numpy as np

from gradnoise.study.results import Curve, StudyRecord, StudyResults, TrialResult
from gradnoise.study.spec import Arm, Claim, Metric

METRIC = Metric("accuracy", "test accuracy", "%", chance=10.0, margin=1.0, success=80.0)
ARMS = (Arm("none", title="no noise"), Arm("noise", {"noise": {"": "Annealed", "eta": 0.01}}))
STEPS = np.array([10, 20, 30])


def record(
    rows: Sequence[str] = ("a",),
    claims: Sequence[Claim] = (),
    metric: Metric = METRIC,
    arms: Sequence[Arm] = ARMS,
    **changes: object,
) -> StudyRecord:
    values: dict[str, object] = {
        "name": "fake",
        "title": "A fake study",
        "scale": "smoke",
        "experiment": "fake",
        "data_title": "made-up numbers",
        "stand_in": False,
        "rows": tuple((row, f"Row {row}") for row in rows),
        "arms": tuple(arms),
        "metric": metric,
        "claims": tuple(claims),
        "deviations": ("Numbers are made up.",),
        "protocol": (("network", "none"),),
        "steps": 30,
        "seeds": (0, 1),
        "study_seed": 3,
        "provenance": (("command", "gradnoise run fake"), ("torch", "2.13.0")),
    }
    return StudyRecord(**{**values, **changes})  # type: ignore[arg-type]


def trial(
    arm: str,
    seed: int,
    value: float | None,
    *,
    row: str = "a",
    setting: str = "lr=0.1",
    status: str = "finished",
    curve: Sequence[float] | None = None,
    metric: str = "accuracy",
) -> TrialResult:
    """A trial that ends at `value`; None leaves it without a score."""
    done = status in ("finished", "diverged")
    curves = {}
    if done and value is not None:
        values = np.array(curve if curve is not None else [10.0, (10.0 + value) / 2, value])
        steps = STEPS[: len(values)]
        gradient, noise = Curve(steps, 1.0 / steps), Curve(steps, np.where(arm == "none", 0.0, 2.0 / steps))
        curves = {metric: Curve(steps, values), "gradient_norm": gradient, "noise_norm": noise}
    return TrialResult(
        id=f"{row}-{setting}-{arm}-{seed}",
        row=row,
        setting=setting,
        arm=arm,
        seed=seed,
        config={"lr": float(setting.partition("=")[2] or 0.1), "depth": 20, "clip": None},
        status=status,
        step=30 if done else 0,
        diverged_at=25 if status == "diverged" else None,
        final={metric: value} if done and value is not None else {},
        curves=curves,
    )


def paired(
    values: Callable[[str, int], float], seeds: int = 8, *, row: str = "a", setting: str = "lr=0.1"
) -> list[TrialResult]:
    """Both arms for some seeds: values(arm, seed) is where a run ends."""
    return [
        trial(arm, seed, values(arm, seed), row=row, setting=setting)
        for seed in range(seeds)
        for arm in ("none", "noise")
    ]


def study(trials: Sequence[TrialResult], **changes: object) -> StudyResults:
    return StudyResults(record(**changes), tuple(trials))  # type: ignore[arg-type]


def helpful(seeds: int = 8) -> StudyResults:
    """Rows where noise helps (a, at two learning rates), changes nothing (b) and is undecided (c)."""
    rng = np.random.Generator(np.random.PCG64(1))
    jitter = rng.normal(0.0, 0.2, size=(4, 2, seeds)).round(2)

    def at(index: int, none: float, noise: float) -> Callable[[str, int], float]:
        return lambda arm, seed: (noise if arm == "noise" else none) + jitter[index, int(arm == "noise"), seed]

    def swing(arm: str, seed: int) -> float:
        return 50.0 + (seed % 2 - 0.4) * 30.0 * (arm == "noise") + seed

    trials = [
        *paired(at(0, 11.0, 95.0), seeds),
        *paired(at(1, 11.0, 12.0), seeds, setting="lr=0.01"),
        *paired(at(2, 97.0, 97.1), seeds, row="b"),
        *paired(swing, seeds, row="c"),
    ]
    claims = (
        Claim("C1", "a", "Noise helps.", "Paper, Table 1", "noise", "helps",
              {"none": {"best": 90.0, "mean": 45.0}, "noise": {"best": 97.0, "mean": 53.0}}),
        Claim("C2", "b", "Noise changes nothing.", "Paper, Table 1", "noise", "no difference"),
        Claim("C3", "c", "Noise helps here too.", "Paper, Table 1", "noise", "helps"),
        Claim("C4", "z", "Nothing runs here.", "Paper, Table 1", "noise", "helps"),
    )  # fmt: skip
    return study(trials, rows=("a", "b", "c"), claims=claims, seeds=tuple(range(seeds)))
