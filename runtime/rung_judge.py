"""`RungJudge`: a candidate is judged in the middle of its training, and stopped where it is not worth the rest.

Scores at a rung must be comparable. So every candidate has the learning rates of the whole budget, whatever the rungs
are: after the steps of a rung all have had the same rates, and one that is not stopped ends with the very weights that
it has without rungs. (A rate that decays towards each rung would judge better there, and change what comes after.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import nn

from evolution import Stop
from evolution.candidate import STOPPED
from evolution.evaluator import score_at
from runtime.masking import MaskedBatch
from runtime.training import evaluate_mlm


class RungJudge:
    """Judges one candidate at its stops.

    Args:
        stops: where, and which scores are needed there.
        held_out: what is judged on: the same as at the end.

    Attributes:
        metrics: ``score_at_<steps>`` for each stop that was reached, ``stopped_at`` where the training was ended.
        ended: what `evaluate_mlm` gave where the training was ended; None where it was not.
    """

    def __init__(self, stops: Sequence[Stop], held_out: Sequence[MaskedBatch]) -> None:
        self.metrics: dict[str, float] = {}
        self.ended: dict[str, float] | None = None
        self._needed = {stop.steps: stop.score for stop in stops}
        self._held_out: Iterable[MaskedBatch] = held_out

    def of(self, model: nn.Module) -> Callable[[int], bool]:
        """What says after each step whether the training of ``model`` ends."""

        def ends(step: int) -> bool:
            needed = self._needed.get(step)
            if needed is None:
                return False
            judged = evaluate_mlm(model, self._held_out)
            score = -judged["loss"]
            self.metrics[score_at(step)] = score
            if score >= needed:
                return False
            self.ended = judged
            self.metrics[STOPPED] = float(step)
            return True

        return ends
