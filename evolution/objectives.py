"""Several objectives: what they are called, which direction is good, and the Pareto front of a study."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evolution.backbone_choices import choice_space
from evolution.candidate import Candidate
from evolution.choices import ChoiceSpace
from evolution.pareto import Vector, first_front
from evolution.space import SearchSpace
from graphir import InputError
from graphir.checks import excerpt

DEFAULT_OBJECTIVES = ("score", "-parameters")
"""The better and the smaller."""


def check_objectives(objectives: object) -> tuple[str, ...]:
    """Objectives as a tuple of different names, each with a ``-`` in front where less is better.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_objectives(["score", "-parameters", "-latency"])
        ('score', '-parameters', '-latency')
    """
    if not isinstance(objectives, list | tuple) or not objectives:
        raise InputError('objectives must be a list of names such as "score" and "-parameters"')
    for objective in objectives:
        if not isinstance(objective, str) or not objective.removeprefix("-").strip():
            raise InputError(
                f"an objective is a name, with - in front to minimise it, not {excerpt(objective)}"
            )
    names = [objective.removeprefix("-") for objective in objectives]
    if len(set(names)) < len(names):
        raise InputError(f"objectives {', '.join(objectives)} repeat a name: list each once")
    return tuple(objectives)


def objective_vectors(
    candidates: Sequence[Candidate], objectives: Sequence[str], space: SearchSpace | ChoiceSpace
) -> list[Vector]:
    """The objectives of candidates that succeeded, each made the better the larger.

    A name is "score", a metric of the evaluation, or a cost that the space knows ("parameters", "flops"), looked for
    in this order. A candidate without a metric that others have, or whose metric is no number, is the worst in it.

    Raises:
        InputError: where no candidate has a metric of that name, and the space no such cost.
    """
    choices = choice_space(space)
    columns = []
    for objective in objectives:
        name, sign = objective.removeprefix("-"), -1.0 if objective.startswith("-") else 1.0
        values = [c.score if name == "score" else c.metrics.get(name) for c in candidates]
        if any(value is None for value in values):  # costs are worked out where nobody has recorded them
            values = [
                choices.costs(c.backbone).get(name) if v is None else v
                for c, v in zip(candidates, values, strict=True)
            ]
        if candidates and all(value is None for value in values):
            costs = choices.costs(candidates[0].backbone)
            known = sorted({"score"}.union(*(c.metrics for c in candidates), costs))
            raise InputError(f"no candidate has the objective {name!r}: there are {', '.join(known)}")
        columns.append([-math.inf if v is None or math.isnan(v) else sign * v for v in values])
    return list(zip(*columns, strict=True))


def pareto_front(
    candidates: Sequence[Candidate], objectives: Sequence[str], space: SearchSpace | ChoiceSpace
) -> list[Candidate]:
    """The candidates that no other one beats in every objective, in the order of proposal.

    Args:
        candidates: those without a score are left out.
        objectives: names as `objective_vectors` takes them.
        space: what knows the costs.

    Raises:
        InputError: for objectives that do not exist.
    """
    alive = [c for c in candidates if c.ok]
    vectors = objective_vectors(alive, check_objectives(objectives), space)
    return [alive[i] for i in first_front(vectors)]
