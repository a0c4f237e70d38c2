"""`Study`: the history of one search in one SQLite file."""

from __future__ import annotations

import fcntl
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
from evolution.schema import (
    INSERT_CANDIDATE,
    MAX_VALUE_BYTES,
    SELECT_CANDIDATES,
    SELECT_DRAWS,
    check_tables,
    create_tables,
    from_row,
    to_json,
    to_row,
)
from evolution.seal import NOT_WHOLE, Seal, check_counts, read_seal, write_seal

BUSY_SECONDS = 10.0
"""How long to wait for another process that holds the file."""


class Study:
    """Every candidate of a search, in the order of proposal. Made by `create` or `open`.

    One process may write, any number may read while it does. A candidate is committed by one transaction, so
    a killed process loses nothing that was committed. Between commits the file is whole by itself: it may be copied
    alone. A copy that a commit got between is refused by its seal (`evolution.seal`), never read as something else.
    Use it as a context manager, or call `close`.

    Attributes:
        path: the file.
        readonly: whether it was opened for inspection only.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, readonly: bool, lock: IO[bytes] | None = None
    ) -> None:
        self.path = path
        self.readonly = readonly
        self._connection = connection
        self._lock = lock

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
        with _locked(path):
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
            raise StudyError(f"there is no study at {path}")
        with ExitStack() as undo:
            lock = None if readonly else undo.enter_context(_locked(path))
            with _for_people(f"{path.name} cannot be read as a study"):
                if readonly:
                    _undo_killed_commit(path)
                connection = undo.enter_context(closing(_connected(path, readonly)))
                check_tables(connection, path.name)
                if not readonly:
                    # Without a log beside it the file alone is the study, and can be read where nothing can be written.
                    connection.execute("PRAGMA journal_mode = DELETE")
                    # A commit is as rare as an evaluation, so it may as well survive a power cut.
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute("PRAGMA foreign_keys = ON")
                with _snapshot(connection):
                    check_counts(connection, path.name)
            undo.pop_all()
            return cls(path, connection, readonly, lock)

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

        Raises:
            StudyError: where one is missing or cannot be read (backbones are validated again), or where they are not
                those that were committed.
        """
        with self._errors(), _snapshot(self._connection):
            rows = self._connection.execute(SELECT_CANDIDATES).fetchall()
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
        return found[start:]

    def ranked(self) -> list[Candidate]:
        """The candidates that have a score, best first; the earlier of equals first."""
        return sorted((c for c in self.candidates() if c.ok), key=ranking)

    def best(self, n: int = 1) -> list[Candidate]:
        """The first ``n`` of `ranked`."""
        return self.ranked()[:n]

    def failures(self) -> list[Candidate]:
        """The candidates that failed, with their reasons."""
        return [c for c in self.candidates() if not c.ok]

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
        with self._errors(), self._transaction() as connection:
            expected = connection.execute("SELECT count(*) FROM candidates").fetchone()[0]
            if candidate.index != expected:
                raise StudyError(f"candidate {candidate.index} is out of order: the next is {expected}")
            connection.execute(INSERT_CANDIDATE, row)
            write_seal(connection, Seal.of(connection, candidate.index))
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
        return _for_people(self.path.name)


@contextmanager
def _for_people(prefix: str) -> Iterator[None]:
    """What SQLite raises becomes a `StudyError`."""
    try:
        yield
    except sqlite3.Error as error:
        hint = (
            f": {NOT_WHOLE}" if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT else ""
        )
        raise StudyError(f"{prefix}: {error}{hint}") from error


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read inside belongs to one commit."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _undo_killed_commit(path: Path) -> None:
    """Take back what a process that was killed within a commit had written; its journal says what.

    SQLite does so when it reads, which needs a connection that may write.
    """
    if not path.with_name(f"{path.name}-journal").exists():
        return
    with closing(_connected(path, readonly=True)) as reader:
        try:
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
    with closing(_connected(path, readonly=False)) as writer:
        writer.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _connected(path: Path, readonly: bool) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    # The file may be a stranger's: nothing in its schema may call functions, no value may be huge.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    return connection


def _locked(path: Path) -> IO[bytes]:
    """Hold the right to write. It ends with the process, however that ends."""
    lock = path.with_name(f"{path.name}-lock")
    try:
        file = lock.open("ab")
    except OSError as error:
        raise StudyError(f"{path.name} cannot be written ({error.strerror}): open it readonly") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StudyError(
            f"{path.name} is being written by another search: wait for it, or open it for reading only"
        ) from error
    return file


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
