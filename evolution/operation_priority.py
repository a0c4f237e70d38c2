"""OP-NAS, and what it is without its priorities or without its exploration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from evolution.backbone_choices import choice_space
from evolution.candidate import Candidate
from evolution.census import Context
from evolution.choices import ChoiceSpace
from evolution.generations import Generations
from evolution.priorities import Counts, Priorities, PriorityForm
from evolution.priority import DEFAULT_ALPHA, OperationPriority, Scores
from evolution.space import SearchSpace

DEFAULT_TEMPERATURE = 0.5
"""Of the softmax over priorities of standardised scores (assumed).

An operation stands in about half of all candidates, so its mean is a part of a deviation away from the others'. Where
the means of two operations lie half a deviation apart, the better one is drawn e times as often."""
GREEDY_TEMPERATURE = 0.05
"""Of the ablation without exploration (assumed): the choice of the highest mean is drawn nearly always."""


@dataclass(frozen=True)
class OperationPriorityEvolution(Generations):
    """OP-NAS, Gao et al. 2022: generations of children of the best, choices drawn by priority.

    Two levels of mutation: inside a layer, where operations are drawn by priority, and between layers, where kinds of
    layers and kernel sizes are. The paper's form of the priorities is ``scores="raw"`` with ``temperature=1``; what is
    marked so below goes beyond it.

    Attributes:
        alpha: weight of exploration in the priority (assumed).
        temperature: of the softmax over priorities; lower is greedier (assumed).
        scores: of what scores priorities are taken, "standardised" (assumed), "raw", or "ranked" (beyond the paper).
        counts: what ``N_i`` counts: "draws", or the "candidates" that contain the choice (beyond the paper).
        context: whether a choice has one priority, "none", or (beyond the paper) one at each "position" or beside each
            "neighbour".
        decay: weight of a candidate against the next younger one; 1 as the paper has it.
        shrinkage: in a context, candidates that a choice is held to have had there with its mean elsewhere.
    """

    alpha: float = DEFAULT_ALPHA
    temperature: float = DEFAULT_TEMPERATURE
    scores: Scores = "standardised"
    counts: Counts = "draws"
    context: Context = "none"
    decay: float = 1.0
    shrinkage: float = 1.0
    name: ClassVar[str] = "opnas"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.form

    @property
    def form(self) -> PriorityForm:
        """The form of the priorities.

        Raises:
            InputError: for a value out of bounds.
        """
        return PriorityForm(
            self.alpha,
            self.temperature,
            self.scores,
            self.counts,
            self.context,
            self.decay,
            self.shrinkage,
        )

    def priorities(self, history: Sequence[Candidate], space: SearchSpace | ChoiceSpace) -> Priorities:
        """The priorities of all families of choices after ``history``."""
        return Priorities.from_history(history, choice_space(space), self.form)

    def priority(self, history: Sequence[Candidate], space: SearchSpace) -> OperationPriority:
        """The operation priority after ``history``, whatever the context."""
        return self.priorities(history, space).plain["operation"]


@dataclass(frozen=True)
class GreedyEvolution(OperationPriorityEvolution):
    """OP-NAS without exploration: no bonus, and a temperature that nearly always takes the best mean. An ablation."""

    alpha: float = 0.0
    temperature: float = GREEDY_TEMPERATURE
    name: ClassVar[str] = "greedy"


@dataclass(frozen=True)
class UniformEvolution(Generations):
    """The loop of OP-NAS with every choice drawn uniformly: what its priorities must beat. An ablation."""

    name: ClassVar[str] = "uniform"


@dataclass(frozen=True)
class CrossoverEvolution(Generations):
    """The loop of OP-NAS, half of the children by crossover along the shortest edit path, mutation drawn uniformly.

    Qiu and Miikkulainen 2023, one step beyond the paper, which has mutation alone. ``opnas`` takes ``crossover`` as
    well, and then draws its mutations by priority.
    """

    crossover: float = 0.5
    name: ClassVar[str] = "crossover"
