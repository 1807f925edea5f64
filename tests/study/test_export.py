import dataclasses
import gzip
import io
import math

import pandas as pd
import pytest
from support.report_fakes import ARMS, METRIC, helpful, paired, record, study, trial

from gradnoise.files import replace_atomically
from gradnoise.study.analysis.summary import summarise
from gradnoise.study.report.export import claims_csv, curves_csv_gz, summary_csv, trials_csv
from gradnoise.study.results import StudyResults


def read(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])


class TestTrials:
    def test_one_line_per_trial_whatever_its_state(self):
        trials = [
            trial("none", 0, 85.5),
            trial("noise", 0, 9.8, status="diverged"),
            trial("noise", 1, None, status="diverged"),
            trial("none", 1, None, status="pending"),
        ]
        table = read(trials_csv(study(trials)))
        assert table["id"].tolist() == [t.id for t in trials]
        assert table["status"].tolist() == ["finished", "diverged", "diverged", "pending"]
        assert table["final"].tolist()[:2] == [85.5, 9.8] and table["final"].isna().tolist()[2:] == [
            True,
            True,
        ]
        assert table["best"][0] == 85.5
        assert table["success"].fillna(-1).tolist() == [1, 0, 0, -1]
        assert table["diverged_at"].fillna(-1).tolist() == [-1, 25, 25, -1]
        assert table["config.lr"].tolist() == [0.1] * 4
        assert table["config.clip"].isna().all()
        assert table["final.accuracy"][0] == 85.5

    def test_nested_configuration_becomes_columns_and_lists_json(self):
        config = {"noise": {"": "Annealed", "eta": 0.01}, "dims": [50, 20], "name": 'a "quoted", name'}
        one = dataclasses.replace(trial("noise", 0, 50.0), config=config)
        table = read(trials_csv(study([one])))
        assert table.loc[0, "config.noise"] == "Annealed"
        assert table.loc[0, "config.noise.eta"] == 0.01
        assert table.loc[0, "config.dims"] == "[50, 20]"
        assert table.loc[0, "config.name"] == 'a "quoted", name'

    def test_configuration_comes_last_and_sorted(self):
        columns = list(read(trials_csv(helpful())).columns)
        assert columns[-3:] == ["config.clip", "config.depth", "config.lr"]

    def test_no_trials_give_an_empty_table(self):
        assert trials_csv(study([])) == b"\n"


class TestSummaryTable:
    def test_holds_what_the_summary_holds(self):
        summary = summarise(helpful())
        table = read(summary_csv(summary)).set_index(["row", "arm"])
        effect = summary.effect("a", "noise")
        cell = summary.cell("a", "noise")
        assert effect is not None and cell is not None
        line = table.loc[("a", "noise")]
        assert line["mean"] == cell.final.mean
        assert line["over_training_best"] == cell.second.best
        assert line["difference_low"] == effect.comparison.interval.low
        assert line["p_adjusted"] == effect.p_adjusted
        assert line["verdict"] == "helps"
        assert (line["published_best"], line["published_mean"]) == (97.0, 53.0)
        assert pd.isna(table.loc[("a", "none")]["difference"])
        assert pd.isna(table.loc[("b", "none")]["published_mean"])

    def test_claims(self):
        table = read(claims_csv(summarise(helpful()))).set_index("id")
        assert table["status"].tolist() == ["reproduced", "undecided", "undecided", "not tested"]
        assert table.loc["C1", "published_mean"] == "45.0 → 53.0"
        assert table.loc["C1", "our_mean"].startswith("11.")
        assert pd.isna(table.loc["C4", "our_mean"])


class TestCurves:
    def test_reads_back_exactly(self):
        results = helpful(2)
        table = read(gzip.decompress(curves_csv_gz(results)))
        assert list(table.columns) == ["id", "step", "metric", "value"]
        for one in results.trials:
            for name, curve in one.curves.items():
                mine = table[(table["id"] == one.id) & (table["metric"] == name)]
                assert mine["step"].tolist() == curve.steps.tolist()
                assert mine["value"].tolist() == curve.values.tolist()

    def test_nan_is_empty(self):
        one = trial("none", 0, 20.0, curve=[10.0, math.nan, 20.0])
        lines = gzip.decompress(curves_csv_gz(study([one]))).decode().splitlines()
        assert lines[1:4] == [
            f"{one.id},10,accuracy,10.0",
            f"{one.id},20,accuracy,",
            f"{one.id},30,accuracy,20.0",
        ]


def test_same_results_give_the_same_bytes():
    first, second = helpful(4), helpful(4)
    assert trials_csv(first) == trials_csv(second)
    assert curves_csv_gz(first) == curves_csv_gz(second)
    assert summary_csv(summarise(first)) == summary_csv(summarise(second))


def test_success_is_empty_without_a_success_rule():
    metric = dataclasses.replace(METRIC, success=None)
    results = StudyResults(record(metric=metric, arms=ARMS), tuple(paired(lambda arm, seed: 50.0, 2)))
    assert read(trials_csv(results))["success"].isna().all()
    assert read(summary_csv(summarise(results)))["successes"].isna().all()


class TestAtomicWrites:
    def test_replaces_the_whole_file_and_leaves_nothing_else(self, tmp_path):
        path = tmp_path / "a.csv"
        replace_atomically(path, lambda file: file.write(b"old and long"))
        replace_atomically(path, lambda file: file.write(b"new"))
        assert path.read_bytes() == b"new"
        assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]

    def test_a_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.csv"
        replace_atomically(path, lambda file: file.write(b"old"))

        def broken(*args):
            raise OSError("disk full")

        monkeypatch.setattr("os.fsync", broken)
        with pytest.raises(OSError, match="disk full"):
            replace_atomically(path, lambda file: file.write(b"new"))
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
