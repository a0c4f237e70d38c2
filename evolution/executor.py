"""What a search asks of whoever carries its evaluations out, and the simplest one: this process, one by one."""

from __future__ import annotations

import errno
import math
import time
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

from evolution.candidate import Candidate
from evolution.evaluator import Evaluator, Stop

MAX_REASON_CHARS = 500
"""Longest reason of a failure that is kept."""
FAULTS_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A full or read-only disk says nothing about a candidate."""


class Task(NamedTuple):
    """One evaluation to carry out.

    Attributes:
        candidate: as it was proposed.
        budget: training steps.
        stops: where it may be given up before, see `Evaluator.evaluate`.
    """

    candidate: Candidate
    budget: int
    stops: tuple[Stop, ...] = ()


@runtime_checkable
class Executor(Protocol):
    """Takes candidates that were proposed, gives them back evaluated.

    Every candidate that is submitted is given back once, with a score or with the reason why there is none. Whatever
    ends an executor ends the evaluations in flight; they are as if they had never been begun.
    """

    @property
    def workers(self) -> int:
        """How many candidates may be in flight."""
        ...

    def submit(self, task: Task) -> None:
        """Begin an evaluation. Called only while fewer than ``workers`` are in flight."""
        ...

    def results(self) -> list[Candidate]:
        """Wait for evaluations to end and give them back, at least one, in any order.

        Called only while some are in flight.

        Raises:
            OSError: where the disk is full or read-only.
        """
        ...


class InProcess:
    """Evaluates in this process, one after the other. A candidate that hangs or crashes takes the search with it.

    Args:
        evaluator: how to score.
    """

    workers = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        """Remember the task: its evaluation begins when results are asked for."""
        self._tasks.append(task)

    def results(self) -> list[Candidate]:
        """Evaluate what was submitted first."""
        return [evaluated(self._tasks.pop(0), self._evaluator)]


def evaluated(task: Task, evaluator: Evaluator) -> Candidate:
    """The candidate of ``task`` with the result of its evaluation, or with the reason why there is none.

    Raises:
        OSError: where the disk is full or read-only.
    """
    candidate, budget, stops = task
    begun = time.monotonic()
    metrics = dict(candidate.metrics)
    seconds = math.nan
    try:
        arguments = (stops,) if stops else ()  # an evaluator that knows of no stops is as good without rungs
        evaluation = evaluator.evaluate(candidate.backbone, candidate.seed, budget, *arguments)
        score, seconds = float(evaluation.score), float(evaluation.seconds)
        metrics |= {str(name): float(value) for name, value in evaluation.metrics.items()}
        reason = None if math.isfinite(score) else f"the score is {score}"
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FAULTS_OF_THE_MACHINE:
            raise
        # An evaluator may raise anything, or return it, and the search goes on
        score, reason = math.nan, f"{type(error).__name__}: {error}".rstrip(": ")
    if not math.isfinite(seconds):
        seconds = time.monotonic() - begun
    candidate = replace(candidate, metrics=metrics)
    if reason is not None:
        return failed(candidate, reason, seconds)
    return replace(candidate, status="ok", score=score, seconds=seconds)


def failed(candidate: Candidate, reason: str, seconds: float) -> Candidate:
    """``candidate`` without a score, for a reason."""
    # A message may hold what UTF-8 cannot, which the study could not store.
    reason = reason[:MAX_REASON_CHARS].encode("utf-8", "replace").decode()
    return replace(candidate, status="failed", reason=reason, seconds=seconds)
