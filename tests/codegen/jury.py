"""A jury over the stages of the compiler: who first objects to what it makes of a graph, and why."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch

from codegen import check_schedule, plan_kernels, triton_program
from codegen.algebra import Builder
from codegen.derive import GRADIENT
from codegen.expr import Pointwise, topological
from codegen.generated import load_source
from codegen.lower import RULES, lower
from codegen.schedule import ScheduleError
from codegen.tiles.check import TileError
from graphir import AttentionGraph, reference
from tests.codegen.dense import evaluate_dense
from tests.codegen.kernels import largest_errors

JURORS = CHECKER, TILES, ALGEBRA, PLAN, KERNELS, DROPOUT, SHORT = (
    *("checker", "checker of tiles", "algebra", "plan", "kernels", "dropout"),
    "kernels in 16 bits",
)
"""The jurors, in the order in which they are asked: the checkers of schedules and of tile programs; a dense evaluator
of the scheduled expressions; what a plan is known to be; the kernels in Triton's interpreter; their dropout; their
form in 16 bits."""


class Known(NamedTuple):
    """What the plan of a graph must say: the loops of each kernel of the forward, how many kernels the backward has,
    and the bytes that the forward moves for a head of 1,000 tokens, 64 columns and 16 bits."""

    loops: tuple[int, ...]
    backward: int
    bytes: int


def objection(text: str, known: Known | None = None, last: str = SHORT) -> tuple[str, str] | None:
    """The first juror to object to what is compiled for ``text``, and the reason; None where all to the ``last`` one
    accept it.

    Nothing but the checkers' own refusal counts as an objection of the compiler: another exception is raised.
    """
    graph = AttentionGraph.from_expression(text)
    try:
        program = triton_program.triton_program(graph)
    except ScheduleError as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename != check_schedule.__file__:
            raise
        return CHECKER, str(error)
    except TileError as error:
        return TILES, str(error)
    for name, error in _algebra_errors(graph, program):
        # Reordered sums of float64, amplified by exponentials.
        if not error <= 1e-9:
            return ALGEBRA, f"{name} is off by {error:.1e}"
    if known and (found := _plan(program)) != known:
        return PLAN, f"{found} instead of {known}"
    if JURORS.index(last) < JURORS.index(KERNELS):
        return None
    attention = load_source(program.source, "kernels", operators=True).attention
    # Two programs a sequence: the partial sums of two blocks, and of one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(attention.__globals__, "PROGRAMS", 6)
        # A few hundred roundings of float32.
        if (worst := max(largest_errors(graph, attention, seed=2, heads=1))) > 1e-4:
            return KERNELS, f"results are off by {worst:.1e}"
    if JURORS.index(last) < JURORS.index(DROPOUT):
        return None
    if reason := _dropout_fault(graph, program, attention):
        return DROPOUT, reason
    # Products of float16 operands: sixteen roundings of 2^-11.
    if (
        last == SHORT
        and (worst := max(largest_errors(graph, attention, seed=4, dtype=torch.float16))) > 2**-7
    ):
        return SHORT, f"results are off by {worst:.1e}"
    return None


def _algebra_errors(graph, program) -> Iterator[tuple[str, float]]:
    """Errors of the result and of each gradient, relative to their scale, for one head without padding."""
    drawn = np.random.default_rng(1).standard_normal((4, 6, 4))
    q, k, v, grad = (x[None, None] for x in drawn)
    values = dict(zip([*"QKV", GRADIENT], drawn, strict=True))
    expected = {"out": reference.evaluate(graph, q, k, v)}
    expected |= {name.lower(): x for name, x in reference.gradients(graph, grad, q, k, v).items()}
    roots = {**program.forward_schedule.roots, **program.backward_schedule.roots}
    for name, truth in expected.items():
        found = evaluate_dense(roots[name], values) if name in roots else 0.0
        yield name, np.abs(found - truth).max() / max(1.0, np.abs(truth).max())


def _plan(program) -> Known:
    plan = plan_kernels(program)
    loops = tuple(len(kernel.loops) for kernel in plan.of("forward"))
    return Known(loops, len(plan.of("backward")), plan.bytes_moved(1000, 64, element_size=2))


def _dropout_fault(graph, program, attention) -> str:
    """What is wrong under dropout; empty where nothing is."""
    builder = Builder()
    softmaxes = {
        node
        for node in topological(lower(graph, builder, RULES).node)
        if isinstance(node, Pointwise) and node.function == "dropout"
    }
    fields = set(re.findall(r"_keep\(seed_ptr, (\d+),", program.source))
    if len(fields) != len(softmaxes):
        return f"{len(fields)} masks for {len(softmaxes)} different softmaxes"
    error = _slope_error(graph, attention)
    # Rounding of float32 over the step of the differences, with room to spare.
    return f"a gradient is off by {error:.1e}" if not error <= 1e-3 else ""


def _slope_error(graph, attention) -> float:
    """Of the gradient under dropout by central differences of fourth order, the worst of two heads."""
    generator = torch.Generator().manual_seed(3)
    probe, *drawn = torch.randn(7, 1, 2, 21, 8, generator=generator).unbind()
    inputs, directions = dict(zip("QKV", drawn[:3], strict=True)), dict(zip("QKV", drawn[3:], strict=True))

    def losses(values):
        torch.manual_seed(5)
        out = attention(*(values.get(name) for name in "QKV"), None, 0.4)
        return (out.double() * probe).sum((2, 3))

    def moved(step):
        return losses({name: inputs[name] + step * directions[name] for name in graph.inputs})

    leaves = {name: inputs[name].clone().requires_grad_() for name in graph.inputs}
    losses(leaves).sum().backward()
    products = torch.stack([x.grad.double() * directions[name] for name, x in leaves.items()])
    h = 1e-2
    slopes = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    return float(((slopes - products.sum((0, 3, 4))).abs() / products.abs().sum((0, 3, 4))).max())
