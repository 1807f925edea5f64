"""The tables of a study's store."""

from __future__ import annotations

TABLES = {
    "meta": "(name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "trials": """(
    id TEXT PRIMARY KEY, position INTEGER NOT NULL, row TEXT NOT NULL, setting TEXT NOT NULL, arm TEXT NOT NULL,
    seed INTEGER NOT NULL, config TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'pending',
    step INTEGER NOT NULL DEFAULT 0, diverged_at INTEGER, final TEXT NOT NULL DEFAULT '{}')""",
    "metrics": """(
    trial TEXT NOT NULL REFERENCES trials (id), metric TEXT NOT NULL, step INTEGER NOT NULL, value REAL,
    PRIMARY KEY (trial, metric, step)) WITHOUT ROWID""",
    "chunks": """(
    id TEXT PRIMARY KEY, trials TEXT NOT NULL, step INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0)""",
}
#: Came later: what went wrong without harm, the times at which verdicts were read, and what their readers must know. A
#: file of an older version gets them when it is opened for writing.
LATER = {
    "events": "(time TEXT NOT NULL, chunk TEXT NOT NULL, sentence TEXT NOT NULL)",
    "looks": "(time TEXT NOT NULL, asked INTEGER NOT NULL, seeds TEXT NOT NULL)",
    "notes": "(chunk TEXT NOT NULL, sentence TEXT NOT NULL)",
}
LOOKS = f"CREATE TABLE IF NOT EXISTS looks {LATER['looks']}"


def is_ours(name: str, sql: str) -> bool:
    """Say whether a table was made as a study makes it: nothing in a file decides what is computed when it is read."""
    made = f"CREATE TABLE {name} {(TABLES | LATER)[name]}"
    return "".join(sql.split()) == "".join(made.split())
