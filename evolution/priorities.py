"""`Priorities`: which choice to try next, for every family of choices, and the forms that this can take.

The form of Gao et al. 2022 is ``u_i = mu_i + alpha * sqrt(2 ln N / N_i)`` and a softmax over the choices that fit, with
``mu_i`` the mean score of the candidates that contain choice i (see `evolution.priority`). Every other form is a field
of `PriorityForm`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Literal, get_args

from evolution.candidate import Candidate
from evolution.choices import Choice, ChoiceSpace
from evolution.priority import DEFAULT_ALPHA, PLAIN_TEMPERATURE, OperationPriority, Scores, comparable
from evolution.tally import Tally
from graphir import InputError
from graphir.checks import check_number, excerpt

Context = Literal["none", "position", "neighbour"]
"""Whether a choice has one priority ("none", as the paper has it) or one at each position or beside each neighbour."""
Counts = Literal["draws", "candidates"]
"""What ``N_i`` counts: how often mutation drew the choice, as the paper has it, or the candidates that contain it."""


@dataclass(frozen=True)
class PriorityForm:
    """How priorities are worked out of a history.

    Attributes:
        alpha: weight of exploration (assumed).
        temperature: of the softmax over priorities; lower is greedier (assumed).
        scores: of what scores ``mu_i`` is the mean: raw, standardised, or by their ranks.
        counts: what ``N_i`` counts. In a context it is always the candidates.
        context: of what a priority is taken apart.
        decay: weight of a candidate against the next younger one, in (0, 1]; 1 forgets nothing, as the paper has it.
        shrinkage: in a context, the mean of a choice is taken as if so many more candidates had the mean that the
            choice has anywhere, so that a choice which was seen there once is not judged by that.

    Raises:
        InputError: for a value out of bounds.
    """

    alpha: float = DEFAULT_ALPHA
    temperature: float = PLAIN_TEMPERATURE
    scores: Scores = "standardised"
    counts: Counts = "draws"
    context: Context = "none"
    decay: float = 1.0
    shrinkage: float = 1.0

    def __post_init__(self) -> None:
        check_number(self.alpha, "alpha")
        check_number(self.temperature, "temperature", above=True)
        check_number(self.shrinkage, "shrinkage")
        check_number(self.decay, "decay", high=1.0, above=True)
        for name, allowed in (("scores", Scores), ("counts", Counts), ("context", Context)):
            value, known = getattr(self, name), get_args(allowed)
            if value not in known:
                raise InputError(
                    f"{name} must be {', '.join(known[:-1])} or {known[-1]}, not {excerpt(value)}"
                )


@dataclass(frozen=True)
class Priorities:
    """A priority for every family of choices, and for each context of it where there are contexts.

    Attributes:
        plain: by family. A family that is missing is drawn from uniformly.
        context: what a context is.
        placed: by family and context; where one is missing, the plain one stands for it.
    """

    plain: Mapping[str, OperationPriority]
    context: Context = "none"
    placed: Mapping[tuple[str, Hashable], OperationPriority] = field(default_factory=dict)

    @classmethod
    def uniform(cls) -> Priorities:
        """Everything that fits is drawn alike."""
        return cls({})

    @classmethod
    def from_history(cls, history: Sequence[Candidate], space: ChoiceSpace, form: PriorityForm) -> Priorities:
        """The priorities after ``history``. Candidates that failed have no score and count only as draws."""
        scored = [c for c in history if c.score is not None]
        scores = comparable([c.score for c in scored if c.score is not None], form.scores)
        weights = [form.decay ** (len(history) - 1 - c.index) for c in scored]
        tally = Tally()
        placed: dict[tuple[str, Hashable], Tally] = {}
        for candidate, score, weight in zip(scored, scores, weights, strict=True):
            choices = space.choices(candidate.backbone)
            tally.add(_contained(choices), score, weight)
            if form.context != "none":
                for family, context, name in _placed(choices, form.context):
                    placed.setdefault((family, context), Tally()).add((name,), score, weight)
        draws = _draws(history)
        plain: dict[str, OperationPriority] = {}
        for family, names in space.families.items():
            means = {name: tally.mean((family, name)) for name in names if (family, name) in tally}
            if form.counts == "draws":
                counts = {name: draws.get((family, name), 0.0) for name in names}
            else:
                counts = {name: tally.weight((family, name)) for name in names}
            plain[family] = OperationPriority.from_statistics(
                names, means, counts, form.alpha, form.temperature
            )
        return cls(plain, form.context, _in_contexts(space, form, tally, placed))

    def of(self, family: str, position: int = 0, neighbour: str = "") -> OperationPriority | None:
        """The priority that holds there; None where everything is alike."""
        if self.context != "none":
            found = self.placed.get((family, position if self.context == "position" else neighbour))
            if found is not None:
                return found
        return self.plain.get(family)

    def draw(
        self, rng: Random, family: str, fitting: Sequence[str], position: int = 0, neighbour: str = ""
    ) -> str:
        """One of ``fitting``."""
        priority = self.of(family, position, neighbour)
        return rng.choice(fitting) if priority is None else priority.draw(rng, fitting)


# A history is gone through once a generation, and most of it was gone through before.
@lru_cache(maxsize=65_536)
def _contained(choices: tuple[Choice, ...]) -> frozenset[tuple[str, str]]:
    """Family and name of every choice."""
    return frozenset((c.family, c.name) for c in choices)


@lru_cache(maxsize=65_536)
def _placed(choices: tuple[Choice, ...], context: Context) -> frozenset[tuple[str, Hashable, str]]:
    """Family, context and name of every choice."""
    places: list[Hashable] = [c.position if context == "position" else c.neighbour for c in choices]
    return frozenset((c.family, place, c.name) for c, place in zip(choices, places, strict=True))


def _draws(history: Iterable[Candidate]) -> Counter[tuple[str, str]]:
    """How often mutation drew each choice."""
    draws: Counter[tuple[str, str]] = Counter()
    for candidate in history:
        if candidate.mutation is not None:
            draws.update(candidate.mutation.draws)
    return draws


def _in_contexts(
    space: ChoiceSpace, form: PriorityForm, tally: Tally, placed: Mapping[tuple[str, Hashable], Tally]
) -> dict[tuple[str, Hashable], OperationPriority]:
    """The priority of every family in every context that was seen."""
    priorities: dict[tuple[str, Hashable], OperationPriority] = {}
    for (family, context), here in placed.items():
        names = space.families[family]
        everywhere = {name: tally.mean((family, name)) for name in names if (family, name) in tally}
        optimistic = max(everywhere.values(), default=0.0)
        log_total = math.log(max(1.0, sum(map(here.weight, here))))
        values = {}
        for name in names:
            count, prior = here.weight(name), everywhere.get(name, optimistic)
            total = here.total(name) + form.shrinkage * prior
            mean = total / (count + form.shrinkage) if count + form.shrinkage else prior
            values[name] = mean + form.alpha * math.sqrt(2 * log_total / max(1.0, count))
        priorities[family, context] = OperationPriority(values, form.temperature)
    return priorities
