"""`Worker`: a process of its own that evaluates one candidate at a time, seen from the process that started it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from evolution import Candidate, Task
from evolution.executor import failed
from runtime.executors.limits import Limits
from runtime.executors.messages import Broken, Done, MachineFault, Message, Ready, Waiting

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from runtime.executors.worker_main import main; main(*json.loads(sys.argv[2]))"
)
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""The order of sums, and so every score, is the same on any number of cores."""
_REFUSALS = ("MemoryError", "can't allocate memory")
"""How Python, NumPy and PyTorch say that the system refused memory."""


@dataclass(frozen=True)
class Died:
    """A worker has died, with the candidate that it held or none.

    Attributes:
        how: such as "killed by SIGSEGV".
        task: what it held.
        seconds: how long it had held that.
        ready: whether it had been ready for candidates.
    """

    how: str
    task: Task | None
    seconds: float
    ready: bool


class Worker:
    """One process. It starts at once, and waits for its evaluator when it has loaded ``preload``.

    Args:
        limits: of a candidate.
        preload: modules that it imports first.
        environment: variables that it has beside this process's.
        log: a file for what it prints; None to drop that.

    Attributes:
        task: the candidate that it holds; None where it holds none.
        waiting: whether it waits for its evaluator.
        ready: whether its evaluator stands.
        killed: whether it was ended from here; it may not be used any more.
    """

    def __init__(
        self,
        limits: Limits,
        preload: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.limits = limits
        self.task: Task | None = None
        self.waiting = False
        self.ready = False
        self.killed = False
        self._begun = 0.0
        self._resting_bytes = 0
        ours, theirs = socket.socketpair()
        arguments = (theirs.fileno(), os.getpid(), list(preload), self._data_bytes(environment))
        with theirs, open(log or os.devnull, "ab") as output:
            # A group of its own: an interrupt from the terminal stops the search, and the search stops its workers.
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _START,
                    json.dumps([str(path) for path in sys.path]),
                    json.dumps(arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                env={**os.environ, **_ONE_THREAD, **(environment or {})},
                process_group=0,
            )
        self.connection = Connection(ours.detach())
        self._memory = psutil.Process(self._process.pid)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def load(self, evaluator: bytes) -> None:
        """Give it its evaluator, pickled. Only while it is waiting: it might not read before."""
        self.waiting = False
        with suppress(ConnectionError):  # it has died, as `poll` will say
            self.connection.send_bytes(evaluator)

    def begin(self, task: Task) -> None:
        """Give it a candidate."""
        self.task = task
        self._begun = time.monotonic()
        with suppress(ConnectionError):
            self.connection.send(task)

    def poll(self) -> Candidate | Died | Broken | MachineFault | None:
        """What has become of it since the last time; None where there is nothing to say.

        A candidate that exceeds a limit is given back as failed, and its worker is dead then.
        """
        message = self._received()
        if isinstance(message, Done):
            return self._finished(message.candidate)
        if isinstance(message, Waiting):
            self.waiting = True
            return None
        if isinstance(message, Ready):
            self.ready = True
            self._resting_bytes = self._resident_bytes()
            return None
        if message is not None:
            return message
        if self.killed:
            return Died(_how(self._process.returncode), self.task, self._seconds, self.ready)
        reason = self._exceeded()
        if reason is None:
            return None
        self.kill()
        if self.task is not None:
            return failed(self.task.candidate, reason, self._seconds)
        return None if self.ready else Broken(f"it {reason} before it had a candidate")

    def kill(self) -> None:
        """End it and what it has started, whatever they do."""
        self.killed = True
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self.connection.close()

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _data_bytes(self, environment: Mapping[str, str] | None) -> int | None:
        """A driver of GPUs maps far more memory than it uses, so the system cannot limit a worker that has one."""
        uses_gpu = "CUDA_VISIBLE_DEVICES" in (environment or {})
        return None if uses_gpu else self.limits.memory_bytes

    def _received(self) -> Message | None:
        """What it has said. Where it has ended, that is found out only after its last word was read."""
        ended = self._process.poll() is not None
        try:
            if self.connection.poll():
                message: Message = self.connection.recv()
                return message
        except (EOFError, ConnectionError):
            ended = True  # or is about to: it closes the socket then
        if ended:
            self.kill()
        return None

    def _finished(self, candidate: Candidate) -> Candidate:
        self.task = None
        limit = self.limits.memory_bytes
        if limit is None:
            return candidate
        if candidate.reason is not None and any(text in candidate.reason for text in _REFUSALS):
            self.kill()
            return failed(candidate, self.limits.too_large, candidate.seconds)
        # What candidates have left behind is not held against the next one.
        if self._resident_bytes() > (self._resting_bytes + limit) / 2:
            self.kill()
        return candidate

    def _exceeded(self) -> str | None:
        limit = self.limits.memory_bytes
        if limit is not None and self._resident_bytes() > limit:
            return self.limits.too_large
        if self.task is not None and self.limits.seconds is not None:
            return self.limits.too_slow if self._seconds > self.limits.seconds else None
        return None

    def _resident_bytes(self) -> int:
        try:
            resident: int = self._memory.memory_info().rss
            return resident
        except psutil.Error:  # it has just ended
            return 0


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"ended with exit code {code}"
