"""Checks in processes of their own: kernels are built on all cores, and one that breaks its process breaks no other.

What they build stays in Triton's cache on disk, where the timings find it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from runtime.gpu_check.clock import is_lost
from runtime.gpu_check.forms import Place
from runtime.gpu_check.measure import NOT_REACHED, measure, without
from runtime.gpu_check.work import Cell, Job

Group = tuple[Job, ...]

BROKEN = "failed: its process ended"
"""How the problem of a job begins that took its process with it."""

LOST = f"{NOT_REACHED}: the device answers no more after an earlier job"
"""The problem of jobs that cannot run any more, in this process."""


def run_groups(
    groups: Sequence[Group], place: Place, workers: int, seconds_left: Callable[[], float]
) -> Iterator[list[Cell]]:
    """The cells of all jobs, a job at a time, as they come.

    Args:
        groups: jobs that share a process, most important first.
        place: where they run.
        workers: processes at a time; 0 runs everything in this one.
        seconds_left: how much time is left; what runs after it is stopped.
    """
    if workers == 0:
        for group in groups:
            for job in group:
                yield measure(job, place, seconds_left)
        return
    waiting = list(groups)
    running: list[_Running] = []
    try:
        while (waiting or running) and seconds_left() > 0:
            while waiting and len(running) < workers:
                running.append(_start(waiting.pop(0), place))
            wait([worker.cells for worker in running], timeout=max(0.0, min(1.0, seconds_left())))
            for worker in list(running):
                yield from worker.received()
                if worker.ended:
                    running.remove(worker)
                    yield from worker.unfinished()
    finally:
        for worker in running:
            worker.process.terminate()
            worker.process.join()
    for worker in running:
        yield from (without(job, NOT_REACHED) for job in worker.remaining)
    for group in waiting:
        yield from (without(job, NOT_REACHED) for job in group)


@dataclass
class _Running:
    """A process and what it has not sent yet."""

    process: BaseProcess
    cells: Connection
    remaining: list[Job]
    ended: bool = field(default=False)

    def received(self) -> Iterator[list[Cell]]:
        """What has come since the last time."""
        try:
            while self.cells.poll():
                cells: list[Cell] = self.cells.recv()
                self.remaining.pop(0)
                yield cells
        except EOFError:
            self.ended = True

    def unfinished(self) -> Iterator[list[Cell]]:
        """The jobs that the process owes, now that it has ended: the first of them ended it."""
        self.process.join()
        for number, job in enumerate(self.remaining):
            reason = f"{BROKEN} with exit code {self.process.exitcode}"
            yield without(job, reason if number == 0 else f"{NOT_REACHED}: {reason} at an earlier job")


def _start(group: Group, place: Place) -> _Running:
    # CUDA does not survive a fork.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(group, place, sender), daemon=True)
    process.start()
    sender.close()  # so that the end of the process ends the pipe
    return _Running(process, receiver, list(group))


def _work(group: Group, place: Place, cells: Connection) -> None:
    with suppress(BrokenPipeError):
        for number, job in enumerate(group, 1):
            cells.send(measure(job, place))
            if is_lost(place.device):
                for rest in group[number:]:
                    cells.send(without(rest, LOST))
                return
