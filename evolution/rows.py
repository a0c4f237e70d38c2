"""How a candidate becomes a row of a study, and a row a candidate."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from functools import lru_cache
from typing import Any

from evolution.candidate import Candidate, Mutation
from evolution.errors import StudyError
from evolution.schema import MAX_VALUE_BYTES, to_json
from graphir import AttentionGraph, Backbone

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
_BACKBONE = COLUMNS.index("backbone")
_MARKS = ", ".join("?" for _ in COLUMNS)

Row = tuple[Any, ...]
"""The values of `COLUMNS`; the backbone as JSON, however the file keeps it."""


def to_row(candidate: Candidate) -> Row:
    """A candidate as a row. A metric that is not finite is stored as null."""
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
        None if candidate.score is None else _real(candidate.score),
        to_json(metrics),
        _real(candidate.seconds),
        candidate.reason,
    )


def _real(number: float) -> float:
    """As SQLite gives it back: whole numbers as real ones, and zero without a sign."""
    return float(number) + 0.0


def from_row(row: Row) -> Candidate:
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
            backbone=Backbone.from_dict(json.loads(entry["backbone"]), _read_graph),
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


def _read_graph(data: Any) -> AttentionGraph:
    return _known_graph(to_json(data))


# A child shares all graphs but one with its parent: they are read, checked and kept in memory once.
@lru_cache(maxsize=16_384)
def _known_graph(text: str) -> AttentionGraph:
    return AttentionGraph.from_dict(json.loads(text))


def insert_row(connection: sqlite3.Connection, version: int, row: Row, digest: str) -> None:
    """Put a row into a study of ``version``, with the digest of the seal after it."""
    if version == 1:
        connection.execute(f"INSERT INTO candidates ({', '.join(COLUMNS)}) VALUES ({_MARKS})", row)
        return
    packed = zlib.compress(row[_BACKBONE].encode())
    connection.execute(
        f"INSERT INTO candidates ({', '.join(COLUMNS)}, digest) VALUES ({_MARKS}, ?)",
        (*row[:_BACKBONE], packed, *row[_BACKBONE + 1 :], digest),
    )


def select_rows(connection: sqlite3.Connection, rest: str, *values: Any) -> list[Row]:
    """Rows of a study of any version; ``rest`` is what follows ``FROM candidates``.

    Raises:
        StudyError: naming a candidate whose backbone cannot be unpacked.
    """
    found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM candidates {rest}", values)
    return [(*row[:_BACKBONE], _unpacked(row), *row[_BACKBONE + 1 :]) for row in found]


def _unpacked(row: Row) -> str:
    """The JSON of a backbone. A stranger's few bytes never become more than a field may have."""
    packed = row[_BACKBONE]
    if isinstance(packed, str):
        return packed
    try:
        unpack = zlib.decompressobj()
        text = unpack.decompress(packed, MAX_VALUE_BYTES)
        if not unpack.eof or unpack.unused_data:
            raise ValueError(f"its backbone is cut off, or longer than {MAX_VALUE_BYTES:,} bytes")
        return text.decode()
    except (zlib.error, ValueError, TypeError) as error:
        raise StudyError(f"candidate {row[0]} of the study cannot be read: {error}") from error
