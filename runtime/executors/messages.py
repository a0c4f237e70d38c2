"""What a worker says to the process that started it."""

from __future__ import annotations

from typing import NamedTuple

from evolution import Candidate


class Waiting(NamedTuple):
    """Everything is loaded; the evaluator may come."""


class Ready(NamedTuple):
    """The evaluator stands; candidates may come."""


class Broken(NamedTuple):
    """The evaluator cannot be made in a worker."""

    reason: str


class Done(NamedTuple):
    """A candidate with its result."""

    candidate: Candidate


class MachineFault(NamedTuple):
    """The disk is full or read-only: no fault of a candidate. Number and text as of an `OSError`."""

    number: int
    text: str


Message = Waiting | Ready | Broken | Done | MachineFault
