"""One table, systems x promises: whoever adds a system adds a line to `IDS` and finds here what it must keep."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import pandas
import pytest
from support.commandline import gradnoise

from gradnoise.paper import SYSTEMS, load_system
from gradnoise.paper.rebuild import build_again, recipe_of, renewed
from gradnoise.paper.recipe import Recipe
from gradnoise.paper.system import Scale, System
from gradnoise.study import Options, Store, Study, StudyError, StudyRecord, StudyResults, run_study

RESULTS = Path(__file__).parents[2] / "results"
#: Data that need no file.
HERE = {
    "deep-mlp": "digits",
    "memn2n": "generated",
    "neural-programmer": "auto",
    "nram": "auto",
    "neural-gpu": "auto",
    "lstm-lm": "generated",
}
#: Rows that are enough for a run from beginning to end; the others take as long and differ in the dropout alone.
FEWER = {"lstm-lm": ["plain"]}
#: Systems whose committed results, if there are any, test no published claim.
NO_RESULTS = {"neural-programmer", "neural-gpu"}
#: System, study, scale, number of trials, and a hash of all their ids in order: for ever what it is.
IDS = [
    ("deep-mlp", "table1", "smoke", 8, "5272dcb34d5cd973"),
    ("deep-mlp", "table1", "quick", 48, "dacbc4962994c14d"),
    ("deep-mlp", "table1", "paper", 600, "c7ff3c5ccc91c98d"),
    ("deep-mlp", "pixels", "smoke", 8, "9811938d5690bcea"),
    ("deep-mlp", "pixels", "paper", 240, "df36753daaa86145"),
    ("deep-mlp", "eta", "smoke", 8, "0d3a1443da99c016"),
    ("deep-mlp", "eta", "paper", 480, "19beb43ed170a1ea"),
    ("memn2n", "table2", "smoke", 8, "ba300dd4694a4d55"),
    ("memn2n", "table2", "quick", 36, "0c2e9b12577e3fdb"),
    ("memn2n", "table2", "paper", 640, "04a23b1ec4faf08a"),
    ("neural-programmer", "section4.3", "smoke", 8, "beccd9dbaa9453f2"),
    ("neural-programmer", "section4.3", "quick", 32, "7d1e4f8370681de7"),
    ("neural-programmer", "section4.3", "paper", 864, "b14820295f1f03c3"),
    ("neural-programmer", "table3", "smoke", 16, "3f126f6ac8c63ba9"),
    ("neural-programmer", "table3", "paper", 1728, "758351d2b946ce5d"),
    ("neural-programmer", "figure2", "smoke", 4, "49f36bde8c972d86"),
    ("neural-programmer", "figure2", "paper", 10, "245d70c72b9c72cc"),
    ("neural-programmer", "ablations", "smoke", 22, "6c40625f21bbaea6"),
    ("neural-programmer", "ablations", "paper", 3240, "1d69ce838aa8a5c0"),
    ("neural-programmer", "cell", "smoke", 16, "20d80f437dfe73b0"),
    ("neural-programmer", "cell", "half", 72, "9bf75d12461fe9b3"),
    ("neural-programmer", "cell", "paper", 72, "c6b282a31c0b112f"),
    ("neural-programmer", "plateau", "smoke", 4, "4ea745d8e77dc036"),
    ("neural-programmer", "plateau", "half", 20, "7fd8de6aad7d749a"),
    ("neural-programmer", "plateau", "again", 32, "ef1b1fde3ab7fd9f"),
    ("neural-programmer", "plateau", "paper", 20, "884effb76d5c0503"),
    ("nram", "table4", "smoke", 8, "d61cfab84398458f"),
    ("nram", "table4", "quick", 64, "f4da406ced824d98"),
    ("nram", "table4", "paper", 1200, "d5e62f3b4407c23e"),
    ("nram", "ablations", "smoke", 36, "4456f6e8c28c5b3f"),
    ("nram", "ablations", "paper", 1220, "f0e5e5a434b1df2c"),
    ("nram", "size-m", "paper", 1200, "0c59f85d5d3f8af7"),
    ("nram", "size-l", "paper", 1200, "d6d229136b25ff4a"),
    ("neural-gpu", "table5", "smoke", 8, "3d5cb642235e463f"),
    ("neural-gpu", "table5", "quick", 48, "8a78dbd7d441b7d8"),
    ("neural-gpu", "table5", "centre", 200, "2986ebced1e2b9e4"),
    ("neural-gpu", "table5", "axes", 260, "9c1093f3931aeef6"),
    ("neural-gpu", "table5", "paper", 14580, "8e547dba3bb74056"),
    ("neural-gpu", "doses", "smoke", 8, "eba61bce60485bf1"),
    ("neural-gpu", "doses", "paper", 240, "4c6057523010cd56"),
    ("neural-gpu", "doses", "relative", 160, "83407ee9ee186434"),
    ("neural-gpu", "short", "smoke", 6, "d94ae5e115d7de74"),
    ("neural-gpu", "short", "paper", 120, "2e53d2ebbd8207ff"),
    ("neural-gpu", "short", "gates", 280, "8d86b70e67f1afa6"),
    ("neural-gpu", "diagonal", "smoke", 12, "87380c72ab33745f"),
    ("neural-gpu", "diagonal", "half", 120, "bebc0d39e133dd17"),
    ("neural-gpu", "diagonal", "centre", 240, "eb8a7947a0462dc4"),
    ("neural-gpu", "diagonal", "paper", 486, "97d07e5b5d6d8bf4"),
    ("lstm-lm", "section4.6", "smoke", 8, "6d1ac4a141f17414"),
    ("lstm-lm", "section4.6", "quick", 64, "350b4d7b442a5c9f"),
    ("lstm-lm", "section4.6", "paper", 120, "904062337f130c3b"),
    ("lstm-lm", "readings", "smoke", 6, "b8a478f579c95033"),
    ("lstm-lm", "readings", "quick", 56, "da1bd83724df09c1"),
    ("lstm-lm", "readings", "paper", 42, "9b36fb69c9e76ab3"),
    ("lstm-lm", "rates", "smoke", 4, "45cf282b6be573ec"),
    ("lstm-lm", "rates", "paper", 24, "84fa8a9de585d8c2"),
    ("lstm-lm", "sizes", "smoke", 12, "9f06595ee375b60d"),
    ("lstm-lm", "sizes", "paper", 36, "c85b20eea343cac6"),
]
SCALES = [pytest.param(*line[:3], id="-".join(line[:3])) for line in IDS]
#: Studies beside the main ones that have a smoke scale.
OTHERS = [line[:2] for line in IDS if line[2] == "smoke" and line[1] != load_system(line[0]).main_study]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder with a cache of its own, without data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADNOISE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")


def built(name: str, study: str, scale: str, **options) -> Study:
    return load_system(name).study(scale, HERE[name], study=study, **options)


def ids(study: Study) -> list[str]:
    return [t.id for t in study.trials()]


def test_the_table_holds_every_scale_of_every_study():
    scales = [(n, study, scale) for n in SYSTEMS for study, s in load_system(n).studies.items() for scale in s]
    assert [line[:3] for line in IDS] == scales and set(HERE) == set(SYSTEMS)


# --- the sign on the door -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_says_what_it_is(name):
    system = load_system(name)
    assert isinstance(system, System) and system.name == name
    assert system.title and system.table.startswith(("Table ", "Section ")) and system.claims and system.studies
    assert system.length_unit and system.seeds_are and "auto" not in system.data
    assert "smoke" in system.studies[system.main_study] and "paper" in system.studies[system.main_study]
    assert all(isinstance(scale, Scale) for scales in system.studies.values() for scale in scales.values())
    assert bool(list(RESULTS.glob(f"{system.results}/**/claims.csv"))) == (name not in NO_RESULTS)


def test_ids_of_claims_and_contrasts_are_unique_in_the_project():
    systems = [load_system(name) for name in SYSTEMS]
    counts = Counter(item.id for system in systems for item in (*system.claims, *system.contrasts))
    assert set(counts.values()) == {1}
    places = Counter((name, c.row, c.treatment) for name in SYSTEMS for c in load_system(name).claims)
    assert set(places.values()) == {1}  # an old store's claim is known by them


@pytest.mark.parametrize("name", SYSTEMS)
def test_committed_tables_have_todays_ids(name):
    system = load_system(name)
    known = {(c.id, c.row, c.treatment) for c in system.claims}
    for path in RESULTS.glob(f"{system.results}/**/claims.csv"):
        table = pandas.read_csv(path, dtype=str)
        assert set(zip(table["id"], table["row"], table["treatment"], strict=True)) <= known


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_command_has_help(name, capsys):
    for command in load_system(name).commands:
        assert gradnoise(name, command, "--help") == 0
        out = capsys.readouterr().out
        assert f"usage: gradnoise {name} {command}" in out and f"gradnoise {name} {command}" in out.split("Example:")[1]
        assert "(default: )" not in out and "None" not in out
    assert gradnoise(name, "--help") == 0
    out = capsys.readouterr().out
    assert all(command in out for command in load_system(name).commands)


# --- studies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", IDS, ids=lambda line: "-".join(line[:3]))
def test_ids_of_trials_are_what_they_were(line):
    *place, count, digest = line
    found = ids(built(*place))
    assert (len(found), hashlib.sha256(" ".join(found).encode()).hexdigest()[:16]) == (count, digest)
    assert len(set(found)) == count


@pytest.mark.parametrize(("name", "study", "scale"), SCALES)
def test_claims_have_their_row_and_arm(name, study, scale):
    made = built(name, study, scale)
    run = {(s.row, arm.name) for s in made.settings for arm in made.arms if s.arms is None or arm.name in s.arms}
    assert all((c.row, c.treatment) in run and (c.row, made.baseline.name) in run for c in made.claims)
    assert {arm for c in made.claims for arm in c.figures} <= {arm.name for arm in made.arms}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_papers_scale_tests_every_claim(name):
    """The main study's claims come first; each of the others is tested by a further study."""
    system = load_system(name)
    main = built(name, system.main_study, "paper")
    studies = [study for study, scales in system.studies.items() if "paper" in scales]
    tested = {c.id for study in studies for c in built(name, study, "paper").claims}
    assert tested == {c.id for c in system.claims} and main.claims == system.claims[: len(main.claims)]


@pytest.mark.parametrize(("name", "study", "scale"), SCALES)
def test_smaller_scales_say_how_they_depart(name, study, scale):
    made = built(name, study, scale)
    assert scale == "paper" or any(scale in line.lower() for line in made.deviations)
    assert made.title and made.protocol and made.name == name


@pytest.mark.parametrize("name", SYSTEMS)
def test_fewer_seeds_and_another_length_are_said(name):
    system = load_system(name)
    scale = system.studies[system.main_study]["paper"]
    made = built(name, system.main_study, "paper", seeds=2, steps=scale.length // 2)
    assert f"{scale.length // 2:,} {system.length_unit} a run instead of {scale.length:,}." in made.deviations
    assert f"2 {system.seeds_are} instead of {scale.seeds}." in made.deviations
    assert {t.seed for t in made.trials()} == {0, 1}


def test_seeds_that_were_looked_at_are_left_out():
    made = built("neural-programmer", "plateau", "half", seeds=4)
    assert {t.seed for t in made.trials()} == {3, 4, 5, 6}


@pytest.mark.parametrize("name", SYSTEMS)
def test_evaluations_as_often_as_asked_are_a_departure_where_they_differ(name):
    """One evaluation at the end of runs of two units, and one after each unit; the latter may be the scale's own."""
    made, once, often = (
        built(name, load_system(name).main_study, "smoke", steps=2, eval_every=n) for n in (None, 2, 1)
    )
    for setting, rare, dense in zip(made.settings, once.settings, often.settings, strict=True):
        length, own = made.lengths(setting)
        assert once.lengths(rare)[0] == often.lengths(dense)[0] == length
        assert once.lengths(rare)[1] == min(2 * often.lengths(dense)[1], length)
        assert often.lengths(dense)[1] <= own <= once.lengths(rare)[1]
    for changed in (once, often):
        said = [line for line in changed.deviations if line.startswith("Evaluations every ")]
        assert bool(said) == (ids(changed) != ids(made)) and len(said) <= 1
    assert ids(once) != ids(often)
    assert ids(build_again(recipe_of(StudyRecord.of(once)), StudyRecord.of(once))) == ids(once)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "smokes"}, "did you mean 'smoke'"),
        ({"study": "tabel"}, "studies are (table|section)"),
        ({"data": "cifar"}, "--data cifar: "),
        ({"seeds": 0}, "--seeds 0: give 1 or more"),
        ({"steps": -1}, "--steps -1: give 1 or more"),
        ({"eval_every": 0}, "--eval-every 0: give 1 or more"),
        ({"steps": 2, "eval_every": 3}, r"--eval-every 3: a run has 2 \w+; give at most that"),
        ({"options": {"any_corpsu": True}}, "has no option 'any_corpsu'"),
        ({"scale": "smoke", "rows": ["nowhere"]}, "no row 'nowhere'"),
        ({"scale": "smoke", "arms": ["nothing"]}, "no arm 'nothing'"),
    ],
)
def test_what_there_is_not_is_refused(name, options, message):
    with pytest.raises(StudyError, match=message):
        load_system(name).study(**{"data": HERE[name]} | options)


# --- recipes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "study", "scale"), SCALES)
def test_a_recipe_builds_the_same_trials(name, study, scale):
    made = built(name, study, scale, seeds=2, steps=2)
    made = built(name, study, scale, seeds=2, steps=2, rows=[made.settings[-1].row])
    record = StudyRecord.of(made)
    recipe = recipe_of(record)
    again = build_again(recipe, record)
    assert ids(again) == ids(made) and StudyRecord.of(again) == record
    assert (recipe.system, recipe.study, recipe.scale, recipe.seeds, recipe.steps) == (name, study, scale, 2, 2)
    assert recipe.data == HERE[name]


@pytest.mark.parametrize(("name", "study", "scale"), SCALES)
def test_an_old_store_is_known_by_its_name_and_scale(name, study, scale):
    made = built(name, study, scale, seeds=1)
    made = built(name, study, scale, seeds=1, rows=[made.settings[-1].row])
    record = dataclasses.replace(StudyRecord.of(made), recipe=None)
    found = recipe_of(record)
    assert (found.system, found.study, found.scale, found.seeds, found.steps) == (name, study, scale, 1, None)
    assert ids(build_again(found, record)) == ids(made)


def test_what_auto_stood_for_is_kept():
    assert load_system("deep-mlp").study("smoke").recipe["data"] in ("mnist", "digits")
    assert load_system("memn2n").study("smoke").recipe["data"] == "generated"


@pytest.mark.parametrize(
    "damage",
    [
        {"system": 7},
        {"seeds": "2"},
        {"rows": "A"},
        {"scale": None},
        {"data": ["x"]},
        {"steps": 1.5},
        {"eval_every": "1"},
        {"options": 1},
    ],
)
def test_a_damaged_recipe_is_refused(damage):
    made = built("nram", "table4", "smoke")
    with pytest.raises(StudyError, match="recipe of its study is damaged"):
        recipe_of(dataclasses.replace(StudyRecord.of(made), recipe={**made.recipe, **damage}))


def test_a_recipe_of_a_system_that_is_not_here():
    record = StudyRecord.of(built("nram", "table4", "smoke"))
    with pytest.raises(StudyError, match=r"no system 'nrom'.*did you mean 'nram'"):
        build_again(Recipe("nrom", "table4", "smoke"), record)


def test_claims_of_an_old_store_are_those_of_today():
    made = built("nram", "table4", "paper")
    old = tuple(dataclasses.replace(c, id=f"C{i}", statement="as it was") for i, c in enumerate(made.claims))
    record = dataclasses.replace(StudyRecord.of(made), claims=old)
    assert renewed(StudyResults(record, ()), load_system("nram")).record.claims == made.claims
    quick = dataclasses.replace(StudyRecord.of(built("deep-mlp", "table1", "quick")), claims=old)
    assert renewed(StudyResults(quick, ()), load_system("deep-mlp")).record.claims == ()  # it tests none today


# --- from the command to the report -----------------------------------------------------------------------


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_smoke_run_ends_in_a_report(name, capsys):
    command = ("run", name, "--scale", "smoke", "--data", HERE[name], "--seeds", "1", "--workers", "1", "--rows")
    rows = FEWER.get(name, [setting.row for setting in built(name, load_system(name).main_study, "smoke").settings])
    assert gradnoise(*command, *dict.fromkeys(rows), "--out", "study") == 0
    assert "undecided" in capsys.readouterr().out.lower()
    trials = pandas.read_csv("study/trials.csv")
    assert trials["id"].tolist() == ids(built(name, load_system(name).main_study, "smoke", seeds=1, rows=rows))
    assert set(trials["status"]) <= {"finished", "diverged"}
    assert load_system(name).table in Path("study/report.html").read_text(encoding="utf-8")

    # the folder alone is enough to go on; there is nothing left to train, so that the same comes out
    before = Path("study/trials.csv").read_bytes()
    assert gradnoise("resume", "study") == 0
    assert Path("study/trials.csv").read_bytes() == before


@pytest.mark.parametrize(("name", "study"), OTHERS)
def test_other_studies_train(name, study, tmp_path):
    """The first row of each, which is enough to see that what the study varies can be trained."""
    made = built(name, study, "smoke", seeds=1)
    made = made.with_rows([made.settings[0].row])
    results = run_study(made, tmp_path, options=Options(workers=1, trace=False))  # recording takes half the time
    assert [t.id for t in results.trials] == ids(made)
    assert {t.status for t in results.trials} == {"finished"}


def test_without_out_the_folder_is_named_after_study_and_scale(tmp_path):
    for asked, folder in (("nram", "nram-smoke"), ("nram/ablations", "nram-ablations-smoke")):
        rows = ("--rows", "A", "--arms", "eta-1.0", "--seeds", "1", "--workers", "1")
        assert gradnoise("run", asked, "--scale", "smoke", *rows) == 0
        with Store(tmp_path / "runs" / folder, readonly=True) as store:
            record = store.record()
        assert recipe_of(record).rows == ("A",) and recipe_of(record).arms == ("eta-1.0",)


def test_a_study_of_ones_own_has_no_system(tmp_path):
    made = dataclasses.replace(built("nram", "table4", "smoke", seeds=1, rows=["A"]), name="mine", recipe=None)
    results = run_study(made, tmp_path / "mine")
    with pytest.raises(StudyError, match="holds no recipe of its study 'mine'"):
        recipe_of(results.record)
