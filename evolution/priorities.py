"""`Priorities`: which choice to try next, for every family of choices, and the forms that this can take.

The form of Gao et al. 2022 is ``u_i = mu_i + alpha * sqrt(2 ln N / N_i)`` and a softmax over the choices that fit, with
``mu_i`` the mean score of the candidates that contain choice i (see `evolution.priority`). Every other form is a field
of `PriorityForm`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, cast, get_args

import numpy as np

from evolution.candidate import Candidate
from evolution.census import Context, census_of
from evolution.choices import ChoiceSpace
from evolution.priority import DEFAULT_ALPHA, PLAIN_TEMPERATURE, OperationPriority, Scores, comparable
from graphir import InputError
from graphir.checks import check_number, excerpt

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
        census = census_of(history, space, form.context)
        scored = census.before[len(history)]
        scores = np.array(comparable(census.scores[:scored], form.scores))
        weights = np.ones(scored)
        if form.decay < 1.0:
            weights = np.array(
                [form.decay ** (len(history) - 1 - index) for index in census.indices[:scored]]
            )
        total, weight = census.contained.sums(weights * scores), census.contained.sums(weights)
        counts = census.drawn.sums(np.ones(len(history))) if form.counts == "draws" else weight
        means = {key: _mean(total[key], weight[key]) for key in total}
        plain: dict[str, OperationPriority] = {}
        for family, names in space.families.items():
            plain[family] = OperationPriority.from_statistics(
                names,
                {name: means[family, name] for name in names if (family, name) in means},
                {name: counts.get((family, name), 0.0) for name in names},
                form.alpha,
                form.temperature,
            )
        if form.context == "none":
            return cls(plain)
        here = census.placed.sums(weights * scores), census.placed.sums(weights)
        return cls(plain, form.context, _in_contexts(space, form, means, *here))

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


def _mean(total: float, weight: float) -> float:
    return total / weight if weight else 0.0  # where all weights have vanished


def _in_contexts(
    space: ChoiceSpace,
    form: PriorityForm,
    means: Mapping[Hashable, float],
    totals: Mapping[Hashable, float],
    weights: Mapping[Hashable, float],
) -> dict[tuple[str, Hashable], OperationPriority]:
    """The priority of every family in every context that was seen.

    Args:
        space: what has the families.
        form: how priorities are worked out.
        means: by (family, name), wherever it stands.
        totals: of scores, by (family, context, name).
        weights: by the same.
    """
    seen: dict[tuple[str, Hashable], dict[str, float]] = {}
    for key, weight in weights.items():
        family, context, name = cast(tuple[str, Hashable, str], key)
        seen.setdefault((family, context), {})[name] = weight
    priorities: dict[tuple[str, Hashable], OperationPriority] = {}
    for (family, context), here in seen.items():
        names = space.families[family]
        everywhere = {name: means[family, name] for name in names if (family, name) in means}
        optimistic = max(everywhere.values(), default=0.0)
        log_total = math.log(max(1.0, sum(here.values())))
        values = {}
        for name in names:
            count, prior = here.get(name, 0.0), everywhere.get(name, optimistic)
            total = totals.get((family, context, name), 0.0) + form.shrinkage * prior
            mean = total / (count + form.shrinkage) if count + form.shrinkage else prior
            values[name] = mean + form.alpha * math.sqrt(2 * log_total / max(1.0, count))
        priorities[family, context] = OperationPriority(values, form.temperature)
    return priorities
