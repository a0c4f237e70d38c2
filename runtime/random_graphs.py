"""Fresh random graphs to measure: what a search draws, and not what anybody picked."""

from __future__ import annotations

from random import Random

from evolution import SearchSpace, random_graph
from graphir import EXTENDED_OPERATIONS, PAPER_OPERATIONS, AttentionGraph
from graphir.checks import check_whole


def random_graphs(count: int, seed: int = 0, extended: bool = False) -> tuple[AttentionGraph, ...]:
    """``count`` random attention graphs, no two of which mean the same; the same seed gives the same graphs.

    Args:
        count: how many, at least 1; the first ones of a larger count.
        seed: of the draw.
        extended: draw from the extended set of operations instead of the paper's.

    Raises:
        InputError: for a count below 1.

    Example:
        >>> few, more = random_graphs(2, seed=5), random_graphs(3, seed=5)
        >>> more[:2] == few, more[2].name
        (True, 'random-2')
    """
    check_whole(count, "the number of random graphs")
    space = SearchSpace(operations=EXTENDED_OPERATIONS if extended else PAPER_OPERATIONS)
    rng = Random(f"benchmark/{seed}")
    distinct: dict[str, AttentionGraph] = {}
    while len(distinct) < count:
        graph = random_graph(rng, space, name=f"random-{len(distinct)}")
        distinct.setdefault(graph.canonical_hash(), graph)
    return tuple(distinct.values())
