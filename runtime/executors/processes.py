"""`ProcessPool`: candidates are evaluated by isolated processes of this machine."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType

from evolution import Candidate, Evaluator, Task
from evolution.executor import failed
from graphir import OpnasError
from runtime.executors.limits import Limits
from runtime.executors.messages import Broken, MachineFault
from runtime.executors.worker import Died, Worker

WATCH_SECONDS = 0.02
"""So often memory and time are looked at."""
ATTEMPTS = 2
"""How often a candidate is tried whose worker dies."""


class ExecutorError(OpnasError, RuntimeError):
    """Nobody can evaluate: workers do not start."""


class ProcessPool:
    """Evaluates in processes of their own, one candidate at a time each. Use it as a context manager.

    A candidate that exceeds a limit is given back as failed and its worker replaced. A worker that dies costs only the
    candidate that it held, which is tried once more. No worker outlives this process.

    Args:
        workers: how many.
        limits: of a candidate.
        preload: modules that workers import before they get their evaluator.
        environments: variables for the first, second, ... worker, over and over; such as one GPU for each.
        log: a file for what workers print; None to drop that.
    """

    def __init__(
        self,
        workers: int,
        limits: Limits | None = None,
        preload: Sequence[str] = (),
        environments: Sequence[Mapping[str, str]] = ({},),
        log: Path | None = None,
    ) -> None:
        self.workers = workers
        self.limits = limits or Limits()
        self._preload, self._environments, self._log = preload, environments, log
        self._places: list[Worker | None] = [None] * workers
        self._queue: deque[Task] = deque()
        self._deaths: dict[int, int] = {}  # of the workers that held a candidate, by its number
        self._failed_starts = 0
        self._evaluator: bytes | None = None

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._places:
            if worker is not None:
                worker.kill()
        self._places = [None] * self.workers

    def start(self, count: int | None = None) -> None:
        """Start ``count`` workers, by default all, which load what they need while this process does other things."""
        for place in range(min(self.workers, self.workers if count is None else count)):
            if self._places[place] is None:
                self._start(place)

    def serve(self, evaluator: Evaluator) -> None:
        """Say how to score. Each worker gets ``evaluator`` once.

        Args:
            evaluator: can be pickled.
        """
        self._evaluator = pickle.dumps(evaluator, protocol=pickle.HIGHEST_PROTOCOL)

    def submit(self, task: Task) -> None:
        """Begin an evaluation as soon as a worker is ready."""
        self._queue.append(task)
        self._hand_out()

    def results(self) -> list[Candidate]:
        """Wait until a candidate is evaluated, watching over the limits.

        Raises:
            ExecutorError: where workers do not start.
            OSError: where a worker found the disk full or read-only.
        """
        while True:
            self._hand_out()
            found = [c for place in range(self.workers) if (c := self._look_at(place)) is not None]
            if found:
                self._hand_out()
                return found
            wait([w.connection for w in self._places if w is not None and not w.killed], WATCH_SECONDS)

    def _hand_out(self) -> None:
        """Give tasks to idle workers, and start as many more as there are tasks for."""
        waiting = len(self._queue)
        for place, worker in enumerate(self._places):
            if worker is not None and worker.killed:
                worker = self._places[place] = None
            if waiting and (worker is None or worker.task is None):
                waiting -= 1
                if worker is None:
                    self._start(place)
                elif worker.ready:
                    worker.begin(self._queue.popleft())

    def _start(self, place: int) -> None:
        environment = self._environments[place % len(self._environments)]
        self._places[place] = Worker(self.limits, self._preload, environment, self._log)

    def _look_at(self, place: int) -> Candidate | None:
        worker = self._places[place]
        if worker is None or worker.killed:
            return None
        event = worker.poll()
        if isinstance(event, Died):
            self._places[place] = None
            return self._mourned(event)
        if isinstance(event, Broken):
            raise ExecutorError(f"a worker cannot start: {event.reason}")
        if isinstance(event, MachineFault):
            raise OSError(event.number, event.text)
        if worker.waiting and self._evaluator is not None:
            worker.load(self._evaluator)
        if worker.ready:
            self._failed_starts = 0
        return event

    def _mourned(self, death: Died) -> Candidate | None:
        """Have the candidate of a dead worker tried once more, or give it back as failed."""
        if not death.ready:
            self._failed_starts += 1
            if self._failed_starts > self.workers:
                where = "" if self._log is None else f"; {self._log} may say why"
                raise ExecutorError(f"workers do not start: the last one was {death.how}{where}")
        if death.task is None:
            return None
        index = death.task.candidate.index
        self._deaths[index] = self._deaths.get(index, 0) + 1
        if self._deaths[index] < ATTEMPTS:
            self._queue.appendleft(death.task)
            return None
        reason = f"its worker died {self._deaths.pop(index)} times: {death.how}"
        return failed(death.task.candidate, reason, death.seconds)
