"""`Study`: the history of one search in one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from evolution.candidate import Candidate, ranking
from evolution.errors import StudyError
from evolution.rows import from_row, insert_row, select_rows, to_row
from evolution.schema import BY_RANK, SELECT_DRAWS, VERSION, check_tables, create_tables, to_json
from evolution.seal import NOT_WHOLE, Seal, check_counts, check_length, check_row, read_seal, write_seal
from evolution.study_file import connected, for_people, has_journal, locked, snapshot, undo_killed_commit


class Study:
    """Every candidate of a search, in the order of proposal. Made by `create` or `open`.

    One process may write, any number may read while it does. A candidate is committed by one transaction, so
    a killed process loses nothing that was committed. Between commits the file is whole by itself: it may be copied
    alone. A copy that a commit got between is refused by its seal (`evolution.seal`), never read as something else.
    Use it as a context manager, or call `close`.

    Attributes:
        path: the file.
        readonly: whether it was opened for inspection only.
        version: of its tables (`evolution.schema.VERSION`); one of an older version stays what it is.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        readonly: bool,
        version: int = VERSION,
        lock: IO[bytes] | None = None,
    ) -> None:
        self.path = path
        self.readonly = readonly
        self.version = version
        self._connection = connection
        self._lock = lock
        self._read: list[Candidate] | None = None

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any] | None = None) -> Study:
        """Make a new study.

        Args:
            path: where; nothing may be there yet.
            config: anything that JSON can hold, kept for whoever looks at the study later.

        Raises:
            StudyError: where ``path`` exists, its folder does not, another process makes it now, ``config`` does not
                fit JSON, or nothing can be written.
        """
        path = Path(path)
        if path.exists():
            raise StudyError(f"{path} exists already: open it to continue it, or choose another path")
        if not path.parent.is_dir():
            raise StudyError(f"the folder {path.parent} does not exist: make it first")
        try:
            text = to_json(config or {})
        except (TypeError, ValueError) as error:
            raise StudyError(f"the config does not fit JSON: {error}") from error
        # Made under another name first: a study that is killed while it is made leaves none, not half of one.
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with locked(path):
            try:
                temporary.unlink(missing_ok=True)
                with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
                    # A journal would be a second file that a killed process leaves.
                    connection.execute("PRAGMA journal_mode = OFF")
                    create_tables(connection)
                    connection.execute("INSERT INTO settings VALUES ('config', ?)", (text,))
                    write_seal(connection, Seal())
                if path.exists():
                    raise StudyError(f"{path} was made by another search just now")
                temporary.rename(path)
            except (sqlite3.Error, OSError) as error:
                raise StudyError(f"the study {path} cannot be made: {error}") from error
            finally:
                temporary.unlink(missing_ok=True)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, readonly: bool = False) -> Study:
        """Open a study, to continue it or, ``readonly``, to look at it even while a search writes it.

        Raises:
            StudyError: where there is none, it is no study, of another version, or being written by another
                process; or where it is a copy that is not whole.
        """
        path = Path(path)
        if not path.is_file():
            found = "it is a folder" if path.is_dir() else "nothing is there"
            raise StudyError(f"there is no study at {path}: {found}")
        if not readonly and not has_journal(path):
            cls.open(path, readonly=True).close()  # no lock is left beside what is no study
        with ExitStack() as undo:
            lock = None if readonly else undo.enter_context(locked(path))
            with for_people(f"{path.name} cannot be read as a study"):
                if readonly:
                    undo_killed_commit(path)
                connection = undo.enter_context(closing(connected(path, readonly)))
                version = check_tables(connection, path.name)
                if not readonly:
                    # Without a log beside it the file alone is the study, and can be read where nothing can be written.
                    connection.execute("PRAGMA journal_mode = DELETE")
                    # A commit is as rare as an evaluation, so it may as well survive a power cut.
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute("PRAGMA foreign_keys = ON")
                with snapshot(connection):
                    check_length(connection, path)
                    check_counts(connection, version, path.name)
            undo.pop_all()
            return cls(path, connection, readonly, version, lock)

    def close(self) -> None:
        """Release the file. Closing twice does no harm."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Study:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"

    # -- reading

    def __len__(self) -> int:
        """Number of candidates, the failed ones included."""
        with self._errors():
            return int(self._connection.execute("SELECT count(*) FROM candidates").fetchone()[0])

    @property
    def config(self) -> dict[str, Any]:
        """What `create` was given."""
        config = self.setting("config")
        return config if isinstance(config, dict) else {}

    def setting(self, name: str) -> Any:
        """A recorded setting; None where there is none."""
        with self._errors():
            row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        try:
            return None if row is None else json.loads(row[0])
        except (ValueError, RecursionError) as error:
            raise StudyError(f"the setting {name!r} cannot be read: {error}") from error

    def candidates(self, start: int = 0) -> list[Candidate]:
        """The candidates from index ``start``, in the order of proposal.

        All are read and checked, which takes some seconds for 100,000. Who writes the study does it once: nobody else
        can have changed it since.

        Raises:
            StudyError: where one is missing or cannot be read (backbones are validated again), or where they are not
                those that were committed.
        """
        if self._read is not None:
            return self._read[start:]
        with self._errors(), snapshot(self._connection):
            rows = select_rows(self._connection, "ORDER BY number")
            seal = read_seal(self._connection)
        try:
            found = [from_row(row) for row in rows]
            missing = next((index for index, c in enumerate(found) if c.index != index), None)
            if missing is not None:
                raise StudyError(f"candidate {missing} of the study is missing")
        except StudyError as error:
            raise StudyError(f"{error} (perhaps {NOT_WHOLE})") from error
        if seal is not None:
            seal.check(rows, self.path.name)
        if not self.readonly:
            self._read = found
        return found[start:]

    def candidate(self, index: int) -> Candidate:
        """One candidate; no other is read.

        Raises:
            StudyError: where there is none of that index, or it cannot be read.
        """
        found = self._some("WHERE number = ?", index)
        if not found:
            count = len(self)
            there = f"it has 0 to {count - 1}" if count else "it has none yet"
            raise StudyError(f"the study has no candidate {index}: {there}")
        return found[0]

    def scored(self) -> int:
        """Number of candidates that have a score."""
        with self._errors():
            counted = "SELECT count(*) FROM candidates WHERE score IS NOT NULL"
            return int(self._connection.execute(counted).fetchone()[0])

    def ranked(self) -> list[Candidate]:
        """The candidates that have a score, best first; the earlier of equals first. All are read: see `best`."""
        return sorted((c for c in self.candidates() if c.ok), key=ranking)

    def best(self, n: int = 1) -> list[Candidate]:
        """The first ``n`` of `ranked`, found by an index; no other candidate is read.

        Raises:
            StudyError: where one of them cannot be read or is not what was committed (`evolution.seal` says what this
                cannot see).
        """
        found = self._some(f"WHERE score IS NOT NULL ORDER BY {BY_RANK} LIMIT ?", n)
        if found != sorted(found, key=ranking):
            raise StudyError(f"the index of {self.path.name} does not fit its candidates: {NOT_WHOLE}")
        return found

    def failures(self, n: int = -1) -> list[Candidate]:
        """The first ``n`` candidates that failed, with their reasons; by default all. No other candidate is read."""
        return self._some("WHERE score IS NULL ORDER BY number LIMIT ?", n)

    def _some(self, rest: str, value: int) -> list[Candidate]:
        """Some candidates, each checked by itself."""
        with self._errors(), snapshot(self._connection):
            rows = select_rows(self._connection, rest, value)
            found = [from_row(row) for row in rows]
            if self.version > 1:
                for row in rows:
                    check_row(self._connection, row, self.path.name)
            return found

    def draws(self) -> dict[str, int]:
        """How often mutation drew each operation."""
        with self._errors():
            return dict(self._connection.execute(SELECT_DRAWS))

    # -- writing

    def add(self, candidate: Candidate) -> None:
        """Commit the next candidate: it is on the disk when this returns.

        Raises:
            StudyError: where it is not the next in order or not evaluated, or the file cannot be written.
        """
        if candidate.status == "proposed":
            raise StudyError(f"candidate {candidate.index} is not evaluated: a study holds results")
        row = to_row(candidate)
        self._read = None
        with self._errors(), self._transaction() as connection:
            # Not the count, which takes longer with every candidate: they were counted when the study was opened.
            newest = "SELECT coalesce(max(number), -1) FROM candidates"
            expected = connection.execute(newest).fetchone()[0] + 1
            if candidate.index != expected:
                raise StudyError(f"candidate {candidate.index} is out of order: the next is {expected}")
            before = read_seal(connection)
            seal = None if before is None else before.after(row)
            insert_row(connection, self.version, row, "" if seal is None else seal.digest)
            write_seal(connection, seal)
            if candidate.mutation is not None and candidate.mutation.operation is not None:
                connection.execute(
                    "INSERT INTO draws VALUES (?, ?)", (candidate.index, candidate.mutation.operation)
                )

    def settle(self, name: str, value: Any) -> None:
        """Record a setting, or check it against what was recorded: it may not change within one study.

        Raises:
            StudyError: where another value is recorded; the message names what differs.
        """
        text = to_json(value)
        with self._errors(), self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO settings VALUES (?, ?)", (name, text))
        recorded = self.setting(name)
        if recorded != json.loads(text):
            raise StudyError(
                f"the study was begun with another {name} ({_differences(recorded, json.loads(text))}): "
                "continue it with the same, or begin a new study"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self.readonly:
            raise StudyError(f"{self.path.name} is open for reading only")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it already
                self._connection.execute("ROLLBACK")
            raise

    def _errors(self) -> AbstractContextManager[None]:
        return for_people(self.path.name)


def _differences(recorded: Any, wanted: Any) -> str:
    """The fields that differ, for people."""
    if not isinstance(recorded, dict) or not isinstance(wanted, dict):
        return f"{str(recorded)[:60]}, now {str(wanted)[:60]}"
    names = [n for n in sorted({*recorded, *wanted}) if recorded.get(n) != wanted.get(n)]
    shown = []
    for name in names:
        before, now = recorded.get(name), wanted.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            if before.get("name") != now.get("name"):  # another thing altogether, whatever its fields are
                before, now = before.get("name"), now.get("name")
            else:
                shown.append(f"{name}: {_differences(before, now)[:200]}")
                continue
        shown.append(f"{name}: {str(before)[:60]}, now {str(now)[:60]}")
    return "; ".join(shown)
