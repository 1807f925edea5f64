"""What a study compared: what each arm changes, what all runs share, what was trained, and by which code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gradnoise.study.analysis.readings import at_evaluation
from gradnoise.study.analysis.shapes import Summary
from gradnoise.study.canonical import TAG_KEY
from gradnoise.study.results import StudyResults
from gradnoise.study.spec import STUDY_KEYS

Facts = tuple[tuple[str, str], ...]

#: What stands first among settings, and lines of the provenance that say what was trained.
_FIRST = ("optimizer", "lr", "batch_size", "clip", "noise", "dropout")
_TRAINED = {
    "model": "model",
    "optimizer": "optimizer",
    "updates in turns": "updates in turns",
    "learning rate": "learning rate",
    "batch size": "batch size",
    "your code": "your code",
    "commit": "commit of gradnoise",
}
#: Settings that several rows or settings of a row have are listed up to so many.
_MOST = 5


def compared(results: StudyResults, summary: Summary) -> Facts:
    """Return (name, value) lines: the baseline, each other arm, what is shared, what varies, data, runs, model, code.

    Args:
        results: a study.
        summary: what `summarise` makes of it.
    """
    record, (baseline, *others) = results.record, results.record.arms
    configs = [trial.config for trial in results.trials if trial.arm == baseline.name]
    shared, varied = _shared_and_varied(configs)
    if "optimizer" in dict(record.provenance):
        shared.pop("optimizer", None)
    lines = [(arm.label, _settings(arm.values) or "the same as the baseline") for arm in others]
    if baseline.values:
        lines.insert(0, (baseline.label, _settings(baseline.values)))
    everywhere = _settings({k: v for k, v in shared.items() if k not in baseline.values})
    lines += [("in every run", everywhere)] if everywhere else []
    lines += (
        [("varied, in all arms alike", "; ".join(f"{k} {_listed(v)}" for k, v in varied.items()))] if varied else []
    )
    seeds = len(record.seeds)
    on = f", on {record.data_title}" if record.data_title else ""
    lines.append(("runs", f"{seeds} seeds, {summary.asked:,} trials of {summary.length}{on}"))
    if record.metric.by is not None:
        lines.append(("what counts", f"{record.metric.title} {at_evaluation(record.metric)}"))
    known = dict(record.provenance)
    if any("batch_size" in config for config in configs):
        known.pop("batch size", None)
    return (*lines, *((words, known[name]) for name, words in _TRAINED.items() if known.get(name)))


def _shared_and_varied(configs: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Split settings into those that all runs of the baseline have alike, and those that differ between them."""
    values: dict[str, dict[str, Any]] = {}
    for config in configs:
        for key, value in config.items():
            if key not in STUDY_KEYS:
                values.setdefault(key, {})[json.dumps(value, sort_keys=True, default=str)] = value
    order = sorted(values, key=lambda key: (_FIRST.index(key) if key in _FIRST else len(_FIRST), key))
    shared = {key: next(iter(values[key].values())) for key in order if len(values[key]) == 1}
    return shared, {key: list(values[key].values()) for key in order if len(values[key]) > 1}


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {plain(v)}" for name, v in values.items() if v is not None)


def _listed(values: list[Any]) -> str:
    shown = [plain(v) for v in values[:_MOST]]
    return ", ".join([*shown, *([f"{len(values) - _MOST} more"] if len(values) > _MOST else [])])


def plain(value: Any) -> str:
    """Write a value of a configuration as one would in Python, without the path of its class.

    Example:
        >>> plain({"": "gradnoise.schedule:Annealed", "eta": 0.01, "gamma": 0.55})
        'Annealed(eta=0.01, gamma=0.55)'
    """
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        if TAG_KEY not in value:  # of each turn
            return ", ".join(f"{k}: {plain(v)}" for k, v in value.items())
        tag = str(value[TAG_KEY])
        inside = ", ".join(f"{k}={plain(v)}" for k, v in value.items() if k != TAG_KEY)
        return f"{tag.rpartition(':')[2].rpartition('.')[2]}({inside})"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(plain, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)
