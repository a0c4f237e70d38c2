"""Generated kernels, forward and backward, run by Triton's interpreter on CPU tensors and built ahead of time."""

from dataclasses import replace
from random import Random

import pytest
import torch

from codegen import compile_attention
from codegen.check_schedule import check_schedule, check_schedules
from codegen.expr import AXIS_SEQ
from codegen.pointwise import FUNCTIONS
from codegen.schedule import ScheduleError
from codegen.triton_functions import TRITON_FUNCTIONS
from codegen.triton_program import triton_program
from evolution import SearchSpace, random_graph
from graphir import AttentionGraph, presets
from tests.codegen.kernels import largest_errors

CLASSES = [
    "rms_norm(Q @ K.T) @ V",
    "mul(Q, K) + rms_norm(K.T).T",
    "euclidean_distance(Q, K) @ (V + V)",
    "V @ softmax(euclidean_distance(Q.T, K.T)) @ Q.T @ K",
    "Q @ cosine_similarity(Q.T, K.T)",
    "relu_squared(sub(Q, K))",
    "tanh(Q @ K.T) @ sigmoid(V) + abs(Q)",
    "t = Q @ K.T; softmax(t) @ (t.T @ V)",
    "mul(Q @ K.T, K @ Q.T) @ V",
    "softmax(softmax(Q @ K.T).T) @ V",
    "t = scale(Q @ K.T); euclidean_distance(t, t.T) @ V",
    "t = scale(K.T @ V); Q @ euclidean_distance(t, t.T)",
    "Q + -Q",
    "softmax(Q @ -Q.T) @ softmax(Q @ K.T) @ (V + K)",
    "t = softmax(Q @ K.T); t @ t @ V",
    "softsign(softmax(Q @ K.T) @ logsigmoid(K @ Q.T)) @ V",
]
"""One graph a class: no softmax, column softmax, two softmaxes in a row, products of two S x S values, D x D values,
sums over S with a result of D x D, cosine, euclid, one input in both roles, a zero."""

GRAPHS = {
    graph.equation(): graph
    for graph in [
        *(presets.get(name) for name in presets.names() if isinstance(presets.get(name), AttentionGraph)),
        *map(AttentionGraph.from_expression, CLASSES),
    ]
}


@pytest.mark.parametrize("equation", GRAPHS)
def test_kernels_agree_with_the_reference_in_float32(equation, fresh_seed):
    graph = GRAPHS[equation]
    attention = compile_attention(graph, backend="triton")
    # A few hundred roundings of float32; distances of near rows and their gradients amplify them most.
    assert max(largest_errors(graph, attention, fresh_seed)) <= 1e-4, f"OPNAS_TEST_SEED={fresh_seed}"


@pytest.mark.parametrize(("tokens", "head_dim"), [(1, 8), (16, 24), (50, 64)])
@pytest.mark.parametrize("name", ["autobert-zero/10", "linear-attention"])
def test_lengths_and_head_dimensions_need_not_fit_the_tiles(name, tokens, head_dim, fresh_seed):
    graph = presets.get(name)
    attention = compile_attention(graph, backend="triton")
    errors = largest_errors(graph, attention, fresh_seed, tokens=tokens, head_dim=head_dim)
    assert max(errors) <= 1e-4, f"OPNAS_TEST_SEED={fresh_seed}"


PARTIAL_SUMS = {
    "softmax over S": "Q @ (softmax(K.T) @ V)",
    "distances of columns": "Q @ euclidean_distance(K.T, V.T)",
    "cosines of columns": "Q @ cosine_similarity(K.T, V.T)",
    "a count of tokens": "rms_norm(softsign(K).T).T",
    "nothing is zero at padded rows": "Q @ (sigmoid(K).T @ sigmoid(V))",
}


@pytest.mark.parametrize("programs", [1, 12])
@pytest.mark.parametrize("name", PARTIAL_SUMS)
def test_a_program_may_add_up_several_blocks(name, programs, fresh_seed, monkeypatch):
    graph = AttentionGraph.from_expression(PARTIAL_SUMS[name])
    attention = compile_attention(graph, backend="triton")
    module = attention.function.__globals__
    monkeypatch.setitem(module, "PROGRAMS", programs)
    # Six sequences, of five blocks and a part: in one chunk, or in two of three blocks.
    assert module["_chunk"](90, 6, 16) == {1: 96, 12: 48}[programs]
    assert any(kernel.kernel.chunked for kernel in triton_program(graph).forward.kernels)
    assert max(largest_errors(graph, attention, fresh_seed, tokens=90)) <= 1e-4


SHORT = {
    name: presets.get(name)
    for name in ("bert/1", "autobert-zero/4", "linear-attention", "linear-cosine-attention")
} | {
    text: AttentionGraph.from_expression(text)
    for text in (
        "softmax(-(Q @ K.T)) @ V",
        "softmax(-scale(-euclidean_distance(Q, K)) + -(Q @ K.T)) @ V",
        "softmax((-scale(Q @ K.T)).T).T @ V",
        "softmax(softmax(scale(Q @ K.T)) + -scale(Q @ K.T)) @ softmax(-V)",
    )
}
"""Softmaxes over both axes: of scores, of negated ones, of sums, and of what is held whole."""


@pytest.mark.parametrize("name", SHORT)
def test_kernels_are_right_in_float16(name, fresh_seed):
    graph = SHORT[name]
    attention = compile_attention(graph, backend="triton")
    # Products of float16 operands: sixteen roundings of 2^-11.
    errors = largest_errors(graph, attention, fresh_seed, dtype=torch.float16)
    assert max(errors) <= 16 * 2**-11, f"OPNAS_TEST_SEED={fresh_seed}"


def test_large_scores_make_no_nan():
    graph = presets.get("autobert-zero/2")
    attention = compile_attention(graph, backend="triton")
    q, k = torch.randn(2, 1, 1, 40, 8, generator=torch.Generator().manual_seed(0)).unbind()
    mask = torch.ones(1, 40, dtype=torch.bool)
    mask[:, 30:] = False
    q, k = (100 * q).requires_grad_(), (100 * k).requires_grad_()
    out = attention(q, k, None, mask)
    out.sum().backward()
    assert all(x.isfinite().all() for x in (out, q.grad, k.grad))


# -- schedules


def test_every_random_graph_has_a_schedule_that_keeps_the_rules(fresh_seed):
    rng = Random(fresh_seed)
    for _ in range(150):
        graph = random_graph(rng, SearchSpace())
        program = triton_program(graph)  # checks both schedules
        compile(program.source, "generated", "exec")


def test_the_attentions_of_the_paper_take_one_kernel_forward_and_two_backward():
    for name in presets.names():
        if name.startswith(("autobert-zero/", "bert/")):
            program = triton_program(presets.get(name))
            forward = [kernel for kernel in program.forward_schedule.kernels if kernel.level]
            backward = [kernel for kernel in program.backward_schedule.kernels if kernel.level]
            # One preparation each at most, one loop each.
            assert (len(forward), len(backward)) == (1, 2), name
            assert len(program.forward_schedule.kernels) <= 2, name
            assert len(program.backward_schedule.kernels) <= 3, name
            assert {number for kernel in forward + backward for number in kernel.passes.values()} == {0}, name


def test_no_square_of_s_is_stored_where_none_is_multiplied_with_another():
    for graph in GRAPHS.values():
        program = triton_program(graph)
        stored = program.forward_schedule.stored | program.backward_schedule.stored
        squares = [node for node in stored if node.axes.count(AXIS_SEQ) == 2]
        both_square = ("logsigmoid(K @ Q.T)", "t1 = scale(Q @ K.T); euclidean_distance(t1, t1.T)")
        multiplies_squares = any(text in graph.equation() for text in both_square)
        assert bool(squares) == multiplies_squares, graph.equation()


def test_values_that_are_read_twice_at_every_step_are_scheduled_in_no_time():
    # 2^18 ways lead from the last value to the first one.
    steps = "".join(f"t{n + 1} = softsign(t{n} + t{n}.T); " for n in range(18))
    text = f"t0 = softsign(Q @ K.T); {steps}mul(softmax(Q @ V.T), t18) @ V"
    assert triton_program(AttentionGraph.from_expression(text))


def broken(schedule, kernel=-1, **changes):
    kernels = list(schedule.kernels)
    kernels[kernel] = replace(kernels[kernel], **changes)
    return replace(schedule, kernels=tuple(kernels))


def faulty_schedules():
    # A softmax over columns: its statistic is needed at another instance, so a kernel of its own computes it.
    forward = triton_program(AttentionGraph.from_expression("softmax(Q @ K.T).T @ V")).forward_schedule
    column = triton_program(AttentionGraph.from_expression("softmax((Q @ K.T).T).T @ V")).forward_schedule
    plain = triton_program(presets.get("bert/1"))
    (kernel,) = plain.forward_schedule.kernels
    twice = triton_program(AttentionGraph.from_expression("softmax(softmax(Q @ K.T)) @ V")).forward_schedule
    (rows,) = twice.kernels
    squares = triton_program(AttentionGraph.from_expression(CLASSES[-1])).forward_schedule
    pairs = next(n for n, kernel in enumerate(squares.kernels) if kernel.paired)
    statistic = next(iter(kernel.passes))
    split = forward if len(forward.kernels) > 1 else column
    return {
        "nothing is broken": (plain.forward_schedule, False),
        "nothing is broken in two kernels": (split, False),
        "a value that a loop reads is not stored": (broken(split, 0, stores=frozenset()), True),
        "kernels in the wrong order": (replace(split, kernels=split.kernels[::-1]), True),
        "a kernel left out": (replace(split, kernels=split.kernels[1:]), True),
        "a value written twice": (replace(split, kernels=(*split.kernels, split.kernels[0])), True),
        "a result that is not written": (broken(plain.forward_schedule, stores=frozenset({statistic})), True),
        "a loop that must not be shared": (broken(plain.forward_schedule, merged={}), True),
        "a sum that joins a loop and runs in another": (
            broken(plain.forward_schedule, passes=dict(zip(kernel.computes, (0, 1), strict=True))),
            True,
        ),
        "a loop that shares what it has not found yet": (
            broken(twice, passes=dict.fromkeys(rows.passes, 0)),
            True,
        ),
        "a list of what is stored that is not kept": (
            replace(plain.forward_schedule, stored=frozenset({statistic})),
            True,
        ),
        "pairs of blocks that belong to no program": (broken(squares, pairs, paired=False), True),
        "a sum without a loop": (broken(plain.forward_schedule, passes={statistic: 0}), True),
        "a value computed before what it needs": (
            broken(plain.forward_schedule, computes=kernel.computes[::-1]),
            True,
        ),
        "a residual left out": (
            replace(plain.backward_schedule, given=plain.backward_schedule.given - {statistic}),
            True,
        ),
        "no input given": (replace(plain.backward_schedule, given=frozenset()), True),
        "a sum that joins another's loop": (
            broken(plain.forward_schedule, merged={statistic: statistic}),
            True,
        ),
        "a result that nobody computes": (broken(plain.forward_schedule, computes=(statistic,)), True),
    }


@pytest.mark.parametrize("fault", faulty_schedules())
def test_the_checker_refuses_a_broken_schedule_and_no_other(fault):
    schedule, is_broken = faulty_schedules()[fault]
    if is_broken:
        with pytest.raises(ScheduleError):
            check_schedule(schedule)
    else:
        check_schedule(schedule)


def test_the_checker_refuses_a_backward_that_is_given_what_the_forward_does_not_store():
    program = triton_program(presets.get("bert/1"))
    forward, backward = program.forward_schedule, program.backward_schedule
    check_schedules(forward, backward)
    out = forward.roots["out"].node
    forgetful = replace(broken(forward, stores=frozenset({out})), stored=frozenset({out}))
    check_schedule(forgetful)
    with pytest.raises(ScheduleError, match="the forward does not store"):
        check_schedules(forgetful, backward)


def test_every_pointwise_function_is_written_in_triton():
    assert set(TRITON_FUNCTIONS) == set(FUNCTIONS) - {"dropout"}
