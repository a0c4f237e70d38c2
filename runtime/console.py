"""What is printed for people: never read as markup, whole in files and pipes, safe in every encoding."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TextIO

from rich.console import Console, OverflowMethod
from rich.text import Text

_SIZE = re.compile(r"[1-9][0-9]{0,3}")
_LEAST_WIDTH = 20


def prepare_output() -> None:
    """Make standard output and error take every text, and ignore sizes of the terminal that none can have.

    What an encoding lacks (ASCII in a job's log, Latin-1) is written as an escape: no output is worth a search.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the shell has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the process is)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in ("COLUMNS", "LINES"):
        if not _SIZE.fullmatch(os.environ.get(name, "1")):
            del os.environ[name]


def make_console(file: TextIO | None = None) -> Console:
    """A console on ``file``, by default on standard output."""
    console = Console(file=file, markup=False, emoji=False, highlight=False)
    if console.width < _LEAST_WIDTH:
        console.width = 80
    return console


def is_screen(console: Console) -> bool:
    """Whether somebody watches: a terminal that can be redrawn. Colours may be forced, but no screen."""
    return console.file.isatty() and not console.is_dumb_terminal


def overflow_of(console: Console) -> OverflowMethod:
    """How a line that is too long for the screen ends: with the sign of an ellipsis where the encoding has one."""
    return "ellipsis" if console.encoding.lower().startswith("utf") else "crop"


def printable(text: str, keep: str = "") -> str:
    """``text`` with escapes for all characters that do not print, line breaks included, but for those to ``keep``.

    Example:
        >>> printable("two\\nlines and \\x1b[2J")
        'two\\\\nlines and \\\\x1b[2J'
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def say(console: Console, text: str, style: str = "", cut: bool = False) -> None:
    """Print ``text`` as it is, each of its lines on one line however long that is.

    Args:
        console: where.
        text: names, paths and reasons may stand in it; what would steer a terminal is shown as an escape.
        style: of all of it.
        cut: end the line where the screen does; in a file or a pipe it is whole all the same.
    """
    text = printable(text, keep="\n")
    if cut and is_screen(console):
        console.print(Text(text, style=style), no_wrap=True, overflow=overflow_of(console))
    else:
        console.print(Text(text, style=style), soft_wrap=True)
