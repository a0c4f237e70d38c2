"""What the loop asks of a strategy, and what it gets: a proposal."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from random import Random
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from evolution.candidate import Candidate, Mutation
from evolution.choices import ChoiceSpace
from evolution.space import SearchSpace
from graphir import Backbone
from graphir.checks import check_whole

T = TypeVar("T")

DEFAULT_POPULATION = 15
"""Random backbones at the start of a search of some forty candidates (assumed)."""
REMEMBERED = 8
"""So many results that follow from a history are kept, the latest ones."""


class Proposal(NamedTuple):
    """A backbone to evaluate, and where it came from: both None for a random one."""

    backbone: Backbone
    parent: int | None = None
    mutation: Mutation | None = None


class Strategy(Protocol):
    """What the loop asks of a strategy. A strategy is also a frozen dataclass of plain numbers and names."""

    name: ClassVar[str]

    def horizon(self, index: int) -> int:
        """How many of the first candidates have results that proposal ``index`` may look at.

        All proposals with one horizon can be evaluated at the same time.
        """
        ...

    def propose(
        self, history: Sequence[Candidate], index: int, rng: Random, space: SearchSpace | ChoiceSpace
    ) -> Proposal:
        """Proposal ``index``, drawn from ``rng``. Only ``history[:horizon(index)]`` is looked at."""
        ...


def check_counts(strategy: object, *names: str) -> None:
    """Refuse fields that are no whole numbers of at least 1."""
    for name in names:
        check_whole(getattr(strategy, name), name)


_results: dict[Hashable, tuple[list[Candidate], Any, Any]] = {}


def remembered(
    key: Hashable, space: ChoiceSpace, history: Sequence[Candidate], work_out: Callable[[], T]
) -> T:
    """``work_out()``, which follows from ``key``, ``space`` and ``history`` alone, or its result of the last time.

    All proposals of a generation see one history. What follows from it, such as priorities, is worked out once, and
    a strategy is still without state. (Comparing histories that hold the same objects takes microseconds.)
    """
    earlier = recalled(key, space, history)
    if earlier is not None:
        return earlier[0]
    result = work_out()
    _results.pop(key, None)
    while len(_results) >= REMEMBERED:
        del _results[next(iter(_results))]
    _results[key] = list(history), space, result
    return result


def recalled(key: Hashable, space: ChoiceSpace, history: Sequence[Candidate]) -> tuple[Any] | None:
    """What `remembered` has kept for these; None where it has nothing (any more)."""
    if key not in _results:
        return None
    seen, known, result = _results[key]
    return (result,) if known == space and seen == list(history) else None
