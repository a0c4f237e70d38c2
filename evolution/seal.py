"""The seal of a study: how many candidates were committed, and a digest of them all.

SQLite keeps a study whole for whoever opens it. It cannot see that a file was copied while a commit was writing
it: such a copy holds some pages of before and some of after. The seal is written with every candidate, so that only
what some commit left agrees with it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evolution.errors import StudyError
from evolution.schema import COLUMNS, SELECT_CANDIDATE, to_json

NOT_WHOLE = (
    "it was copied while a search was writing it, or changed by another program; "
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

    @classmethod
    def of(cls, connection: sqlite3.Connection, index: int) -> Seal | None:
        """The seal after candidate ``index``, the newest, was put; None in a study that was begun without one."""
        before = read_seal(connection)
        # The row as it is stored: SQLite turns whole numbers into real ones where a column asks for them.
        row = connection.execute(SELECT_CANDIDATE, (index,)).fetchone()
        return None if before is None else before.after(row)

    def after(self, row: Sequence[Any]) -> Seal:
        """The seal with one more candidate."""
        digest = hashlib.blake2b(f"{self.digest} {to_json(list(row))}".encode(), digest_size=16)
        mutation = row[COLUMNS.index("mutation")]
        drawn = mutation is not None and json.loads(mutation)["operation"] is not None
        return Seal(self.candidates + 1, self.draws + drawn, digest.hexdigest())

    def check(self, rows: Sequence[Sequence[Any]], name: str) -> None:
        """Refuse rows that are not those which were committed.

        Raises:
            StudyError: naming the file.
        """
        found = Seal()
        for row in rows:
            found = found.after(row)
        if found != self:
            raise StudyError(f"{name} is not whole: {NOT_WHOLE}")


def check_counts(connection: sqlite3.Connection, name: str) -> None:
    """Refuse a study with other numbers of candidates or draws than were committed.

    Raises:
        StudyError: with both numbers.
    """
    seal = read_seal(connection)
    if seal is None:
        return
    for table, committed in (("candidates", seal.candidates), ("draws", seal.draws)):
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        if found != committed:
            raise StudyError(f"{name} holds {found} of {committed} {table}: {NOT_WHOLE}")


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
