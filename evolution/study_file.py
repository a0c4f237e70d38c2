"""The file of a study: who may open it, and what SQLite says of it in words for people."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

from evolution.errors import StudyError
from evolution.schema import MAX_VALUE_BYTES
from evolution.seal import NOT_WHOLE

BUSY_SECONDS = 10.0
"""How long to wait for another process that holds the file."""


@contextmanager
def for_people(prefix: str) -> Iterator[None]:
    """What SQLite raises becomes a `StudyError`."""
    try:
        yield
    except sqlite3.Error as error:
        hint = (
            f": {NOT_WHOLE}" if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT else ""
        )
        raise StudyError(f"{prefix}: {error}{hint}") from error


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read inside belongs to one commit."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def has_journal(path: Path) -> bool:
    """Whether a commit is being written, or was when its process was killed."""
    return path.with_name(f"{path.name}-journal").exists()


def undo_killed_commit(path: Path) -> None:
    """Take back what a process that was killed within a commit had written; its journal says what.

    SQLite does so when it reads, which needs a connection that may write.
    """
    if not has_journal(path):
        return
    with closing(connected(path, readonly=True)) as reader:
        try:
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
    with closing(connected(path, readonly=False)) as writer:
        writer.execute("SELECT count(*) FROM sqlite_master").fetchone()


def connected(path: Path, readonly: bool) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    # The file may be a stranger's: nothing in its schema may call functions, no value may be huge.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    return connection


def locked(path: Path) -> IO[bytes]:
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
