"""`LocalExecutor`: candidates are evaluated in this process, one after the other, without limits."""

from __future__ import annotations

from types import TracebackType

from evolution import Candidate, Evaluator, InProcess, Task


class LocalExecutor:
    """Evaluates here. A candidate that hangs or crashes takes the search with it."""

    workers = 1

    def __init__(self) -> None:
        self._process: InProcess | None = None

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def start(self, count: int | None = None) -> None:
        """Nothing is to be started."""

    def serve(self, evaluator: Evaluator) -> None:
        """Say how to score."""
        self._process = InProcess(evaluator)

    def submit(self, task: Task) -> None:
        """Remember a task."""
        self._served.submit(task)

    def results(self) -> list[Candidate]:
        """Carry it out."""
        return self._served.results()

    @property
    def _served(self) -> InProcess:
        if self._process is None:
            raise RuntimeError("serve an evaluator first")
        return self._process
