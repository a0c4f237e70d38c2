"""`Study`: the history of one search in one SQLite file."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
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

BUSY_SECONDS = 10.0
"""How long to wait for another process that holds the file."""


class Study:
    """Every candidate of a search, in the order of proposal. Made by `create` or `open`.

    One process may write, any number may read while it does. A candidate is committed by one transaction, so
    a killed process loses nothing that was committed. Use it as a context manager, or call `close`.

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
            StudyError: where ``path`` exists, its folder does not, or ``config`` does not fit JSON.
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
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            create_tables(connection)
            connection.execute("INSERT INTO settings VALUES ('config', ?)", (text,))
        finally:
            connection.close()
        temporary.rename(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, readonly: bool = False) -> Study:
        """Open a study, to continue it or, ``readonly``, to look at it even while a search writes it.

        Raises:
            StudyError: where there is none, it is no study, of another version, or being written by another
                process.
        """
        path = Path(path)
        if not path.is_file():
            raise StudyError(f"there is no study at {path}")
        with ExitStack() as undo:
            lock = None if readonly else undo.enter_context(_locked(path))
            try:
                connection = undo.enter_context(closing(_connected(path, readonly)))
                check_tables(connection, path.name)
                if not readonly:
                    connection.execute("PRAGMA journal_mode = WAL")
                    # A commit is as rare as an evaluation, so it may as well survive a power cut.
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute("PRAGMA foreign_keys = ON")
            except sqlite3.Error as error:
                raise StudyError(f"{path.name} cannot be read as a study: {error}") from error
            undo.pop_all()
            return cls(path, connection, readonly, lock)

    def close(self) -> None:
        """Release the file. Closing twice does no harm."""
        if not self.readonly:
            # Without its log a study is one plain file, readable where nothing can be written. A reader that is
            # there now, or a study closed before, keeps it as it is.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("PRAGMA journal_mode = DELETE")
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
            StudyError: where one is missing or cannot be read; backbones are validated again.
        """
        with self._errors():
            rows = self._connection.execute(SELECT_CANDIDATES, (start,)).fetchall()
        found = [from_row(row) for row in rows]
        for index, candidate in enumerate(found, start):
            if candidate.index != index:
                raise StudyError(f"candidate {index} of the study is missing")
        return found

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
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StudyError(f"{self.path.name}: {error}") from error


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
    return "; ".join(f"{n}: {str(recorded.get(n))[:60]}, now {str(wanted.get(n))[:60]}" for n in names)
