"""Text to pretrain on, read as a stream of lines: of any length, none of it kept."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from graphir import InputError
from runtime.pretraining.hub_text import HUB_PREFIX, HubText

MAX_LINE_BYTES = 4_000_000
"""Longest line that is read: a larger one is a file of another kind, or a corpus without line breaks."""

PARAGRAPH_END = ""
"""What a source yields where a paragraph ends."""


class TextSource(Protocol):
    """Where text comes from. It can be read more than once, and is the same each time."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Equal for equal text; ready for JSON."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes, where they are known."""
        ...

    def lines(self) -> Iterator[str]:
        """Lines with white space collapsed, and `PARAGRAPH_END` where a paragraph ends.

        Raises:
            InputError: naming the file and line that cannot be read.
        """
        ...


def open_text(text: str | Path | Sequence[str | Path]) -> TextSource:
    """The text that a user names.

    Args:
        text: a UTF-8 file, a folder (its ``.txt`` files and those of its subfolders, in the order of their paths), or
            several of these; or ``hf:NAME``, a data set of `runtime.pretraining.hub_text`.

    Raises:
        InputError: where there is no such text, or it is empty.
    """
    named = [text] if isinstance(text, str | Path) else list(text)
    if not named:
        raise InputError("there is no text: name a file or a folder")
    if any(str(name).startswith(HUB_PREFIX) for name in named):
        if len(named) > 1:
            raise InputError("a data set of the hub is the whole text: name one, and no files beside it")
        return HubText.parse(str(named[0]))
    return TextFiles(tuple(path for name in named for path in _files_of(Path(name))))


@dataclass(frozen=True)
class TextFiles:
    """UTF-8 files, one after the other; blank lines and the end of a file end a paragraph."""

    paths: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The first file, and how many there are."""
        others = len(self.paths) - 1
        return str(self.paths[0]) + (f" and {others} more" if others else "")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """How many files and bytes, and a hash of their content; names do not count."""
        whole = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "blake2b").digest())
        return {"files": len(self.paths), "bytes": self.size, "blake2b": whole.hexdigest()}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.paths)

    def lines(self) -> Iterator[str]:
        """See `TextSource.lines`."""
        for path in self.paths:
            yield from _lines_of(path)
            yield PARAGRAPH_END


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*.txt") if file.is_file() and file.stat().st_size)
        if not found:
            raise InputError(f"the folder {path} holds no .txt file with text")
        return found
    if not path.exists():
        raise InputError(f"the text {path} does not exist: name a file, a folder or {HUB_PREFIX}NAME")
    if not path.is_file():
        raise InputError(f"{path} is no plain file: text is read more than once, so put it into a file")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: UTF-8 text was expected")
    return [path]


def _lines_of(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number in count(1):
            raw = file.readline(MAX_LINE_BYTES + 1)
            if not raw:
                return
            yield _read_line(raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, path, number)


def _read_line(raw: bytes, path: Path, number: int) -> str:
    if len(raw) > MAX_LINE_BYTES:
        raise InputError(
            f"{path}, line {number}: it is longer than {MAX_LINE_BYTES:,} bytes: break it into lines"
        )
    try:
        line = raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}, line {number}: it is not UTF-8 (byte {error.start + 1} is 0x{raw[error.start]:02x}): "
            "convert the file to UTF-8"
        ) from None
    if "\0" in line:
        raise InputError(f"{path}, line {number}: it holds a NUL byte, so this is no text")
    return " ".join(line.split())
