"""Who is told how a pretraining goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StepRecord:
    """A step that is done.

    Attributes:
        step: how many are done.
        steps: how many there will be.
        loss: mean cross-entropy at the hidden tokens, in nats.
        norm: of the gradient, before clipping.
        learning_rate: of this step.
        tokens_per_second: learnt from lately, all processes together.
        seconds_left: to the last step, at this speed.
    """

    step: int
    steps: int
    loss: float
    norm: float
    learning_rate: float
    tokens_per_second: float
    seconds_left: float


class PretrainingReporter(Protocol):
    """Who is told of progress. Nothing that a reporter does changes a weight."""

    def note(self, text: str) -> None:
        """Something that takes time begins, or something is not as expected."""
        ...

    def step(self, record: StepRecord) -> None:
        """A step is done; on a GPU some are told of together."""
        ...

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The model was judged on held-out text after so many steps: ``loss`` and ``accuracy``."""
        ...


class Silent:
    """A reporter that tells nobody."""

    def note(self, text: str) -> None:
        """Nothing."""

    def step(self, record: StepRecord) -> None:
        """Nothing."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""
