"""Graphs that every change of the compiler is tried on: 64 frozen ones, and a thousand that a seed gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from evolution import SearchSpace, random_graph
from graphir import AttentionGraph

FORMAT = "opnas.corpus/1"

THOUSAND_SEED = "a thousand random graphs"


class Entry(NamedTuple):
    """A graph of the corpus and the classes that it stands for."""

    graph: AttentionGraph
    classes: tuple[str, ...]


@cache
def corpus() -> tuple[Entry, ...]:
    """The 64 graphs of ``corpus.json``."""
    data = json.loads(Path(__file__).with_name("corpus.json").read_text(encoding="utf-8"))
    if data["format"] != FORMAT:
        raise ValueError(f"corpus.json has the format {data['format']!r}: {FORMAT!r} is read here")
    return tuple(
        Entry(AttentionGraph.from_dict(entry["graph"]), tuple(entry["classes"])) for entry in data["graphs"]
    )


@cache
def random_thousand() -> tuple[AttentionGraph, ...]:
    """A thousand random graphs of the default search space, no two of which are the same but for notation."""
    return tuple(graph for graph, _ in zip(_random_graphs(), range(1000), strict=False))


def sample_of_thousand(count: int, seed: int | str) -> list[AttentionGraph]:
    """``count`` of the `random_thousand`, drawn by ``seed``."""
    return Random(seed).sample(random_thousand(), count)


def _random_graphs() -> Iterator[AttentionGraph]:
    rng, seen = Random(THOUSAND_SEED), set()
    while True:
        graph = random_graph(rng, SearchSpace(), name=f"random-{len(seen)}")
        if graph.canonical_hash() not in seen:
            seen.add(graph.canonical_hash())
            yield graph
