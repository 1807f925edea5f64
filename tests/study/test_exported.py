"""A study read back from its tables is the study that wrote them."""

import dataclasses
import json

import pytest
from support.report_fakes import helpful, paired, study, trial

from gradnoise.noise import Annealed
from gradnoise.study import Arm, StudyError, read_results
from gradnoise.study.analysis import summarise
from gradnoise.study.report import write_report
from gradnoise.study.report.export import curves_csv_gz, study_json, summary_csv, trials_csv
from gradnoise.study.results import Look

IDS = [f"{number:016x}" for number in range(1000)]


def named(results):
    """The results with ids as a store has them."""
    trials = tuple(dataclasses.replace(t, id=id) for t, id in zip(results.trials, IDS, strict=False))
    return dataclasses.replace(results, trials=trials)


def written(results, folder):
    folder.mkdir(exist_ok=True)
    for name, make in (("study.json", study_json), ("trials.csv", trials_csv), ("curves.csv.gz", curves_csv_gz)):
        (folder / name).write_bytes(make(results))
    return folder


def test_the_same_tables_and_conclusions_come_out_of_it(tmp_path):
    results = named(helpful())
    write_report(results, tmp_path)
    short, whole = read_results(tmp_path), read_results(tmp_path, curves=True)
    assert short.record == whole.record and short.record.claims == results.record.claims
    for make in (trials_csv, curves_csv_gz, study_json):
        assert make(whole) == make(results)
    assert trials_csv(short) == trials_csv(results)
    first = summarise(results)
    assert summary_csv(summarise(short)) == summary_csv(summarise(whole)) == summary_csv(first)
    assert [f.status for f in summarise(short).findings] == [f.status for f in first.findings]


def test_looks_come_back_so_that_verdicts_stay_as_careful(tmp_path):
    trials = paired(lambda arm, seed: 50.0 + (arm == "noise") * (4.0 + seed % 3 / 9), 8)
    results = named(study(trials, seeds=tuple(range(8))))
    looks = (Look("then", 6, tuple(range(6))), Look("now", 8, tuple(range(8))))
    peeked = dataclasses.replace(results, looks=looks)
    back = read_results(written(peeked, tmp_path))
    assert [(x.asked, x.seeds) for x in back.looks] == [(6, tuple(range(6)))]
    first, again, fixed = (summarise(x).effects[0] for x in (peeked, back, results))
    assert again.p_adjusted == first.p_adjusted > fixed.p_adjusted
    assert again.evidence.method == first.evidence.method == "e-process and Holm"
    assert study_json(dataclasses.replace(results, looks=looks[1:])) == study_json(results)


@pytest.mark.parametrize("looks", [3, [3], [{"asked": "six", "seeds": [0]}], [{"seeds": [0]}]])
def test_damaged_looks_are_one_sentence(tmp_path, looks):
    folder = written(named(helpful()), tmp_path)
    plain = json.loads((folder / "study.json").read_bytes())
    (folder / "study.json").write_text(json.dumps({**plain, "looks": looks}))
    with pytest.raises(StudyError, match=r"study.json is damaged"):
        read_results(folder)


def test_runs_that_do_not_count_still_do_not(tmp_path):
    trials = [
        trial("none", 0, 50.0),
        trial("none", 1, None, status="pending"),
        trial("noise", 0, 20.0, status="diverged"),
        dataclasses.replace(trial("noise", 1, 90.0), waiting=True),
    ]
    back = read_results(written(named(study(trials)), tmp_path))
    assert [(t.status, t.done, t.waiting) for t in back.trials] == [
        ("finished", True, False),
        ("pending", False, False),
        ("diverged", True, False),
        ("finished", False, True),
    ]
    assert [t.diverged_at for t in back.trials] == [None, None, 25, None]


def test_nested_values_of_a_configuration(tmp_path):
    config = {"lr": 0.1, "clip": None, "early": False, "task": "joint", "noise": {"": "x:Annealed", "eta": 0.01}}
    other = {**config, "clip": 5.0, "stop": None}
    results = study([dataclasses.replace(trial("none", i, 50.0), config=c) for i, c in enumerate((config, other))])
    first, second = read_results(written(named(results), tmp_path)).trials
    assert second.config == other
    assert first.config == {name: value for name, value in config.items() if name != "clip"} | {"stop": None}


def test_schedules_of_arms_are_plain_values(tmp_path):
    arms = (Arm("none"), Arm("noise", {"noise": Annealed(0.3)}))
    record = read_results(written(named(study([trial("none", 0, 1.0)], arms=arms)), tmp_path)).record
    assert record.arms[1].values["noise"] == {"": "gradnoise.schedule:Annealed", "eta": 0.3, "gamma": 0.55}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("study.json", None, "has no study.json; write its tables again"),
        ("study.json", "{", "study.json is damaged"),
        ("study.json", json.dumps({"name": 7}), "is no StudyRecord"),
        ("trials.csv", None, "trials.csv is not there"),
        ("trials.csv", "id,row\n1,2\n", "trials.csv has no column"),
        ("trials.csv", "", "trials.csv is empty"),
        ("trials.csv", "rubbish", "trials.csv has no column 'id'"),
        ("trials.csv", "\n", ""),
    ],
)
def test_tables_that_are_damaged(tmp_path, name, content, message):
    folder = written(named(study([trial("none", 0, 50.0)])), tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    if not message:
        assert read_results(folder).trials == ()
        return
    with pytest.raises(StudyError, match=message):
        read_results(folder)


def test_a_line_that_is_damaged_is_named(tmp_path):
    folder = written(named(study([trial("none", 0, 50.0), trial("noise", 0, 60.0)])), tmp_path)
    lines = (folder / "trials.csv").read_text().splitlines()
    (folder / "trials.csv").write_text("\n".join([*lines[:2], lines[2].replace("finished,30", "finished,soon")]))
    with pytest.raises(StudyError, match=r"trials.csv, line 3: invalid literal .*'soon'"):
        read_results(folder)
