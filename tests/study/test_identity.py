"""Ids are for ever: whatever moves in the source, finished trials stay the trials that they are."""

import csv
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from gradnoise import Annealed, Fixed, Relative
from gradnoise.errors import DataError, StudyError
from gradnoise.paper import load_system
from gradnoise.study import Store, Study
from gradnoise.study.canonical import canonical, checked_id, restore

RESULTS = Path(__file__).parents[2] / "results"


def study_of(name: str, scale: str, data: str = "auto", seeds: int | None = None, steps: int | None = None) -> Study:
    system, _, study = name.partition("/")
    return load_system(system).study(scale, data, seeds, steps, study=study or None)


@pytest.mark.parametrize(
    ("name", "data", "first", "last"),
    [
        ("deep-mlp", "digits", "e2e5ef46946f971e", "53727e3881c54e5b"),
        ("memn2n", "generated", "4da7b2584b92cd76", "07ed6b07eba459ac"),
        ("nram", "auto", "5fa89eec2bc7b19b", "b01d200cc454817d"),
    ],
)
def test_the_ids_of_every_system_are_what_they_were(name, data, first, last):
    trials = list(study_of(name, "smoke", data).trials())
    assert (trials[0].id, trials[-1].id) == (first, last)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (Annealed(0.01), '{"":"gradnoise.schedule:Annealed","eta":0.01,"gamma":0.55}'),
        (Annealed(0.01, until=500), '{"":"gradnoise.schedule:Annealed","eta":0.01,"gamma":0.55,"until":500}'),
        (Fixed(0.1), '{"":"gradnoise.schedule:Fixed","sigma":0.1}'),
        (Relative(0.1), '{"":"gradnoise.schedule:Relative","clip":null,"gamma":0.55,"rho":0.1,"to":"gradient"}'),
        (
            Relative(0.3, 1.0, "clip", 2.0, until=0.01),
            '{"":"gradnoise.schedule:Relative","clip":2.0,"gamma":1.0,"rho":0.3,"to":"clip","until":0.01}',
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else repr(x),
)
def test_schedules_are_written_as_ever_and_read_back(schedule, text):
    assert canonical(schedule) == text and restore(text) == schedule


def committed(folder: str) -> dict[str, tuple[str, str, int]]:
    """Id -> row, arm and seed in a committed table."""
    with (RESULTS / folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        return {t["id"]: (t["row"], t["arm"], int(t["seed"])) for t in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("folder", "recipe"),
    [
        ("deep_mlp", ("deep-mlp", "paper", "mnist", 11, 30_000)),
        ("deep_mlp_pixels", ("deep-mlp/pixels", "paper", "mnist", 9, 30_000)),
        ("deep_mlp_eta", ("deep-mlp/eta", "paper", "mnist", 6, 20_000)),
        ("deep_mlp_quick", ("deep-mlp", "quick", "mnist")),
        ("memn2n/tasks", ("memn2n", "paper", "babi")),
        ("memn2n/other_noise", ("memn2n", "paper", "babi", 6)),
        ("memn2n/joint", ("memn2n", "paper", "babi", None, 100)),
        ("neural_gpu/short", ("neural-gpu/short", "paper")),
        ("neural_gpu/diagonal", ("neural-gpu/diagonal", "half", "auto", 80)),
        ("neural_programmer/cell", ("neural-programmer/cell", "half")),
        ("neural_programmer/cell_full", ("neural-programmer/cell", "half", "auto", None, 60)),
        ("neural_programmer/cell_pairs", ("neural-programmer/cell", "half", "auto", None, 60)),
        ("neural_programmer/plateau", ("neural-programmer/plateau", "half", "auto", 14)),
        ("neural_programmer/plateau_again", ("neural-programmer/plateau", "again")),
        ("nram/lists", ("nram", "paper")),
        ("nram/ablations", ("nram/ablations", "paper")),
        ("nram/to_the_end", ("nram/ablations", "paper")),
        ("lstm_lm/dropout", ("lstm-lm", "paper", "ptb", 8, 12)),
        ("lstm_lm/readings_quick", ("lstm-lm/readings", "quick", "generated")),
    ],
)
def test_every_committed_trial_is_still_asked_for_by_its_study(folder, recipe):
    try:
        study = study_of(*recipe)
    except DataError as error:
        pytest.skip(f"the data is not here: {error}".splitlines()[0])
    asked = {t.id: (t.row, t.arm, t.seed) for t in study.trials()}
    known = committed(folder)
    assert known and {id: asked.get(id) for id in known} == known


def test_there_are_no_other_committed_results():
    found = {path.parent.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("trials.csv")}
    covered = test_every_committed_trial_is_still_asked_for_by_its_study.pytestmark[0].args[1]
    assert found == {folder for folder, _ in covered}


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("study.sqlite")), ids=lambda p: p.parent.name)
def test_every_id_of_a_committed_store_is_the_hash_of_its_configuration(path):
    with Store(path.parent, readonly=True) as store:
        assert store.trials() and all(id == trial.id for id, trial in store.trials().items())
        experiment = store.record().experiment
    for id, seed, config in sqlite3.connect(f"file:{path}?mode=ro", uri=True).execute(
        "SELECT id, seed, config FROM trials"
    ):
        text = json.dumps({"config": json.loads(config), "experiment": experiment, "seed": seed},
                          sort_keys=True, separators=(",", ":"))  # fmt: skip
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == id
        assert canonical(restore(config)) == config


@pytest.mark.parametrize("id", ["/etc", "../../x", "", "0123456789ab/..", "0123456789AB", "0123456789abc", 7, None])
def test_what_is_no_id_never_becomes_a_path(id):
    with pytest.raises(StudyError, match="no id of a trial or chunk"):
        checked_id(id)
