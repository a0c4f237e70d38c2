"""Strategies: what to propose next, given the history. One table, one loop for all (`evolution.search`).

A strategy holds fields but no state. A proposal follows from the history, the random source and the index
alone, so a search that was killed goes on exactly where it stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from random import Random
from typing import Any, ClassVar, NamedTuple, Protocol, get_args

from evolution.candidate import Candidate, Mutation, ranking
from evolution.generation import random_backbone
from evolution.mutation import mutate_backbone
from evolution.priority import DEFAULT_ALPHA, OperationPriority, Scores
from evolution.space import SearchSpace
from graphir import Backbone, InputError
from graphir.checks import check_number, check_whole, excerpt
from graphir.validation import nearest

DEFAULT_POPULATION = 15
"""Random backbones at the start of a search of some forty candidates (assumed)."""
DEFAULT_TEMPERATURE = 0.5
"""Of the softmax over priorities of standardised scores (assumed).

An operation stands in about half of all candidates, so its mean is a part of a deviation away from the others'. Where
the means of two operations lie half a deviation apart, the better one is drawn e times as often."""


class Proposal(NamedTuple):
    """A backbone to evaluate, and where it came from: both None for a random one."""

    backbone: Backbone
    parent: int | None = None
    mutation: Mutation | None = None


class Strategy(Protocol):
    """What the loop asks of a strategy. A strategy is also a frozen dataclass of plain numbers."""

    name: ClassVar[str]

    def horizon(self, index: int) -> int:
        """How many of the first candidates have results that proposal ``index`` may look at.

        All proposals with one horizon can be evaluated at the same time.
        """
        ...

    def propose(self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace) -> Proposal:
        """Proposal ``index``, drawn from ``rng``. Only ``history[:horizon(index)]`` is looked at."""
        ...


@dataclass(frozen=True)
class OperationPriorityEvolution:
    """OP-NAS, Gao et al. 2022: generations of children of the best, operations drawn by priority.

    ``population`` random backbones, then generations: each of the ``parents`` best candidates so far gets
    ``children`` mutated children. Where fewer have succeeded than there should be parents, those there are
    take turns; where none has, the proposal is a random backbone.

    Attributes:
        population: random backbones at the start (M; assumed). Few, since a search of an hour on two cores evaluates
            some hundred candidates: what is not random is what the strategy is for.
        parents: parents of a generation (K; assumed).
        children: children of a parent (C; assumed). One: a generation is short, so that priorities are new.
        alpha: weight of exploration in the operation priority (assumed).
        temperature: of the softmax over priorities; lower is greedier (assumed).
        scores: of what scores priorities are taken, "standardised" (assumed) or "raw". The paper's form is "raw" with
            temperature 1.
    """

    population: int = DEFAULT_POPULATION
    parents: int = 5
    children: int = 1
    alpha: float = DEFAULT_ALPHA
    temperature: float = DEFAULT_TEMPERATURE
    scores: Scores = "standardised"
    name: ClassVar[str] = "opnas"

    def __post_init__(self) -> None:
        _check_counts(self, "population", "parents", "children")
        check_number(self.alpha, "alpha")
        check_number(self.temperature, "temperature", above=True)
        if self.scores not in get_args(Scores):
            raise InputError(f"scores must be {' or '.join(get_args(Scores))}, not {excerpt(self.scores)}")

    def horizon(self, index: int) -> int:
        """Zero for the random start, then the candidates of earlier generations."""
        if index < self.population:
            return 0
        return self.population + self._generation(index) * self.parents * self.children

    def propose(self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace) -> Proposal:
        """A child of this index's parent, or a random backbone."""
        visible = history[: self.horizon(index)]
        best = sorted((c for c in visible if c.ok), key=ranking)[: self.parents]
        if not best:
            return Proposal(random_backbone(rng, space))
        turn = (index - self.population) % (self.parents * self.children) // self.children
        return _child(best[turn % len(best)], rng, space, self.priority(visible, space))

    def priority(self, history: Sequence[Candidate], space: SearchSpace) -> OperationPriority:
        """The operation priority after ``history``."""
        return OperationPriority.from_candidates(
            history, space.operations, self.alpha, self.temperature, self.scores
        )

    def _generation(self, index: int) -> int:
        return (index - self.population) // (self.parents * self.children)


@dataclass(frozen=True)
class RandomSearch:
    """Independent random backbones: the baseline that everything must beat."""

    name: ClassVar[str] = "random"

    def horizon(self, index: int) -> int:
        """Zero: results do not matter."""
        return 0

    def propose(self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace) -> Proposal:
        """A random backbone."""
        return Proposal(random_backbone(rng, space))


@dataclass(frozen=True)
class RegularizedEvolution:
    """Regularised (ageing) evolution, Real et al. 2019, with operations drawn uniformly.

    The population are the last candidates that succeeded, so the oldest dies however good it is. A parent is
    the best of a random sample of it. Where none has succeeded, the proposal is a random backbone.

    Attributes:
        population: size of the population, and number of random backbones at the start (assumed; the source has 100
            of 20,000 evaluations).
        tournament: size of the sample (assumed; the source has 25 of 100).
        batch: proposals made from one state of the population; 1 is the method as published, more lets that
            many be evaluated at the same time.
    """

    population: int = DEFAULT_POPULATION
    tournament: int = 5
    batch: int = 1
    name: ClassVar[str] = "evolution"

    def __post_init__(self) -> None:
        _check_counts(self, "population", "tournament", "batch")
        if self.tournament > self.population:
            raise InputError(f"tournament {self.tournament} is above population {self.population}")

    def horizon(self, index: int) -> int:
        """Zero for the random start, then the candidates before this batch."""
        if index < self.population:
            return 0
        return index - (index - self.population) % self.batch

    def propose(self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace) -> Proposal:
        """A child of a tournament's winner, or a random backbone."""
        alive = [c for c in history[: self.horizon(index)] if c.ok][-self.population :]
        if not alive:
            return Proposal(random_backbone(rng, space))
        winner = min(rng.sample(alive, min(self.tournament, len(alive))), key=ranking)
        return _child(winner, rng, space, OperationPriority.uniform(space.operations))


STRATEGIES: dict[str, type[OperationPriorityEvolution] | type[RandomSearch] | type[RegularizedEvolution]] = {
    strategy.name: strategy for strategy in (OperationPriorityEvolution, RandomSearch, RegularizedEvolution)
}
"""Every strategy by name."""


def make_strategy(name: str, **settings: Any) -> Strategy:
    """The strategy called ``name`` with its fields.

    Raises:
        InputError: for an unknown name or field, with the nearest known ones, or a value out of bounds.

    Example:
        >>> make_strategy("opnas", population=20).horizon(20)
        20
    """
    if name not in STRATEGIES:
        raise InputError(f"unknown strategy {name[:60]!r}; {nearest(name, STRATEGIES)}")
    known = [f.name for f in fields(STRATEGIES[name])]
    for setting in settings:
        if setting not in known:
            hint = nearest(setting, known) if known else "it has none"
            raise InputError(f"strategy {name!r} has no field {setting[:60]!r}; {hint}")
    return STRATEGIES[name](**settings)


def describe_strategy(strategy: Any) -> dict[str, Any]:
    """Name and fields, ready for JSON."""
    return {"name": strategy.name, **asdict(strategy)}


def _child(parent: Candidate, rng: Random, space: SearchSpace, priority: OperationPriority) -> Proposal:
    backbone, mutation = mutate_backbone(parent.backbone, rng, space, priority)
    return Proposal(backbone, parent.index, mutation)


def _check_counts(strategy: object, *names: str) -> None:
    for name in names:
        check_whole(getattr(strategy, name), name)
