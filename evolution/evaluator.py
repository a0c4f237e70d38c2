"""What a search asks of whoever scores its candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from graphir import Backbone


@dataclass(frozen=True)
class Evaluation:
    """The result of training and testing one backbone.

    Attributes:
        score: what the search maximises; a score that is not finite counts as a failure.
        metrics: further numbers by name, kept in the study and shown to people.
        seconds: wall-clock time that the evaluation took.
    """

    score: float
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Evaluator(Protocol):
    """Scores a backbone. How, and where, is not the business of the search."""

    def evaluate(self, backbone: Backbone, seed: int, budget: int) -> Evaluation:
        """Train ``backbone`` for ``budget`` steps and measure it.

        Anything raised that is an `Exception` (`MemoryError` included) is recorded as the candidate's
        failure; `KeyboardInterrupt` and `SystemExit` end the search, and what was committed is kept.

        Args:
            backbone: the architecture.
            seed: for everything random in the evaluation; the same seed must give the same score.
            budget: training steps.
        """
        ...
