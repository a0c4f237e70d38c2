"""The tables of a study file, and how a candidate becomes a row and a row a candidate."""

from __future__ import annotations

import json
import math
import sqlite3
from typing import Any

from evolution.candidate import Candidate, Mutation
from evolution.errors import StudyError
from graphir import Backbone

APPLICATION_ID = 0x6F706E61
"""Marks an SQLite file as a study ("opna")."""
VERSION = 1
MAX_VALUE_BYTES = 1_000_000
"""Largest text that is read from one field of a study."""

TABLES = (
    """CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
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
    """CREATE TABLE draws (
        candidate INTEGER NOT NULL REFERENCES candidates,
        operation TEXT NOT NULL
    ) STRICT""",
)

COLUMNS = (
    "number",
    "name",
    "backbone",
    "canonical_hash",
    "fingerprint",
    "seed",
    "parent",
    "mutation",
    "status",
    "score",
    "metrics",
    "seconds",
    "reason",
)
INSERT_CANDIDATE = f"INSERT INTO candidates ({', '.join(COLUMNS)}) VALUES ({', '.join('?' for _ in COLUMNS)})"
SELECT_DRAWS = "SELECT operation, count(*) FROM draws GROUP BY operation ORDER BY operation"
SELECT_CANDIDATES = f"SELECT {', '.join(COLUMNS)} FROM candidates ORDER BY number"
SELECT_CANDIDATE = f"SELECT {', '.join(COLUMNS)} FROM candidates WHERE number = ?"


def create_tables(connection: sqlite3.Connection) -> None:
    """Make an empty study of a new, empty database."""
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def check_tables(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a database that is not a study of this version, or holds more than one: triggers, views.

    Raises:
        StudyError: saying what was found.
        sqlite3.DatabaseError: where it is no database.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise StudyError(f"{name} is an SQLite file but not a study: give the study.db of a run")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise StudyError(f"{name} is a study of version {version}: this program reads version {VERSION}")
    statements = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    if statements != set(TABLES):
        raise StudyError(f"{name} has other tables than a study: it was changed by another program")


def to_json(value: Any) -> str:
    """JSON in which equal values are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def to_row(candidate: Candidate) -> tuple[Any, ...]:
    """The values of `COLUMNS`. A metric that is not finite is stored as null."""
    metrics = {name: float(x) if math.isfinite(x) else None for name, x in candidate.metrics.items()}
    return (
        candidate.index,
        candidate.backbone.name,
        to_json(candidate.backbone.to_dict()),
        candidate.canonical_hash,
        candidate.fingerprint,
        candidate.seed,
        candidate.parent,
        None if candidate.mutation is None else to_json(candidate.mutation.to_dict()),
        candidate.status,
        candidate.score,
        to_json(metrics),
        candidate.seconds,
        candidate.reason,
    )


def from_row(row: tuple[Any, ...]) -> Candidate:
    """Read and check a row; the backbone is validated again.

    Raises:
        StudyError: naming the candidate at fault.
    """
    entry = dict(zip(COLUMNS, row, strict=True))
    index = entry["number"]
    try:
        metrics = json.loads(entry["metrics"])
        if not isinstance(metrics, dict):
            raise ValueError("metrics are not an object")
        parent, score = entry["parent"], entry["score"]
        if parent is not None and not 0 <= parent < index:
            raise ValueError(f"the parent {parent} does not come before it")
        if (entry["status"] == "ok") != (score is not None and math.isfinite(score)):
            raise ValueError(f"status {entry['status']!r} with score {score}")
        return Candidate(
            index=index,
            backbone=Backbone.from_dict(json.loads(entry["backbone"])),
            canonical_hash=entry["canonical_hash"],
            fingerprint=entry["fingerprint"],
            seed=entry["seed"],
            parent=parent,
            mutation=None if entry["mutation"] is None else Mutation.from_dict(json.loads(entry["mutation"])),
            status=entry["status"],
            score=score,
            metrics={str(name): math.nan if x is None else float(x) for name, x in metrics.items()},
            seconds=entry["seconds"],
            reason=entry["reason"],
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise StudyError(f"candidate {index} of the study cannot be read: {error}") from error
