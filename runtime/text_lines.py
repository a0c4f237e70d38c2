"""Lines of a text file that may come from a stranger: read one at a time, each of a bounded length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphir import InputError
from graphir.checks import check_whole

_MARK = b"\xef\xbb\xbf"
"""What some editors write at the start of UTF-8 text (a byte order mark)."""


def read_lines(path: str | Path, longest: int) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file with their numbers from 1, without what ends them (``\\n`` or ``\\r\\n``).

    No more than one line is held at a time, and of a line that is too long no more than ``longest`` bytes are read.
    A byte order mark is left out. Other characters that Python counts as ends of lines (a lone ``\\r``, U+2028) are
    text, so that numbers are those that editors show.

    Args:
        path: a file, or a pipe.
        longest: most bytes of a line, its end left out.

    Raises:
        InputError: for a line that is longer, is not UTF-8, or holds NUL bytes; it names the file and the line.
        OSError: where the file cannot be read.
    """
    check_whole(longest, "longest")
    path = Path(path)
    number = 0
    with path.open("rb") as file:
        while raw := file.readline(longest + len(_MARK) + len(b"\r\n")):
            number += 1
            if number == 1:
                raw = raw.removeprefix(_MARK)
            raw = raw.removesuffix(b"\n").removesuffix(b"\r")
            where = f"{path}, line {number:,}"
            if len(raw) > longest:
                raise InputError(f"{where}: it is longer than {longest:,} bytes; lines of text are expected")
            if b"\x00" in raw:
                raise InputError(f"{where}: it holds NUL bytes; UTF-8 text is expected")
            try:
                yield number, raw.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{where}: byte {error.start + 1:,} of it is not UTF-8 text; convert the file to UTF-8"
                ) from None
