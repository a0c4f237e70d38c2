"""What runs on the nodes of a Ray cluster. Needs no Ray to be imported."""

from __future__ import annotations

from multiprocessing.connection import wait

from evolution import Candidate, Task
from runtime.executors.limits import Limits
from runtime.executors.messages import Broken, MachineFault
from runtime.executors.processes import WATCH_SECONDS
from runtime.executors.worker import Died, Worker

_workers: dict[tuple[str, Limits], Worker] = {}
"""The one worker of this process, by the evaluator that it has. A process of Ray carries out many tasks."""


def carry_out(
    task: Task, key: str, evaluator: bytes, limits: Limits
) -> Candidate | Died | Broken | MachineFault:
    """Evaluate a candidate in a process beside this one, which is kept for the next task.

    Args:
        task: the candidate.
        key: which evaluator this is.
        evaluator: pickled; from the object store, where it is once a node.
        limits: of the candidate.
    """
    worker = _workers.get((key, limits))
    if worker is None or worker.killed:
        for old in _workers.values():
            old.kill()
        _workers.clear()
        worker = _workers[key, limits] = Worker(limits)
    while True:
        event = worker.poll()
        if event is not None:
            return event
        if worker.waiting:
            worker.load(evaluator)
        elif worker.ready and worker.task is None:
            worker.begin(task)
        elif not worker.killed:
            wait([worker.connection], WATCH_SECONDS)
