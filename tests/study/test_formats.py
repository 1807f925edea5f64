"""A study in the forms of other programs, each read by that program's own reader."""

import json
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from support.small import Toy, assert_same, small

from gradnoise.cli import main
from gradnoise.study import Observer, Options, StudyError, read_folder, read_results, run_study
from gradnoise.study.console import conclude
from gradnoise.study.report.export import study_json
from gradnoise.study.report.formats import export
from gradnoise.study.status import status_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study with a run that diverged."""
    made = tmp_path_factory.mktemp("study")
    run_study(small(Toy(poison={1: 7})), made, options=Options(workers=1, chunk=4, slice_seconds=0.0))
    return made


@pytest.fixture(scope="module")
def results(folder):
    return run_study(small(Toy(poison={1: 7})), folder)


def points(results):
    """{(trial, metric): [(step, value)]}, with nan as None."""
    return {
        (t.id, metric): [(s, v if np.isfinite(v) else None) for s, v in zip(c.steps, c.values, strict=True)]
        for t in results.trials
        for metric, c in t.curves.items()
    }


def test_csv(results, folder, tmp_path):
    main(["export", str(folder), "--to", "csv", "--out", str(tmp_path / "out")])
    again = read_results(tmp_path / "out", curves=True)
    assert points(again) == points(results) and [t.id for t in again.trials] == [t.id for t in results.trials]
    assert_same(run_study(small(Toy(poison={1: 7})), folder), results)  # nothing of the study changed


def test_parquet(results, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    export(results, "parquet", tmp_path)
    trials = parquet.read_table(tmp_path / "trials.parquet")
    assert trials.schema.metadata[b"gradnoise.study"] == study_json(results)
    rows = trials.to_pylist()
    assert [row["id"] for row in rows] == [t.id for t in results.trials]
    assert {row["diverged_at"] for row in rows} == {None, 7}
    for row, trial in zip(rows, results.trials, strict=True):
        assert row["final.error"] == trial.final["error"] and row["config.lr"] == trial.config["lr"]
        assert row["config.noise.eta"] == (0.01 if trial.arm == "noise" else None)
    found = {}
    for row in parquet.read_table(tmp_path / "curves.parquet").to_pylist():
        value = row["value"] if row["value"] is not None and np.isfinite(row["value"]) else None
        found.setdefault((row["id"], row["metric"]), []).append((row["step"], value))
    assert found == points(results)


@pytest.mark.filterwarnings("ignore")
def test_tensorboard(results, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    export(results, "tensorboard", tmp_path)
    for trial in results.trials:
        (place,) = tmp_path.glob(f"{trial.row}/{trial.arm}/seed{trial.seed}-{trial.id}")
        events = reader.EventAccumulator(str(place)).Reload()
        assert set(events.Tags()["scalars"]) == set(trial.curves)
        for metric, curve in trial.curves.items():
            read = events.Scalars(metric)
            assert [e.step for e in read] == curve.steps.tolist()
            np.testing.assert_array_equal([e.value for e in read], curve.values.astype(np.float32))


@pytest.mark.filterwarnings("ignore")
def test_mlflow(results, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    export(results, "mlflow", tmp_path)
    client = mlflow.MlflowClient(tracking_uri=tmp_path.as_uri())
    experiment = client.get_experiment_by_name("small")
    runs = {run.data.tags["trial"]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {t.id for t in results.trials}
    for trial in results.trials:
        run = runs[trial.id]
        assert run.data.metrics["final.error"] == trial.final["error"] and run.data.tags["arm"] == trial.arm
        assert json.loads(run.data.params["lr"]) == trial.config["lr"]
        history = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "error")]
        assert sorted(history) == [(s, v) for s, v in points(results)[trial.id, "error"] if v is not None]


def test_wandb_offline(results, tmp_path, monkeypatch):
    """Each run is a file of records of Weights & Biases' own kind, in blocks as LevelDB's log has them."""
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    export(results, "wandb-offline", tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists()
    found = {}
    for path in (tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb"):
        records = []
        for content in log_records(path.read_bytes()):
            records.append(wandb_internal_pb2.Record())
            records[-1].ParseFromString(content)
        found[next(r.run.run_id for r in records if r.WhichOneof("record_type") == "run")] = records
    for trial in results.trials:
        records = found.pop(trial.id)
        (run,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
        config = {i.key: json.loads(i.value_json) for i in run.config.update}
        assert (run.run_group, run.job_type, config["seed"]) == (trial.row, trial.arm, trial.seed)
        assert config["lr"] == trial.config["lr"]
        history = {}
        for items in ({".".join(i.nested_key) or i.key: i.value_json for i in r.history.item} for r in records):
            history |= {(name, int(items["_step"])): json.loads(x) for name, x in items.items() if name == "error"}
        known = {("error", s): v for s, v in points(results)[trial.id, "error"] if v is not None}
        assert history == known and known
    assert not found


def log_records(data: bytes):
    """Yield the records of a log of LevelDB's: blocks of 32 KiB, each piece with a checksum, its length and kind."""
    place, record = 7, b""  # what marks the file
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def test_what_cannot_be_written_is_refused(results, tmp_path):
    with pytest.raises(StudyError, match=r"no form 'parket': there are csv, .*; did you mean 'parquet'"):
        export(results, "parket", tmp_path)
    (tmp_path / "mine").touch()
    with pytest.raises(StudyError, match="is not empty; choose another folder"):
        export(results, "csv", tmp_path)


def test_where_a_study_stands(folder, results):
    status = status_of(folder)
    assert status.done == status.trials == 8 and status.counts == {"finished": 4, "diverged": 4}
    assert status.updates == status.all_updates == 8 * 12 and status.seconds_left(2) == 0
    assert status.driver == "" and status.workers == {} and status.lost == 0
    told = StringIO()
    with redirect_stdout(told):
        main(["status", str(folder)])
    assert "8 of 8 ended (4 diverged, 4 finished)" in told.getvalue() and "96 of 96 (100%)" in told.getvalue()


class Interrupting(Observer):
    """Ctrl-C after the first commit."""

    def progressed(self, progress):
        if progress.result:
            raise KeyboardInterrupt


def test_the_page_of_an_unfinished_study_says_where_it_stands(folder, results, tmp_path):
    console = Console(file=StringIO())
    conclude(results, tmp_path / "finished", console, study=folder)
    assert "Where the study stands" not in (tmp_path / "finished" / "report.html").read_text()
    with pytest.raises(KeyboardInterrupt):
        run_study(small(), tmp_path / "study", options=Options(chunk=4, slice_seconds=0.0), observer=Interrupting())
    conclude(read_folder(tmp_path / "study"), tmp_path / "out", console, study=tmp_path / "study")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Where the study stands" in page and "0 of 8 ended (4 pending, 4 running)" in page
    assert "12 of 96 (12%)" in page and "hours of one worker, at the speed so far" in page
