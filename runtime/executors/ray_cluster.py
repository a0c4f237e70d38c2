"""`RayExecutor`: candidates are tasks of a Ray cluster, on one machine or many."""

from __future__ import annotations

import pickle
import time
import uuid
from types import TracebackType
from typing import Any

from evolution import Candidate, Evaluator, Task
from evolution.executor import failed
from graphir import InputError
from runtime.executors.limits import Limits
from runtime.executors.messages import Broken, MachineFault
from runtime.executors.processes import ATTEMPTS, ExecutorError
from runtime.executors.ray_tasks import carry_out
from runtime.executors.worker import Died

_LOST = "its worker or node was lost"


class RayExecutor:
    """Each candidate is one task, carried out in a process of its own on its node, under the same limits as elsewhere.

    The evaluator, with the supernet and the data, is in the object store once. A node or worker that dies costs only
    the candidates that it held, each of which is tried once more. Where Ray is not initialised it is before the first
    candidate: the cluster that ``RAY_ADDRESS`` names, or one that runs here, else a new one on this machine.

    Args:
        workers: candidates at a time; None for as many as the cluster has cores, or GPUs.
        limits: of a candidate.
        gpu: whether each candidate needs a GPU.

    Raises:
        InputError: where Ray is not installed.
    """

    def __init__(self, workers: int | None = None, limits: Limits | None = None, gpu: bool = False) -> None:
        try:
            import ray
        except ImportError:
            raise InputError(
                "the executor ray needs Ray, which is not installed: pip install 'opnas[ray]'"
            ) from None
        self._ray: Any = ray
        self._asked, self._limits, self._gpu = workers, limits or Limits(), gpu
        self._begun_here = False
        self._key = uuid.uuid4().hex
        self._pickled = b""
        self._evaluator: Any = None
        self._function: Any = None
        self._in_flight: dict[
            Any, tuple[Task, int, float]
        ] = {}  # attempts and time of the first, by reference

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reference in self._in_flight:
            self._ray.cancel(reference, force=True)
        self._in_flight.clear()
        self._evaluator = None
        if self._begun_here:
            self._ray.shutdown()

    @property
    def workers(self) -> int:
        """Candidates at a time, as the cluster stands now."""
        if self._asked is not None or not self._ray.is_initialized():
            return self._asked or 1
        return max(1, int(self._ray.cluster_resources().get("GPU" if self._gpu else "CPU", 1)))

    def start(self, count: int | None = None) -> None:
        """Join or begin a cluster, unless ``count`` is 0."""
        if count == 0:
            return
        if not self._ray.is_initialized():
            self._ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
            self._begun_here = True
        resources = {"num_cpus": 1, "num_gpus": 1} if self._gpu else {"num_cpus": 1}
        # Ray's own repetitions would not be counted.
        self._function = self._ray.remote(max_retries=0, **resources)(carry_out)

    def serve(self, evaluator: Evaluator) -> None:
        """Say how to score. The evaluator goes into the object store when the first candidate comes."""
        self._pickled = pickle.dumps(evaluator, protocol=pickle.HIGHEST_PROTOCOL)

    def submit(self, task: Task) -> None:
        """Begin a task."""
        if self._evaluator is None:
            self.start()
            self._evaluator = self._ray.put(self._pickled)
            self._pickled = b""
        self._begin(task, 1, time.monotonic())

    def results(self) -> list[Candidate]:
        """Wait until a candidate is evaluated.

        Raises:
            ExecutorError: where a worker cannot make the evaluator.
            OSError: where a worker found the disk full or read-only.
        """
        while True:
            ready, _ = self._ray.wait(list(self._in_flight), num_returns=1)
            found = [c for reference in ready if (c := self._result(reference)) is not None]
            if found:
                return found

    def _begin(self, task: Task, attempt: int, begun: float) -> None:
        reference = self._function.remote(task, self._key, self._evaluator, self._limits)
        self._in_flight[reference] = task, attempt, begun

    def _result(self, reference: Any) -> Candidate | None:
        task, attempt, begun = self._in_flight.pop(reference)
        try:
            event = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise ExecutorError(f"a task of Ray failed: {str(error.cause)[:300]}") from error
        except self._ray.exceptions.RayError:
            event = Died(_LOST, task, 0.0, True)
        if isinstance(event, Broken):
            raise ExecutorError(f"a worker cannot start: {event.reason}")
        if isinstance(event, MachineFault):
            raise OSError(event.number, event.text)
        if not isinstance(event, Died):
            return event
        if attempt < ATTEMPTS:
            self._begin(task, attempt + 1, begun)
            return None
        reason = f"its worker died {attempt} times: {event.how}"
        return failed(task.candidate, reason, time.monotonic() - begun)
