"""Plans of kernels, on the corpus and the thousand: what is stored, how many kernels, which tier."""

from __future__ import annotations

import time
from inspect import signature

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from codegen import DEVICES, compile_attention, kernel_program, plan_kernels
from codegen.expr import SCORES
from graphir import AttentionGraph, presets
from tests.codegen.corpus import corpus, random_thousand
from tests.codegen.kernels import largest_errors

CHUNKS = 8
ALL = [entry.graph for entry in corpus()] + list(random_thousand())


def stored_squares(schedule):
    return sum(node.axes == SCORES for kernel in schedule.kernels for node in kernel.stores)


@pytest.mark.parametrize(
    "chunk", [c if c < CHUNKS // 2 else pytest.param(c, marks=pytest.mark.long) for c in range(CHUNKS)]
)
def test_every_graph_compiles_within_the_bounds_of_its_plan(chunk):
    for graph in ALL[chunk::CHUNKS]:
        program = kernel_program(graph)  # the checker sees both schedules
        compile(program.source, graph.name, "exec")
        plan = plan_kernels(program)
        squares = stored_squares(program.forward_schedule) + stored_squares(program.backward_schedule)
        assert (squares > 0) == (plan.tier == "3"), graph.equation()
        assert plan.quadratic_values == squares
        # One kernel a level forward, two backward, and one preparation each at most.
        for direction, levels, per_level in (
            ("forward", plan.forward_levels, 1),
            ("backward", plan.backward_levels, 2),
        ):
            kernels = plan.of(direction)
            preparations = sum(kernel.level == 0 for kernel in kernels)
            assert preparations <= 1, graph.equation()
            assert len(kernels) - preparations <= per_level * levels, graph.equation()


PAPER = [name for name in presets.names() if name.startswith(("autobert-zero/", "bert/"))]


@pytest.mark.parametrize("name", PAPER)
def test_attentions_of_the_paper_are_tier_1_with_one_kernel_forward_and_two_backward(name):
    plan = plan_kernels(kernel_program(presets.get(name)))
    assert plan.tier == "1"
    main = [
        [kernel for kernel in plan.of(direction) if kernel.level] for direction in ("forward", "backward")
    ]
    assert [len(kernels) for kernels in main] == [1, 2]
    assert all(kernel.loops == (True,) for kernels in main for kernel in kernels)
    assert len(plan.of("forward")) <= 2
    assert len(plan.of("backward")) <= 3


def test_linear_attentions_have_no_square_not_even_on_chip():
    for name in ("linear-attention", "linear-cosine-attention"):
        plan = plan_kernels(kernel_program(presets.get(name)))
        assert plan.tier == "L"
        for direction in ("forward", "backward"):
            assert plan.flops(8192, 64, direction=direction) < 2.01 * plan.flops(
                4096, 64, direction=direction
            )


LOOPS = {
    "softmax(Q @ K.T) @ V": 1,
    "softmax(softmax(Q @ K.T)) @ V": 2,
    "t = softmax(Q @ K.T); mul(softmax(t), softsign(t)) @ V": 2,
    "softmax(softmax(softmax(Q @ K.T))) @ V": 3,
    # The terms of the scores have a factor in common only after products are put in order.
    "w = softsign(Q @ V.T); softmax(mul(w, Q @ K.T) + mul(w, V @ K.T)) @ V": 1,
    # Both statistics are found in one loop, and neither can wait for the other.
    "mul(softmax(Q @ K.T), softmax(Q @ V.T)) @ V": 2,
    # The other factor depends on the statistic itself.
    "t = softmax(Q @ K.T); mul(t, softsign(t)) @ V": 2,
}


@pytest.mark.parametrize("text", LOOPS)
def test_a_product_joins_the_loop_of_its_softmax_when_all_else_is_known_before_it(text, fresh_seed):
    graph = AttentionGraph.from_expression(text)
    attention = compile_attention(graph, backend="triton")
    (kernel,) = attention.plan.of("forward")
    assert kernel.loops == (True,) * LOOPS[text]
    # A few hundred roundings of float32.
    assert max(largest_errors(graph, attention, fresh_seed)) <= 1e-4


class Allocations(TorchDispatchMode):
    """Counts the bytes of tokens x tokens tensors that are made."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens, self.bytes = tokens, 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        if function is torch.ops.aten.new_empty.default and tuple(out.shape[-2:]) == (
            self.tokens,
            self.tokens,
        ):
            self.bytes += out.numel() * out.element_size()
        return out


TIERS = {
    "L": "Q @ (softmax(K.T) @ V)",
    "1": "softmax(scale(Q @ K.T)) @ V",
    "2": "softmax(softmax(scale(Q @ K.T))) @ V",
    "3": "softsign(softmax(Q @ K.T) @ logsigmoid(K @ Q.T)) @ V",
}


@pytest.mark.parametrize("tier", TIERS)
def test_squares_take_as_many_bytes_as_the_plan_says(tier):
    attention = compile_attention(AttentionGraph.from_expression(TIERS[tier]), backend="triton")
    assert attention.plan.tier == tier
    inputs = torch.randn(3, 2, 3, 37, 8).unbind()
    leaves = [x.requires_grad_() for x in inputs]
    module = attention.function.__globals__
    arguments = {name: list(signature(module[name]).parameters) for name in ("forward", "backward")}
    with Allocations(37) as made:
        extra = (None, 0.0) if len(arguments["forward"]) > 4 else ()
        first = module["forward"](*(x.detach() for x in leaves), None, *extra)
        out, *kept = first if isinstance(first, tuple) else (first,)
        names = arguments["backward"][5 + len(extra) :]
        values = dict(zip([name for name in names if name != "out"], kept, strict=True)) | {"out": out}
        known = (*(x.detach() for x in leaves), None, *extra)
        module["backward"](out, *known, *(values[name] for name in names))
    assert made.bytes == attention.plan.quadratic_bytes(37, heads=3, batch=2, element_size=4)


def test_rendering_takes_less_than_a_tenth_of_a_second_for_the_graphs_of_the_paper():
    for name in PAPER:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert kernel_program(presets.get(name)).source
            times.append(time.perf_counter() - start)
        assert min(times) < 0.1, (name, times)


def test_operations_and_bytes_of_plain_attention_are_the_known_ones():
    plan = plan_kernels(kernel_program(presets.get("bert/1")))
    (kernel,) = plan.of("forward")
    tokens, head_dim = 1000, 64
    assert kernel.matrix_flops(tokens, head_dim) == 4 * tokens**2 * head_dim
    # q, k, v and the result in 16 bits; the two halves of a logsumexp in 32.
    assert plan.bytes_moved(tokens, head_dim, element_size=2) == 4 * tokens * head_dim * 2 + tokens * 2 * 4
    backward = sum(kernel.matrix_flops(tokens, head_dim) for kernel in plan.of("backward"))
    assert backward == 14 * tokens**2 * head_dim  # three products for dQ, four for dK and dV
    assert plan.saved_bytes(tokens, head_dim) == tokens * head_dim * 2 + tokens * 2 * 4


def test_the_plan_tells_its_kernels_its_roofline_and_what_it_stores():
    plan = plan_kernels(kernel_program(AttentionGraph.from_expression(TIERS["3"])))
    text = f"{plan}\n{plan.roofline(seq_len=2048)}"
    assert all(kernel.name in text for kernel in plan.kernels)
    assert all(name in text for name in DEVICES)
    assert "tier 3" in text
    assert "MiB a head at 1,024 tokens" in text
    times = [plan.seconds(DEVICES["A100"], tokens, 64) for tokens in (1024, 2048)]
    assert 6 <= times[1] / times[0] <= 9  # a product of two squares is cubic
