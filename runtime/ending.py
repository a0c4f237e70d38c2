"""How a command ends: which exit code, and what is said on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from graphir import OpnasError
from runtime.console import printable
from runtime.stopping import Stopped, stop_on_signals


def end_well(command: Callable[[], object]) -> None:
    """Run a command.

    What is for people, errors of the system included, is one line on standard error and exit code 2. A signal that
    stops is one line and 128 plus its number. A reader that has gone away is exit code 1 without a word. A fault of
    the program stays a traceback.
    """
    try:
        with stop_on_signals():
            try:
                command()
            finally:
                sys.stdout.flush()
    except Stopped as stop:
        _end(str(stop), 128 + stop.signal)
    except BrokenPipeError:
        _drop_output()
        raise SystemExit(1) from None
    except OSError as error:
        _drop_output()
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        _end(f"{where}{error.strerror or error}", 2)
    except OpnasError as error:
        _end(str(error), 2)


def _end(message: str, code: int) -> NoReturn:
    """One line on standard error, whatever stands in the message."""
    print(f"opnas: {printable(message)}", file=sys.stderr)
    raise SystemExit(code) from None


def _drop_output() -> None:
    """Forget what could not be written: it is still in a buffer, and Python writes that when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):  # a stream that is no file has no number
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
