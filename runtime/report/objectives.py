"""What candidates cost beside their score, and which of them no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from evolution import Candidate
from graphir import Backbone, Layer
from graphir.cost import Cost, backbone_cost
from graphir.devices import DEVICES, roofline_seconds
from runtime.run_config import RunConfig

DEVICE = DEVICES["H100"]
"""The device of roofline latencies."""
_BYTES_A_NUMBER = 2


@dataclass(frozen=True)
class Objective:
    """A number to be small, for every candidate that has a score.

    Attributes:
        name: as a metric is called.
        title: for people: of what, and where it comes from.
        unit: of the values; empty for counts.
        values: by index of the candidate.
    """

    name: str
    title: str
    unit: str
    values: dict[int, float]


def objectives_of(candidates: Sequence[Candidate], config: RunConfig) -> tuple[Objective, ...]:
    """Parameters, operations and roofline latency, as the evaluation recorded them, else from the cost of the graph;
    then a latency that was measured, and what else the search minimised.

    Args:
        candidates: those that have a score.
        config: the proxy's length and batch are those of the pass that is counted.
    """
    proxy = config.proxy
    tokens = proxy.seq_len if proxy.latency_tokens is None else proxy.latency_tokens
    size = f"a pass of {proxy.batch_size} x {tokens} tokens"

    def recorded(name: str) -> dict[int, float] | None:
        values = {c.index: c.metrics.get(name, math.nan) for c in candidates}
        return values if values and all(map(math.isfinite, values.values())) else None

    costs = {c.index: cost_of(c.backbone, tokens, proxy.batch_size) for c in candidates}
    table: dict[str, tuple[str, str, Callable[[Cost], float]]] = {
        "parameters": ("of all layers, without embeddings", "", lambda cost: cost.parameters),
        "operations": (f"of {size}", "", lambda cost: cost.flops),
        "latency": (f"roofline of {size} on {DEVICE.name}", "s", lambda cost: roofline_seconds(cost, DEVICE)),
    }
    found = []
    for name, (title, unit, counted) in table.items():
        values = recorded(name)
        if values is not None:
            found.append(Objective(name, "as recorded with the evaluation", unit, values))
        elif name != "latency" or recorded("roofline_ms") is None:
            values = {index: counted(cost) for index, cost in costs.items()}
            found.append(Objective(name, title, unit, values))
    milliseconds = {
        "roofline_ms": f"roofline of {size} on {proxy.latency_device}, of attention by the plan of its kernels",
        "latency_ms": "measured where the search ran",
    }
    for name, title in milliseconds.items():
        values = recorded(name)
        if values is not None:
            found.append(Objective(name, title, "s", {index: ms / 1e3 for index, ms in values.items()}))
    known = {objective.name for objective in found}
    for wanted in config.strategy_settings.get("objectives", ()):
        name = wanted.removeprefix("-")
        values = recorded(name)
        if wanted.startswith("-") and name not in known and values is not None:
            found.append(Objective(name, "an objective of the search", "", values))
    return tuple(found)


def pareto_front(candidates: Sequence[Candidate], objective: Objective) -> tuple[Candidate, ...]:
    """The candidates that no other one beats in score without costing more, or in cost without scoring less.

    Of several that are equal in both, the earliest. The cheapest comes first.
    """
    front: list[Candidate] = []
    best = -math.inf
    for candidate in sorted(candidates, key=lambda c: (objective.values[c.index], -_score(c), c.index)):
        if _score(candidate) > best:
            front.append(candidate)
            best = _score(candidate)
    return tuple(front)


def cost_of(backbone: Backbone, seq_len: int, batch: int) -> Cost:
    """The cost of all layers, numbers counted at 2 bytes. A child shares all layers but one with its parent."""
    total = Cost()
    sizes = (backbone.hidden_size, backbone.heads, backbone.ffn_size)
    for layer in backbone.layers:
        total += _layer_cost(layer, *sizes, seq_len, batch)
    return total


@lru_cache(maxsize=65_536)
def _layer_cost(layer: Layer, hidden: int, heads: int, ffn: int, seq_len: int, batch: int) -> Cost:
    return backbone_cost(Backbone((layer,), hidden, heads, ffn), seq_len, batch, _BYTES_A_NUMBER)


def _score(candidate: Candidate) -> float:
    return -math.inf if candidate.score is None else candidate.score
