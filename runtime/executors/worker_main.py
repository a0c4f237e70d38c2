"""What runs inside a worker: one evaluator, made once, and one candidate after the other.

A worker is started by `runtime.executors.worker`, reads pickles from the process that started it and from nobody else,
and dies with it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import importlib
import os
import pickle
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from evolution import Evaluator, Task
from evolution.executor import FAULTS_OF_THE_MACHINE, evaluated
from runtime.executors.messages import Broken, Done, MachineFault, Message, Ready, Waiting

_PR_SET_PDEATHSIG = 1
"""Of prctl(2): which signal a process gets when its parent dies."""


def main(descriptor: int, parent: int, preload: Sequence[str], data_bytes: int | None) -> None:
    """Serve the process at the other end of a socket until it is gone.

    Args:
        descriptor: of the socket.
        parent: the process that started this one.
        preload: modules to import while there is nothing else to do.
        data_bytes: most private memory that this process may ask the system for.
    """
    _die_with(parent)
    os.set_inheritable(descriptor, False)
    faulthandler.enable()
    if data_bytes is not None:
        _limit_data(data_bytes)
    connection = Connection(descriptor)
    with suppress(EOFError, ConnectionError):  # the parent has gone
        evaluator = _received_evaluator(connection, preload)
        while evaluator is not None:
            task: Task = connection.recv()
            connection.send(_answer(task, evaluator))
            del task
            _release_memory()


def _received_evaluator(connection: Connection, preload: Sequence[str]) -> Evaluator | None:
    try:
        for module in preload:
            importlib.import_module(module)
        connection.send(Waiting())
        evaluator: Evaluator = pickle.loads(connection.recv_bytes())
    except (EOFError, ConnectionError):
        raise
    except Exception as error:
        connection.send(Broken(f"{type(error).__name__}: {error}"[:500]))
        return None
    connection.send(Ready())
    return evaluator


def _answer(task: Task, evaluator: Evaluator) -> Message:
    try:
        return Done(evaluated(task, evaluator))
    except OSError as error:
        if error.errno in FAULTS_OF_THE_MACHINE:
            return MachineFault(error.errno, error.strerror or str(error))
        raise


def _die_with(parent: int) -> None:
    """Die at once when ``parent`` does, whatever is being computed then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had died before
        os._exit(1)


def _limit_data(size: int) -> None:
    """Have the system refuse at once what would go beyond; the parent sees what the system does not count."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    size = size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _release_memory() -> None:
    """Give back what the last candidate took, so that it is not held against the next one."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
