"""Times of compiled and plain attention at a small size, to compare two versions of the compiler with.

What the project promises is measured at full size by `runtime.bench`; here nothing is asserted about time.
"""

from __future__ import annotations

import pytest
import torch

from codegen import compile_attention
from graphir import presets
from runtime.accuracy import allowed_errors, draw_inputs, judge, relative_errors
from runtime.eager import eager_function

SHAPE = (2, 4, 256, 32)
PRESETS = ("bert/1", "autobert-zero/4", "autobert-zero/10", "linear-attention", "linear-cosine-attention")


@pytest.mark.parametrize("form", ["generated", "eager"])
@pytest.mark.parametrize("name", PRESETS)
def test_forward_and_backward(benchmark, name, form):
    graph = presets.get(name)
    inputs = draw_inputs(graph, SHAPE)
    attention = compile_attention(graph, "torch") if form == "generated" else eager_function(graph)
    benchmark.group = name
    found = benchmark.pedantic(inputs.forward_backward, (attention,), rounds=5, warmup_rounds=1)

    # A time counts only where the result is right: judged as the benchmark does.
    truth = judge(graph, inputs)
    eager = relative_errors(inputs.forward_backward(eager_function(graph)), truth)
    limits = allowed_errors(eager, torch.float32)
    assert all(e <= limit for e, limit in zip(relative_errors(found, truth), limits, strict=True))


@pytest.mark.parametrize("name", ["bert/1", "autobert-zero/10"])
def test_compilation_of_a_graph_to_source(benchmark, name):
    preset = presets.get(name)

    def fresh():
        # Compiled graphs are kept by name: a new name is a new compilation.
        fresh.count += 1
        return (preset.renamed(f"{name}-{fresh.count}"), "torch"), {}

    fresh.count = 0
    compiled = benchmark.pedantic(compile_attention, setup=fresh, rounds=10)
    assert "scaled_dot_product_attention" in compiled.source
