"""The seal of a study: how many candidates were committed, and a digest of them all.

SQLite keeps a study whole for whoever opens it. It cannot see that a file was copied while a commit was writing
it: such a copy holds some pages of before and some of after. The seal is written with every candidate, so that only
what some commit left agrees with it.

What is checked when:

- whenever a study is opened, that its file is as long as it says itself, that it holds as many candidates and draws as
  the seal says, in table and index, and that the newest candidate is the one that the seal was made with;
- where all candidates are read, every one of them: their digests, each made with that of the one before, end in the
  seal's;
- where some are read, such as the best hundred of 100,000, each of those: its row with the digest of the one before
  makes the digest that stands beside it. What this cannot see is a change of rows that are not read: a better candidate
  whose score another program had made worse would be missing from the best. No copy does that: commits only add rows.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evolution.errors import StudyError
from evolution.rows import COLUMNS, Row
from evolution.schema import to_json

NOT_WHOLE = (
    "it was cut off, copied while a search was writing it, or changed by another program; "
    "copy it again, best when no search is running"
)


@dataclass(frozen=True)
class Seal:
    """What was committed.

    Attributes:
        candidates: their number.
        draws: number of operations that mutation drew for them.
        digest: of all their rows, each digested with the digest of those before it.
    """

    candidates: int = 0
    draws: int = 0
    digest: str = ""

    def after(self, row: Row) -> Seal:
        """The seal with one more candidate."""
        digest = hashlib.blake2b(f"{self.digest} {to_json(list(row))}".encode(), digest_size=16)
        mutation = row[COLUMNS.index("mutation")]
        drawn = mutation is not None and json.loads(mutation)["operation"] is not None
        return Seal(self.candidates + 1, self.draws + drawn, digest.hexdigest())

    def check(self, rows: Sequence[Row], name: str) -> None:
        """Refuse rows that are not those which were committed.

        Raises:
            StudyError: naming the file.
        """
        found = Seal()
        for row in rows:
            found = found.after(row)
        if found != self:
            raise StudyError(f"{name} is not whole: {NOT_WHOLE}")


def check_counts(connection: sqlite3.Connection, version: int, name: str) -> None:
    """Refuse a study with other numbers of candidates or draws than were committed.

    Raises:
        StudyError: with both numbers.
    """
    seal = read_seal(connection)
    if seal is None:
        if version > 1:
            raise StudyError(f"{name} has no seal: {NOT_WHOLE}")
        return
    # SQLite counts in an index where there is one; the last number is looked up in the table.
    for table, counted, committed in (
        ("candidates", "count(*)", seal.candidates),
        ("candidates", "coalesce(max(number), -1) + 1", seal.candidates),
        ("draws", "count(*)", seal.draws),
    ):
        found = connection.execute(f"SELECT {counted} FROM {table}").fetchone()[0]
        if found != committed:
            raise StudyError(f"{name} holds {found} of {committed} {table}: {NOT_WHOLE}")
    if version > 1 and seal.candidates:
        newest = "SELECT digest FROM candidates WHERE number = ?"
        if connection.execute(newest, (seal.candidates - 1,)).fetchone()[0] != seal.digest:
            raise StudyError(f"the newest candidate of {name} is not the one that was committed: {NOT_WHOLE}")


def check_length(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that ends too early: SQLite takes what is missing of its last page for zeros.

    Raises:
        StudyError: with both lengths.
    """
    pages, size = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    found = path.stat().st_size
    if found < pages * size:
        raise StudyError(f"{path.name} has {found:,} of {pages * size:,} bytes: {NOT_WHOLE}")


def check_row(connection: sqlite3.Connection, row: Row, name: str) -> None:
    """Refuse a row of a study of version 2 that is not the one that was committed.

    Raises:
        StudyError: naming the candidate.
    """
    number = row[0]
    found = dict(
        connection.execute(
            "SELECT number, digest FROM candidates WHERE number IN (?, ?)", (number - 1, number)
        )
    )
    before = found.get(number - 1) if number else ""
    if before is None or Seal(digest=before).after(row).digest != found[number]:
        raise StudyError(f"candidate {number} of {name} is not the one that was committed: {NOT_WHOLE}")


def read_seal(connection: sqlite3.Connection) -> Seal | None:
    """The seal; None in a study that was begun without one.

    Raises:
        StudyError: where it is no seal.
    """
    row = connection.execute("SELECT value FROM settings WHERE name = 'seal'").fetchone()
    if row is None:
        return None
    try:
        return Seal(**json.loads(row[0]))
    except (ValueError, TypeError, RecursionError) as error:
        raise StudyError(f"the seal of the study cannot be read: {error}") from error


def write_seal(connection: sqlite3.Connection, seal: Seal | None) -> None:
    """Put the seal in place of the one before."""
    if seal is not None:
        connection.execute("INSERT OR REPLACE INTO settings VALUES ('seal', ?)", (to_json(asdict(seal)),))
