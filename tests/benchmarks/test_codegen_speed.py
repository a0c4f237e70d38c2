"""How long a graph takes to become a function: a search compiles every candidate."""

from __future__ import annotations

from itertools import count

import pytest

from codegen import backbone_source, compile_attention
from graphir import AttentionGraph, presets

GRAPHS = {
    graph.canonical_hash(): graph
    for graph in map(presets.get, reversed(presets.names()))
    if isinstance(graph, AttentionGraph)
}.values()
LIMIT = 0.020
"""Seconds."""


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_a_preset_compiles_within_20_milliseconds(benchmark, graph):
    numbers = count()

    def fresh():  # functions are kept by graph and name: a new name is compiled anew
        return (graph.renamed(f"{graph.name} {next(numbers)}"),), {}

    compiled = benchmark.pedantic(compile_attention, setup=fresh, rounds=30, warmup_rounds=2)
    assert compiled.plan.steps
    assert benchmark.stats["median"] < LIMIT


@pytest.mark.parametrize("name", ["bert", "autobert-zero"])
def test_a_backbone_is_written_within_100_milliseconds(benchmark, name):
    source = benchmark.pedantic(backbone_source, (presets.get(name),), rounds=10, warmup_rounds=1)
    assert "class Model" in source
    assert benchmark.stats["median"] < 5 * LIMIT
