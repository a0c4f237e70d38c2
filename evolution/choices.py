"""`ChoiceSpace`: all that a strategy knows of what it searches, backbones of graphs or the rows of a table.

A strategy never looks into an architecture. It sees that an architecture is made of named choices, each of a family
(an operation inside a layer, the kind of a layer, its kernel size), and it asks the space for random architectures,
for mutations whose new choices are drawn by priority, and for crossovers. So the strategies that search backbones are
the very ones that are replayed on tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from evolution.candidate import Mutation
    from evolution.priorities import Priorities


class Choice(NamedTuple):
    """One decision of an architecture.

    Attributes:
        family: what is decided, a key of `ChoiceSpace.families`, such as "operation".
        name: what was chosen, such as "softmax".
        position: where: the number of the layer or of the slot, from 0.
        neighbour: what stands beside it, as the space defines it: for an operation the one that uses its result.
    """

    family: str
    name: str
    position: int = 0
    neighbour: str = ""


class ChoiceSpace(Protocol):
    """Architectures made of choices. Architectures are immutable values of a type that the space alone knows."""

    @property
    def families(self) -> Mapping[str, tuple[str, ...]]:
        """The names that can be chosen, by family."""
        ...

    def random(self, rng: Random) -> Any:
        """A random architecture."""
        ...

    def choices(self, architecture: Any) -> tuple[Choice, ...]:
        """Every choice in an architecture."""
        ...

    def mutated(self, architecture: Any, rng: Random, priorities: Priorities) -> tuple[Any, Mutation]:
        """Another architecture with one change, new choices drawn by ``priorities``, and what was done."""
        ...

    def crossed(self, one: Any, other: Any, rng: Random) -> tuple[Any, Mutation] | None:
        """A child between two architectures, on a shortest way from one to the other, that is neither of them.

        None where there is none, or where none was found.
        """
        ...

    def costs(self, architecture: Any) -> Mapping[str, float]:
        """What is known without an evaluation, such as "parameters"."""
        ...
