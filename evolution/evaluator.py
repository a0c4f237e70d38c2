"""What a search asks of whoever scores its candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from graphir import Backbone


class Stop(NamedTuple):
    """Where a training may end early: after ``steps``, if the score is below ``score`` then."""

    steps: int
    score: float


def score_at(steps: int) -> str:
    """The metric that holds a candidate's score after ``steps``."""
    return f"score_at_{steps}"


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

    def evaluate(
        self, backbone: Backbone, seed: int, budget: int, stops: tuple[Stop, ...] = ()
    ) -> Evaluation:
        """Train ``backbone`` for ``budget`` steps and measure it.

        Where there are ``stops``, the score after the steps of each that is reached is a metric (`score_at`). Where it
        is below the stop's, the training ends: the score is that one, and the metric ``stopped_at`` says after how many
        steps. An evaluation that is not stopped has the score that it has without stops.

        Anything raised that is an `Exception` (`MemoryError` included) is recorded as the candidate's
        failure; `KeyboardInterrupt` and `SystemExit` end the search, and what was committed is kept.

        Args:
            backbone: the architecture.
            seed: for everything random in the evaluation; the same seed must give the same score.
            budget: training steps.
            stops: ascending in their steps. An evaluator is not given any where a search has no rungs.
        """
        ...
