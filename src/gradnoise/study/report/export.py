"""A study as files: its description as JSON; as CSV a line per trial, row and arm, published claim, evaluation.

The same results give the same bytes: lines in the order of the results, numbers in the shortest form that
reads back exactly, no time stamps.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gradnoise.study.analysis.scores import best_value, counted_value, final_value, succeeded
from gradnoise.study.analysis.selection import ChosenMetric, chosen_trials
from gradnoise.study.analysis.shapes import Cell, Effect, Summary
from gradnoise.study.analysis.statistics import Interval
from gradnoise.study.canonical import canonical
from gradnoise.study.report.text import claim_lines
from gradnoise.study.results import StudyResults, TrialResult

Record = dict[str, Any]


def study_json(results: StudyResults) -> bytes:
    """Write the description of the study, and when it was looked at: with trials.csv enough to judge it anew.

    See `read_results`.
    """
    plain = json.loads(canonical(results.record))
    every = set(results.record.seeds)
    looks = [{"asked": x.asked, "seeds": x.seeds} for x in results.looks if x.asked != len(every) or every - {*x.seeds}]
    if looks:  # one at all seeds that were asked for is a fixed design and needs no mention
        plain["looks"] = looks
    return json.dumps(plain, indent=1, ensure_ascii=False).encode() + b"\n"


def trials_csv(results: StudyResults) -> bytes:
    """Write one line per trial.

    Columns: id, row, setting, arm, seed, status, step, diverged_at; of the primary metric the `final` value,
    the `best` over evaluations, where another evaluation than the last counts its value `counted`, and `success`
    (1 or 0); `chosen` (1 or 0) where restarts are chosen from;
    `final.*` for every metric; `config.*` for every configuration value, nested ones with dots.
    """
    metric = results.record.metric
    chosen = _chosen(results)
    records = []
    for trial in results.trials:
        known = trial.done and metric.success is not None
        records.append(
            {
                "id": trial.id,
                "row": trial.row,
                "setting": trial.setting,
                "arm": trial.arm,
                "seed": trial.seed,
                "status": trial.status,
                "step": trial.step,
                "diverged_at": trial.diverged_at,
                "final": final_value(trial, metric),
                "best": best_value(trial, metric),
                **({} if metric.by is None else {"counted": counted_value(trial, metric)}),
                "success": int(succeeded(trial, metric)) if known else None,
                **({"chosen": int(trial.id in chosen)} if results.record.selection else {}),
                **{f"final.{name}": float(value) for name, value in trial.final.items()},
                **_flat("config", trial.config),
            }
        )
    return _csv(records, sort=("final.", "config"))


def _chosen(results: StudyResults) -> set[str]:
    """Collect the ids of the trials that stand for their restarts."""
    if results.record.selection is None:
        return set()
    cells: dict[tuple[str, str], list[TrialResult]] = {}
    for trial in results.trials:
        cells.setdefault((trial.row, trial.arm), []).append(trial)
    chosen = (chosen_trials(trials, results.record.selection).values() for trials in cells.values())
    return {trial.id for trials in chosen for trial in trials}


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Flatten nested mappings into dotted columns; the tag of a dataclass (key "") keeps its parent's column."""
    if not isinstance(value, Mapping):
        return {name: json.dumps(value) if isinstance(value, list | tuple) else value}
    columns: dict[str, Any] = {}
    for key in sorted(value):
        columns |= _flat(f"{name}.{key}" if key else name, value[key])
    return columns


def summary_csv(summary: Summary) -> bytes:
    """Write one line per row and arm: our numbers, the published ones, the difference and the verdict."""
    return _csv([_cell(summary, cell) for cell in summary.cells])


def _cell(summary: Summary, cell: Cell) -> Record:
    fates = cell.fates
    published = summary.published(cell.row, cell.arm)
    record = {
        "row": cell.row,
        "title": summary.row_title(cell.row),
        "arm": cell.arm,
        "trials": cell.asked,
        "done": fates.done,
        "stuck": fates.stuck,
        "learning": fates.learning,
        "diverged": fates.diverged,
        "successes": fates.successes,
        **_interval("success_rate", fates.interval),
    }
    second = _second(summary)
    for prefix, reading in (("", cell.final), (second, cell.second)):
        record |= {f"{prefix}best": reading.best, f"{prefix}mean": reading.mean, f"{prefix}sd": reading.sd}
        record |= {f"{prefix}seeds": reading.seeds, **_interval(f"{prefix}mean", reading.interval)}
    record |= {f"published_{name}": published.get(name) for name in ("best", "mean")}
    for chosen in cell.chosen.metrics if cell.chosen else ():
        record |= _chosen_metric(chosen, published, summary.record.metric.name)
    return record | _effect(summary.effect(cell.row, cell.arm), second)


def _second(summary: Summary) -> str:
    """Return what columns of the second reading begin with."""
    return "over_training_" if summary.record.metric.by is None else "last_"


def _chosen_metric(chosen: ChosenMetric, published: Mapping[str, float], primary: str) -> Record:
    name, mean = chosen.metric.name, chosen.over_restarts
    return {
        f"chosen_{name}": chosen.value,
        **_interval(f"chosen_{name}", chosen.interval),
        f"published_{name}": published.get("best" if name == primary else name),
        f"mean_{name}": mean.mean,
        **_interval(f"mean_{name}", mean.interval),
    }


def _effect(effect: Effect | None, prefix: str) -> Record:
    comparison = effect.comparison if effect else None
    second = effect.second if effect else None
    return {
        "pairs": comparison.n if comparison else None,
        "difference": comparison.difference if comparison else None,
        **_interval("difference", comparison.interval if comparison else None),
        "p": comparison.p if comparison else None,
        "p_adjusted": effect.p_adjusted if effect else None,
        "p_within_margin": effect.evidence.p_within if effect else None,
        "adjusted_over": effect.evidence.family if effect else None,
        "verdict": effect.verdict.outcome.value if effect else None,
        "probability_better": effect.verdict.better if effect else None,
        "probability_within_margin": effect.verdict.equivalent if effect else None,
        "detectable": effect.verdict.detectable if effect else None,
        f"{prefix}difference": second.difference if second else None,
        **_interval(f"{prefix}difference", second.interval if second else None),
    }


def claims_csv(summary: Summary) -> bytes:
    """Write one line per published claim: the numbers, from baseline to treatment, and the finding."""
    return _csv(
        [
            {
                "id": line.finding.claim.id,
                "row": line.finding.claim.row,
                "statement": line.finding.claim.statement,
                "source": line.finding.claim.source,
                "treatment": line.finding.claim.treatment,
                "expects": line.finding.claim.expects,
                "published_mean": line.published_mean,
                "our_mean": line.our_mean,
                "published_best": line.published_best,
                "our_best": line.our_best,
                "status": line.finding.status,
                "reason": line.finding.reason,
            }
            for line in claim_lines(summary)
        ]
    )


def _interval(name: str, interval: Interval | None) -> Record:
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def curves_csv_gz(results: StudyResults) -> bytes:
    """Write one line per trial, metric and evaluation: id, step, metric, value; gzip without a time stamp."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "step", "metric", "value"))
    for trial in results.trials:
        for name, curve in sorted(trial.curves.items()):
            steps, values = curve.steps.tolist(), curve.values.tolist()
            writer.writerows((trial.id, s, name, _plain(v)) for s, v in zip(steps, values, strict=True))
    return gzip.compress(text.getvalue().encode(), compresslevel=6, mtime=0)


def _csv(records: Sequence[Record], sort: tuple[str, ...] = ()) -> bytes:
    """Write records as CSV. Columns as they first appear; those that start with a prefix in `sort` last, sorted."""
    names = dict.fromkeys(key for record in records for key in record)
    columns = [name for name in names if not name.startswith(sort)] if sort else list(names)
    for prefix in sort:
        columns += sorted(name for name in names if name.startswith(prefix))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: _plain(value) for key, value in record.items()})
    return text.getvalue().encode()


def _plain(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
