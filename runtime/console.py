"""What is printed for people: never read as markup, whole in files and pipes, safe in every encoding."""

from __future__ import annotations

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
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
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


def say(console: Console, text: str, style: str = "", cut: bool = False) -> None:
    """Print ``text`` as it is, on one line however long that is.

    Args:
        console: where.
        text: names, paths and reasons may stand in it.
        style: of all of it.
        cut: end the line where the screen does; in a file or a pipe it is whole all the same.
    """
    if cut and is_screen(console):
        console.print(Text(text, style=style), no_wrap=True, overflow=overflow_of(console))
    else:
        console.print(Text(text, style=style), soft_wrap=True)
