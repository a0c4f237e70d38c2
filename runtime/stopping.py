"""Signals that stop a command: it removes what it had begun, says so on one line, and exits as a shell expects."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 5.0
"""So long after a signal further ones are ignored: who closes a terminal or stops a container often sends two."""


_LATER_SECONDS = 0.05
"""So long after a signal that came at a bad moment it is sent again."""


class Stopped(SystemExit):
    """A signal has stopped the command. It unwinds like `KeyboardInterrupt`; nothing that catches errors stops it.

    Attributes:
        signal: which one.
        hint: how to go on, for people; empty where there is nothing to go on with.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)
        self.hint = ""

    def __str__(self) -> str:
        return f"stopped by {self.signal.name}" + (f"; {self.hint}" if self.hint else "")


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise `Stopped` within, where a signal comes that stops; signals that are ignored (nohup) stay so.

    Does nothing outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored_until = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal ignored_until
        if _loads_extension(frame):
            again = threading.Timer(_LATER_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        elif time.monotonic() >= ignored_until:
            ignored_until = time.monotonic() + _GRACE_SECONDS
            raise Stopped(number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for number in handled:
            signal.signal(number, stop)
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def _loads_extension(frame: FrameType | None) -> bool:
    """Whether a compiled module is being loaded: an exception in there may end the process (C++ terminates)."""
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
            return True
        frame = frame.f_back
    return False
