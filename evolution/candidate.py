"""`Candidate`: a backbone with its evaluation, and the `Mutation` that made it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from graphir import Backbone


@dataclass(frozen=True)
class Mutation:
    """One change of a backbone or graph.

    Attributes:
        kind: key of the mutation in `evolution.GRAPH_MUTATIONS` or `evolution.LAYER_MUTATIONS`, or "crossover".
        description: the change in words.
        operation: the operation that was drawn by priority, or None where none was drawn.
        layer: number of the changed layer, from 1; None for a graph on its own, and for a crossover.
        drawn: what else was drawn by priority, as (family, name), such as ("kernel_size", "65").
        mate: index of the second parent of a crossover; None for anything else.
    """

    kind: str
    description: str
    operation: str | None = None
    layer: int | None = None
    drawn: tuple[tuple[str, str], ...] = ()
    mate: int | None = None

    @property
    def draws(self) -> tuple[tuple[str, str], ...]:
        """All that was drawn by priority, as (family, name)."""
        operation = () if self.operation is None else (("operation", self.operation),)
        return (*operation, *self.drawn)

    def __str__(self) -> str:
        return self.description if self.layer is None else f"layer {self.layer}: {self.description}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON. ``drawn`` and ``mate`` are left out where they hold nothing, as in older studies."""
        data = asdict(self)
        data["drawn"] = [list(choice) for choice in self.drawn]
        return {name: value for name, value in data.items() if name not in _LATER or value not in ([], None)}

    @classmethod
    def from_dict(cls, data: Any) -> Mutation:
        """Read what `to_dict` wrote. Raises `ValueError` for anything else."""
        names = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or not names - _LATER <= set(data) <= names:
            raise ValueError(f"a mutation is an object with {', '.join(sorted(names))}")
        values = dict(data)
        values["drawn"] = _choices(values.get("drawn", []))
        for name, value in data.items():
            optional = name in ("operation", "layer", "mate") and value is None
            kind = int if name in ("layer", "mate") else str
            if name != "drawn" and not optional and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ValueError(f"{name} of a mutation must not be {str(value)[:40]!r}")
        return cls(**values)


_LATER = {"drawn", "mate"}
"""Fields that the first studies do not have."""


def _choices(data: Any) -> tuple[tuple[str, str], ...]:
    pairs = data if isinstance(data, list) else [data]
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(name, str) for name in pair):
            raise ValueError("'drawn' of a mutation is a list of pairs of names")
    return tuple((family, name) for family, name in pairs)


@dataclass(frozen=True)
class Candidate:
    """One entry of a study.

    Attributes:
        index: position in the study, from 0; the order of proposal.
        backbone: the architecture.
        canonical_hash: ``backbone.canonical_hash()``.
        fingerprint: what `evolution.identity.fingerprint` gives for the backbone.
        seed: the seed that its evaluation was given.
        parent: index of the candidate that it was made from; None for a random one.
        mutation: how it was made from its parent; None for a random one.
        status: "proposed" before its evaluation (no study holds such a one), then "ok", or "failed" where the
            evaluation raised or its score was not finite.
        score: the score; None without one.
        metrics: further numbers by name.
        seconds: wall-clock time of the evaluation.
        reason: why it failed; None where it did not.
    """

    index: int
    backbone: Backbone
    canonical_hash: str
    fingerprint: str
    seed: int
    parent: int | None = None
    mutation: Mutation | None = None
    status: Literal["proposed", "ok", "failed"] = "proposed"
    score: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it has a score."""
        return self.status == "ok"

    @cached_property
    def operations(self) -> frozenset[str]:
        """Names of the operations in its attention graphs."""
        return frozenset(node.op for graph in self.backbone.graphs for node in graph.nodes)


STOPPED = "stopped_at"
"""The metric of a candidate that was not worth its whole budget: the steps after which it was stopped."""


def ranking(candidate: Candidate) -> tuple[bool, float, int]:
    """A sort key: best score first, the earlier of equals first. For candidates that have a score.

    Whatever was stopped (`evolution.rungs`) stands behind all that finished: it was judged earlier.
    """
    if candidate.score is None:
        raise ValueError(f"candidate {candidate.index} has no score: rank those with status 'ok'")
    return STOPPED in candidate.metrics, -candidate.score, candidate.index
