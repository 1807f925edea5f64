"""A study's folder that somebody made up or changed on purpose: one sentence each, and nothing is trained or run."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from support.small import small

from gradnoise.study import Options, Store, StudyError, run_study
from gradnoise.study.run.spool.folder import Spool
from gradnoise.study.status import status_of
from gradnoise.study.store import FILE

OPTIONS = Options(workers=1, chunk=4, slice_seconds=0.0)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    run_study(small(), folder, options=OPTIONS)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "study")


def change(folder, sql: str) -> None:
    with closing(sqlite3.connect(folder / FILE)) as db:
        db.executescript(sql)


def refused(error: pytest.ExceptionInfo[StudyError], message: str) -> None:
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600


VALUES = {
    "the values of another trial": (
        "UPDATE trials SET config = (SELECT config FROM trials WHERE position = 1) WHERE position = 0",
        "holds the values of another",
    ),
    "the seed of another trial": ("UPDATE trials SET seed = 7 WHERE position = 0", "holds the values of another"),
    "another learning rate": (
        "UPDATE trials SET config = replace(config, '0.05', '0.5')",
        "holds the values of another",
    ),
    "an id that is made up": ("UPDATE trials SET id = 'ffffffffffffffff' WHERE position = 0", "trial"),
    "an id that leads out": ("UPDATE trials SET id = '../../decoy' WHERE position = 0", "is no id"),
    "a number": ("UPDATE trials SET config = '7'", "no JSON of that kind"),
    "a list": ("UPDATE trials SET config = '[]'", "no JSON of that kind"),
    "no steps": ("UPDATE trials SET config = '{}'", "None is no whole number"),
    "steps of 0": ("UPDATE trials SET config = json_set(config, '$.steps', 0)", "a trial has steps = 0"),
    "steps as text": ("UPDATE trials SET config = json_set(config, '$.steps', '12')", "'12' is no whole number"),
    "evaluated never": ("UPDATE trials SET config = json_set(config, '$.eval_every', -1)", "is below 0"),
    "bytes": ("UPDATE trials SET config = CAST(config AS BLOB)", "is no text"),
    "a class that is ours and no configuration": (
        """UPDATE trials SET config = json_set(config, '$.noise', json('{"": "gradnoise.study.store:Store"}'))""",
        "neither this package nor the experiment",
    ),
    "a class of the standard library": (
        """UPDATE trials SET config = json_set(config, '$.noise', json('{"": "antigravity:x", "args": ["id"]}'))""",
        "neither this package nor the experiment",
    ),
    "a schedule with fields that it has not": (
        """UPDATE trials SET config = json_set(config, '$.noise', json('{"": "gradnoise.schedule:Fixed", "x": 1}'))""",
        "cannot be made again",
    ),
}


@pytest.mark.parametrize("what", VALUES)
def test_values_of_trials_that_nobody_asked_for(folder, what):
    sql, message = VALUES[what]
    change(folder, sql)
    with pytest.raises(StudyError) as error:
        run_study(small(seeds=(0, 1, 2)), folder, options=OPTIONS)
    refused(error, message)


TABLES = {
    "a column renamed": "ALTER TABLE trials RENAME COLUMN final TO finale",
    "a column more": "ALTER TABLE metrics ADD COLUMN note TEXT",
    "a column that is computed": "ALTER TABLE trials ADD COLUMN x AS (length(zeroblob(900000000)))",
    "a check that does not end": "ALTER TABLE chunks ADD COLUMN y INTEGER CHECK (length(zeroblob(900000000)) > 0)",
    "a table of other columns": "DROP TABLE chunks; CREATE TABLE chunks (id TEXT, trials TEXT)",
    "a table that is virtual": "DROP TABLE looks; CREATE VIRTUAL TABLE looks USING fts5(time, asked, seeds)",
}


@pytest.mark.parametrize("what", TABLES)
def test_tables_of_another_make(folder, what):
    try:
        change(folder, TABLES[what])
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite cannot make it: {error}")
    for readonly in (True, False):
        with pytest.raises(StudyError, match="the store is damaged") as error:
            Store(folder, readonly=readonly)
        refused(error, "gradnoise repair")


def test_a_chunk_whose_id_leads_out_removes_nothing(folder, tmp_path):
    decoy = tmp_path / "decoy"
    decoy.mkdir()
    (decoy / "precious").write_text("keep me")
    for id in ("../../decoy", str(decoy), "..", "", "0123456789ab/../../../decoy"):
        change(folder, f"UPDATE chunks SET id = '{id}' WHERE rowid = 1")
        with pytest.raises(StudyError) as error:
            run_study(small(seeds=(0, 1, 2)), folder, options=OPTIONS)
        refused(error, "is no id of a trial or chunk")
        assert (decoy / "precious").read_text() == "keep me"


SAID = {
    "no JSON": b"{",
    "bytes that are no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "a number": b"7",
    "nothing": b"",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("who", ["driver", "workers/one"])
def test_what_drivers_and_workers_say_of_themselves(folder, who, what):
    spool = Spool(folder)
    spool.make()
    (spool.root / who).write_bytes(SAID[what])
    with pytest.raises(StudyError) as error:
        status_of(folder)
    refused(error, "is damaged")


def test_a_worker_that_says_little_is_shown_as_far_as_it_does(folder):
    spool = Spool(folder)
    spool.make()
    (spool.root / "workers" / "one").write_text(json.dumps({"host": "alpha"}))
    assert ("worker", "one: waits, 0 slices") in status_of(folder).lines
