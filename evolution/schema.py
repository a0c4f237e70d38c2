"""The tables of a study file, by version."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from evolution.candidate import STOPPED
from evolution.errors import StudyError

APPLICATION_ID = 0x6F706E61
"""Marks an SQLite file as a study ("opna")."""
VERSION = 2
"""Of the studies that are made. Those of version 1 are read and continued as they are: without an index, backbones as
plain text, no digest beside a candidate."""
MAX_VALUE_BYTES = 1_000_000
"""Largest text that is read from one field of a study."""

_SETTINGS = """CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID"""
_DRAWS = """CREATE TABLE draws (
        candidate INTEGER NOT NULL REFERENCES candidates,
        operation TEXT NOT NULL
    ) STRICT"""

_RANKING = f"instr(metrics, '\"{STOPPED}\":') > 0, score DESC"
BY_RANK = f"{_RANKING}, number"
"""`evolution.candidate.ranking` in SQL. (Functions on JSON are refused in the schema of a file that may be a
stranger's; a quoted name with a colon stands in the text of `to_json` as a name alone.)"""

TABLES = {
    1: (
        _SETTINGS,
        """CREATE TABLE candidates (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        backbone TEXT NOT NULL,
        canonical_hash TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        seed INTEGER NOT NULL,
        parent INTEGER REFERENCES candidates,
        mutation TEXT,
        status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
        score REAL,
        metrics TEXT NOT NULL,
        seconds REAL NOT NULL,
        reason TEXT
    ) STRICT""",
        _DRAWS,
    ),
    2: (
        _SETTINGS,
        """CREATE TABLE candidates (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        backbone BLOB NOT NULL,
        canonical_hash TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        seed INTEGER NOT NULL,
        parent INTEGER REFERENCES candidates,
        mutation TEXT,
        status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
        score REAL,
        metrics TEXT NOT NULL,
        seconds REAL NOT NULL,
        reason TEXT,
        digest TEXT NOT NULL
    ) STRICT""",
        _DRAWS,
        f"CREATE INDEX ranking ON candidates ({_RANKING})",
    ),
}
"""The statements of a study, by its version. In version 2 ``backbone`` is JSON compressed by zlib, ``digest`` what the
seal was after this candidate (`evolution.seal`), and the index holds the ranking: those that were stopped behind those
that finished, the row numbers of equal scores ascending."""

SELECT_DRAWS = "SELECT operation, count(*) FROM draws GROUP BY operation ORDER BY operation"


def create_tables(connection: sqlite3.Connection) -> None:
    """Make an empty study of a new, empty database."""
    for statement in TABLES[VERSION]:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def check_tables(connection: sqlite3.Connection, name: str) -> int:
    """Refuse a database that is not a study of a known version, or holds more than one: triggers, views.

    Returns:
        Its version.

    Raises:
        StudyError: saying what was found.
        sqlite3.DatabaseError: where it is no database.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise StudyError(f"{name} is an SQLite file but not a study: give the study.db of a run")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version not in TABLES:
        known = " and ".join(map(str, TABLES))
        newer = ", so a newer opnas made it" if version > VERSION else ""
        raise StudyError(
            f"{name} is a study of version {version}: this program reads versions {known}{newer}"
        )
    statements = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    if statements != set(TABLES[version]):
        raise StudyError(f"{name} has other tables than a study: it was changed by another program")
    return version


def to_json(value: Any) -> str:
    """JSON in which equal values are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
