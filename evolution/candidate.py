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
        kind: key of the mutation in `evolution.GRAPH_MUTATIONS` or `evolution.LAYER_MUTATIONS`.
        description: the change in words.
        operation: the operation that was drawn by priority, or None where none was drawn.
        layer: number of the changed layer, from 1; None for a graph on its own.
    """

    kind: str
    description: str
    operation: str | None = None
    layer: int | None = None

    def __str__(self) -> str:
        return self.description if self.layer is None else f"layer {self.layer}: {self.description}"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Mutation:
        """Read what `to_dict` wrote. Raises `ValueError` for anything else."""
        names = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            raise ValueError(f"a mutation is an object with {', '.join(sorted(names))}")
        for name, value in data.items():
            optional = name in ("operation", "layer") and value is None
            if not optional and (not isinstance(value, int if name == "layer" else str)):
                raise ValueError(f"{name} of a mutation must not be {str(value)[:40]!r}")
        return cls(**data)


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


def ranking(candidate: Candidate) -> tuple[float, int]:
    """A sort key: best score first, the earlier of equals first. For candidates that have a score."""
    if candidate.score is None:
        raise ValueError(f"candidate {candidate.index} has no score: rank those with status 'ok'")
    return -candidate.score, candidate.index
