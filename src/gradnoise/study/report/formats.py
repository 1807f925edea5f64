"""A study for other programs: tables of Parquet or CSV, runs of TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

import importlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradnoise.errors import StudyError, nearest
from gradnoise.files import replace_atomically
from gradnoise.study.report.export import curves_csv_gz, study_json, trials_csv
from gradnoise.study.results import StudyResults, TrialResult


def export(results: StudyResults, form: str, folder: Path) -> None:
    """Write a study in the form of another program.

    Args:
        results: what to write.
        form: in `FORMS`.
        folder: where to; made when missing.

    Raises:
        StudyError: there is no such form, its library is not installed, or the folder holds something already.
    """
    if form not in FORMS:
        raise StudyError(f"no form {form!r}: there are {', '.join(FORMS)}{nearest(form, FORMS)}")
    library, write = FORMS[form]
    module = _library(library, form)
    if folder.exists() and any(folder.iterdir()):
        raise StudyError(
            f"{folder} is not empty; choose another folder with --out, since forms of runs are only added to"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write(results, folder, module)


def _library(name: str, form: str) -> Any:
    if not name:
        return None
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = "gradnoise[wandb]" if name == "wandb" else "gradnoise[export]"
        raise StudyError(f"--to {form} needs {name} ({error}); install it with pip install '{extra}'") from error


def _csv(results: StudyResults, folder: Path, _: Any) -> None:
    files = {"study.json": study_json, "trials.csv": trials_csv, "curves.csv.gz": curves_csv_gz}
    for name, content in files.items():
        replace_atomically(folder / name, lambda file, content=content: file.write(content(results)))


def _parquet(results: StudyResults, folder: Path, parquet: Any) -> None:
    """Write the columns of trials.csv and of the curves, with their types; the description goes into the metadata."""
    arrow_csv, arrow = importlib.import_module("pyarrow.csv"), importlib.import_module("pyarrow")
    empty = arrow_csv.ConvertOptions(strings_can_be_null=True, column_types={"id": arrow.string()})
    trials = arrow_csv.read_csv(io.BytesIO(trials_csv(results)), convert_options=empty)
    trials = trials.replace_schema_metadata({"gradnoise.study": study_json(results)})
    rows = list(_points(results))
    names = ("id", "metric", "step", "value")
    types = (arrow.string(), arrow.string(), arrow.int64(), arrow.float64())
    curves = arrow.table(
        {
            name: arrow.array([row[i] for row in rows], kind)
            for i, (name, kind) in enumerate(zip(names, types, strict=True))
        }
    )
    for name, table in (("trials", trials), ("curves", curves)):
        replace_atomically(folder / f"{name}.parquet", lambda file, table=table: parquet.write_table(table, file))


def _points(results: StudyResults) -> Iterator[tuple[str, str, int, float]]:
    for trial in results.trials:
        for metric, curve in trial.curves.items():
            for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                yield trial.id, metric, step, value


def _tensorboard(results: StudyResults, folder: Path, module: Any) -> None:
    """Write a run for each trial, named row/arm/seed-id, with a scalar for each metric."""
    summary = importlib.import_module("tensorboard.compat.proto.summary_pb2").Summary
    event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
    for trial in results.trials:
        writer = module.EventFileWriter(
            str(folder / _plain(trial.row) / _plain(trial.arm) / f"seed{trial.seed}-{trial.id}")
        )
        for metric, curve in trial.curves.items():
            for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                point = summary(value=[summary.Value(tag=metric, simple_value=value)])
                writer.add_event(event(step=step, summary=point))
        writer.close()


def _plain(name: str) -> str:
    """Return a name as one of a folder, which leads nowhere else."""
    return quote(name, safe=" ,=()").replace(".", "%2E") if name.startswith(".") else quote(name, safe=" ,=()")


def _mlflow(results: StudyResults, folder: Path, mlflow: Any) -> None:
    """Write an experiment with a run for each trial: its configuration, its final metrics and its curves."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder, as asked for; MLflow's other stores take more
    client = mlflow.MlflowClient(tracking_uri=folder.absolute().as_uri())
    entities = importlib.import_module("mlflow.entities")
    experiment = client.create_experiment(results.record.name)
    for trial in results.trials:
        run = client.create_run(experiment, run_name=f"{trial.row} {trial.arm} seed {trial.seed}").info.run_id
        labels = {
            "row": trial.row,
            "setting": trial.setting,
            "arm": trial.arm,
            "trial": trial.id,
            "status": trial.status,
        }
        values = {"seed": str(trial.seed), **_parameters(trial)}
        metrics = [
            entities.Metric(metric, value, 0, step)
            for id, metric, step, value in _points(StudyResults(results.record, (trial,)))
            if math.isfinite(value)
        ]
        final = [entities.Metric(f"final.{name}", value, 0, trial.step) for name, value in trial.final.items()]
        client.log_batch(
            run,
            metrics=metrics + final,
            params=[entities.Param(name, value) for name, value in values.items()],
            tags=[entities.RunTag(name, value) for name, value in labels.items()],
        )
        client.set_terminated(run, "FINISHED" if trial.done else "RUNNING")


def _wandb_offline(results: StudyResults, folder: Path, wandb: Any) -> None:
    """Write an offline run for each trial, which `wandb sync` sends where you say; nothing is sent from here."""
    still = {"console": "off", "silent": True, "x_disable_stats": True, "x_disable_meta": True, "disable_git": True}
    settings = wandb.Settings(mode="offline", root_dir=str(folder), save_code=False, **still)
    for trial in results.trials:
        run = wandb.init(
            project=re.sub(r"[\\/#?%:]", "-", results.record.name),
            id=trial.id,
            name=f"{trial.row} {trial.arm} seed {trial.seed}",
            group=trial.row,
            job_type=trial.arm,
            config={"row": trial.row, "setting": trial.setting, "arm": trial.arm, "seed": trial.seed, **trial.config},
            settings=settings,
            reinit="create_new",
        )
        points: dict[int, dict[str, float]] = {}
        for _, metric, step, value in _points(StudyResults(results.record, (trial,))):
            if math.isfinite(value):
                points.setdefault(step, {})[metric] = value
        for step, values in sorted(points.items()):
            run.log(values, step=step)
        run.summary.update({"status": trial.status, **{f"final.{name}": value for name, value in trial.final.items()}})
        run.finish(exit_code=0 if trial.done else 1)
    wandb.teardown()  # its other process has written everything only when it has ended


def _parameters(trial: TrialResult) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in trial.config.items()}


Write = Callable[[StudyResults, Path, Any], None]
#: Form -> the library that it takes, and what writes it.
FORMS: Mapping[str, tuple[str, Write]] = {
    "csv": ("", _csv),
    "parquet": ("pyarrow.parquet", _parquet),
    "tensorboard": ("tensorboard.summary.writer.event_file_writer", _tensorboard),
    "mlflow": ("mlflow", _mlflow),
    "wandb-offline": ("wandb", _wandb_offline),
}
