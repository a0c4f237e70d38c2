"""`Run`: one folder a search. What it was asked to do stands in ``config.json``, what it found in ``study.db``."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from evolution import Study
from graphir import OpnasError
from graphir.files import MAX_FILE_BYTES, TEMPORARY_SUFFIX, temporary_beside, write_json, write_whole
from runtime.run_config import RunConfig

KEPT_CORPUS = "corpus.txt"
"""Where a run keeps the text of a corpus that cannot be read twice."""


class RunError(OpnasError, ValueError):
    """A run folder that cannot be made, read or continued."""


class FolderExistsError(RunError):
    """A folder was to be made where something is."""


class Run:
    """The folder of one search. Made by `create`, `create_in` or `open`.

    Attributes:
        folder: where everything is.
        config: what was asked for.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        self.config = config
        self.study_path = folder / "study.db"
        self.supernet_path = folder / "supernet.safetensors"
        self.best_path = folder / "best"
        self.log_path = folder / "logs" / "search.log"

    @property
    def corpus_path(self) -> Path | None:
        """The text file to learn from; None for Python's own documentation."""
        return None if self.config.corpus is None else self.folder / self.config.corpus

    @classmethod
    def create(cls, folder: str | Path, config: RunConfig, kept_corpus: str | None = None) -> Run:
        """Make the folder with its configuration; it appears whole or not at all.

        Args:
            folder: where.
            config: what is asked for.
            kept_corpus: the text to learn from, where ``config`` names no file of its own for it.

        Raises:
            FolderExistsError: where ``folder`` exists.
            OSError: where it cannot be made.
        """
        folder = Path(folder)
        refuse_existing(folder)
        if kept_corpus is not None:
            config = replace(config, corpus=KEPT_CORPUS)
        with new_folder(folder) as temporary:
            (temporary / "logs").mkdir()
            if kept_corpus is not None:
                write_whole(temporary / KEPT_CORPUS, kept_corpus.encode())
            write_json(temporary / "config.json", config.to_dict())
        return cls(folder, config)

    @classmethod
    def create_in(cls, parent: str | Path, config: RunConfig, kept_corpus: str | None = None) -> Run:
        """The same in a new folder below ``parent`` that is named after the time, and after nothing else's name."""
        stem = time.strftime("%Y%m%d-%H%M%S")
        for number in count(1):
            try:
                name = stem if number == 1 else f"{stem}-{number}"
                return cls.create(Path(parent) / name, config, kept_corpus)
            except FolderExistsError:  # another search was begun in the same second
                continue
        raise AssertionError("counting has no end")

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """Open the folder of an earlier search.

        Raises:
            RunError: where it is none, or its configuration cannot be read.
        """
        folder = Path(folder)
        path = folder / "config.json"
        if not path.is_file():
            raise RunError(f"{folder} is not the folder of a search: it holds no config.json")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise RunError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes")
        try:
            return cls(folder, RunConfig.from_dict(json.loads(path.read_bytes())))
        except (ValueError, TypeError, RecursionError) as error:
            raise RunError(f"{path} cannot be read: {str(error)[:300]}") from None

    def moved_corpus(self, path: str | None, kept_corpus: str | None = None) -> Run:
        """The same run with the same text at another place, which its configuration names from now on.

        Args:
            path: absolute path of the text file.
            kept_corpus: the text itself, where it shall be kept in the run's folder.
        """
        if kept_corpus is not None:
            write_whole(self.folder / KEPT_CORPUS, kept_corpus.encode())
            path = KEPT_CORPUS
        config = replace(self.config, corpus=path)
        write_json(self.folder / "config.json", config.to_dict())
        return Run(self.folder, config)

    def with_executor(self, executor: str | None, workers: int | None) -> Run:
        """The same run with another executor or number of workers, for this process; its configuration stays.

        Limits that the executor "local" does not have are left out.
        """
        config = self.config
        if executor is not None and executor != config.executor:
            config = replace(
                config,
                executor=executor,
                workers=workers,
                limit_seconds=None if executor == "local" else config.limit_seconds,
                limit_memory=None if executor == "local" else config.limit_memory,
            )
        elif workers is not None:
            config = replace(config, workers=workers)
        return Run(self.folder, config)

    def remove_leftovers(self) -> None:
        """Remove what a killed process had begun to write. Only for who holds the study open for writing."""
        for path in self.folder.glob(f".*{TEMPORARY_SUFFIX}"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def open_study(self, readonly: bool = False) -> Study:
        """The study; made if there is none yet and ``readonly`` is not asked for.

        Raises:
            StudyError: where it cannot be read, or another process is writing it.
        """
        if not readonly and not self.study_path.exists():
            return Study.create(self.study_path, self.config.to_dict())
        return Study.open(self.study_path, readonly)


def refuse_existing(folder: Path) -> None:
    """Raise `FolderExistsError` if something is there already."""
    if folder.exists() or folder.is_symlink():
        raise FolderExistsError(f"{folder} exists already: choose another --out, or remove it")


@contextmanager
def new_folder(folder: Path, replace_old: bool = False) -> Iterator[Path]:
    """Fill a folder under a temporary name; it appears whole under its own, or not at all.

    Whoever is stopped within leaves nothing behind.

    Args:
        folder: the folder to make, with those above it.
        replace_old: whether a folder that is there gives way, once the new one is whole.

    Raises:
        FolderExistsError: where something else has taken its name by then.
        OSError: where it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise RunError(f"{folder} cannot be made: {folder.parent} is no folder") from None
    temporary, old = temporary_beside(folder), temporary_beside(folder)
    try:
        temporary.mkdir()
        yield temporary
        if replace_old and folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR) and error.filename2 is not None:
            refuse_existing(folder)
        # People know the folder by the name that it was to get.
        named = str(error.filename or "").replace(str(temporary), str(folder))
        raise OSError(error.errno, error.strerror, named or None) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
