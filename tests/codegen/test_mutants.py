"""Faults put into the compiler on purpose: each is caught by the schedule checker or by a comparison of results.

A fault is one programmer's mistake in one place. Without it all jurors accept the graph, so a fault that changes
nothing fails its test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from triton.runtime.errors import InterpreterError

from codegen import algebra, contract, derive, lower, schedule, tile_writer, tiles, triton_attention
from codegen.algebra import Builder
from codegen.contract import order_contractions
from codegen.dense import evaluate_dense
from codegen.derive import GRADIENT, SLOPES
from codegen.expr import MINUS, ONE, SCORES, Coefficient, Contraction, Distance, Linear, LogSumExp, Use
from codegen.pointwise import FUNCTIONS
from codegen.rendering import load_source
from codegen.schedule import ScheduleError
from codegen.triton_attention import triton_program
from graphir import AttentionGraph, reference
from tests.codegen.kernels import largest_errors

PLAIN = "softmax(scale(Q @ K.T)) @ V"
LINEAR = "Q @ (softmax(K.T) @ V)"
COLUMN = "softmax(scale(Q @ K.T).T).T @ V"
TWICE = "softmax(softmax(scale(Q @ K.T)).T) @ V"
ROWS = "softmax(scale(Q @ softsign(logsigmoid(K)).T)) @ (V + Q + Q)"
PRODUCT = "softsign(softmax(Q @ K.T) @ logsigmoid(K @ Q.T)) @ V"
COSINE = "softmax(cosine_similarity(Q, K)) @ V"
EUCLID = "softmax(-euclidean_distance(Q, K)) @ V"
UNPADDED = "euclidean_distance(logsigmoid(Q @ K.T), sigmoid(K @ V.T)) @ V"
SCALED = "(scale(logsigmoid(Q @ K.T)) + scale(softsign(K @ V.T))) @ V"
GATED = "mul(softmax(Q @ K.T), relu(softmax(Q @ K.T))) @ V"
TANH = "tanh(sigmoid(Q)) @ K.T @ V"
SUMMED = "logsigmoid(scale(Q @ K.T) + scale(K @ V.T)) @ V"

TOKENS, HEAD_DIM = 37, 8  # two whole tiles of the interpreter's 16 and a part


def verdict(text):
    """Who objects to the compiled graph: the checker, the algebra, the kernels or dropout; None where nobody does."""
    graph = AttentionGraph.from_expression(text)
    try:
        program = triton_program(graph)
    except ScheduleError:
        return "checker"
    if not algebra_is_right(graph):
        return "algebra"
    attention = load_source(program.source, "attention", importable=True).attention
    try:
        # A few hundred roundings of float32.
        if max(largest_errors(graph, attention, seed=2, heads=1)) > 1e-4:
            return "kernels"
    except (NameError, InterpreterError):  # a value that was not handed on; shapes that do not fit, NaN
        return "kernels"
    return None if dropout_is_one_mask(attention) else "dropout"


def algebra_is_right(graph):
    """The expression form, forward and backward, against the reference; float64."""
    builder = Builder()
    root = order_contractions(lower.lower(graph, builder, lower.KERNEL_RULES), builder)
    gradients = derive.derive(root, builder)
    rng = np.random.default_rng(1)
    values = dict(zip([*"QKV", GRADIENT], rng.standard_normal((4, 5, 3)), strict=True))
    q, k, v, grad = (values[name][None, None] for name in [*"QKV", GRADIENT])
    pairs = [(root, reference.evaluate(graph, q, k, v))]
    pairs += [
        (gradients[name], truth)
        for name, truth in reference.gradients(graph, grad, q, k, v).items()
        if name in gradients
    ]
    # Reordered sums of float64.
    return all(np.abs(evaluate_dense(use, values) - truth).max() <= 1e-10 for use, truth in pairs)


def dropout_is_one_mask(attention):
    """A result that is linear in V equals V times its own gradient, if forward and backward drop the same entries."""
    q, k, v, probe = torch.randn(
        4, 1, 2, TOKENS, HEAD_DIM, generator=torch.Generator().manual_seed(3)
    ).unbind()
    if not torch.allclose(2 * attention(q, k, v), attention(q, k, 2 * v), rtol=1e-5):
        return True  # not linear in V
    v.requires_grad_()
    torch.manual_seed(0)
    out = (attention(q, k, v, dropout_p=0.4).double() * probe).sum()
    (gradient,) = torch.autograd.grad(out, [v])
    product = gradient.double() * v
    return abs(product.sum() - out).item() <= 1e-5 * product.abs().sum().item()


# -- the faults


@dataclass(frozen=True)
class Fault:
    """A mistake: how it is made, and on which graph it must show."""

    graph: str
    make: Callable[[pytest.MonkeyPatch], None]


def in_text(old, new):
    """The generated source with a mistake."""

    def make(patch):
        original = triton_attention.render

        def render(template, **values):
            text = original(template, **values)
            assert old in text, f"the generated source has no {old!r}"
            return text.replace(old, new)

        patch.setattr(triton_attention, "render", render)

    return make


def in_table(table, key, value):
    return lambda patch: patch.setitem(table, key, value)


def in_module(module, name, value):
    return lambda patch: patch.setattr(module, name, value)


def in_schedule(change):
    """Every schedule with a mistake; ``change`` gives the broken kernels."""

    def make(patch):
        original = triton_attention.make_schedule

        def make_schedule(*arguments, **options):
            made = original(*arguments, **options)
            return replace(made, kernels=tuple(change(list(made.kernels))))

        patch.setattr(triton_attention, "make_schedule", make_schedule)

    return make


def in_adjoint(kind, faulty):
    """What a node of one kind adds to its operands' adjoints."""
    original = derive._contributions

    def contributions(node, total, builder):
        if isinstance(node, kind):
            yield from faulty(node, total, builder, list(original(node, total, builder)))
        else:
            yield from original(node, total, builder)

    return in_module(derive, "_contributions", contributions)


def negated(node, total, builder, right):
    return [(operand, builder.scaled(MINUS, value, operand.axes)) for operand, value in right]


def without_coefficients(node, total, builder, right):
    return [(use.node, derive._summed_to(use, [total], node.axes, builder)) for _, use in node.terms]


def first_only(node, total, builder, right):
    return right[:1]


def far_added(node, total, builder, right):
    """The other row added instead of subtracted."""
    kinds = (*node.axes, node.summed)
    inverse = builder.pointwise("inverse_or_zero", Use(node, (0, 1)), node.axes)
    weight = builder.contraction([total, inverse], node.axes, ())
    for use, other in ((node.left, node.right), (node.right, node.left)):
        near, far = (derive._summed_to(use, [weight, x], kinds, builder) for x in (use, other))
        yield use.node, builder.linear([(ONE, near), (ONE, far)], use.node.axes)


def slope(name):
    return lambda builder, x, y, axes: builder.pointwise(name, x, axes)


def _without_signs(terms_of):
    def flat_terms(outer, use):
        return [(Coefficient(abs(c.number), c.scales), operand) for c, operand in terms_of(outer, use)]

    return flat_terms


def _common_factor_without_signs(self, terms, original=Builder._common_factor):
    found = original(self, terms)
    if found is None:
        return None
    factor, rest = found
    return factor, [(Coefficient(abs(c.number), c.scales), use) for c, use in rest]


def _split_without_scalar(self, use, original=Builder._split_scalar):
    return ONE, original(self, use)[1]


def _never_transposed(part, labels, original=tiles.aligned):
    source = original(part, labels)
    return part.source if source.startswith("tl.trans") else source


def drop_stores(kernels):
    return [replace(kernels[0], stores=frozenset()), *kernels[1:]]


def no_merging(kernels):
    return [replace(kernel, merged={}) for kernel in kernels]


def one_loop(kernels):
    return [replace(kernel, passes=dict.fromkeys(kernel.passes, 0)) for kernel in kernels]


def unpaired(kernels):
    return [replace(kernel, paired=False) for kernel in kernels]


def forget_last(kernels):
    return [replace(kernel, computes=kernel.computes[:-1]) for kernel in kernels]


FAULTS = {
    # derivatives
    "the slope of softsign is softsign": Fault(ROWS, in_table(SLOPES, "softsign", slope("softsign"))),
    "the slope of logsigmoid forgets to negate": Fault(
        ROWS, in_table(SLOPES, "logsigmoid", slope("sigmoid"))
    ),
    "the slope of tanh is tanh": Fault(TANH, in_table(SLOPES, "tanh", slope("tanh"))),
    "the slope of sigmoid lacks its square": Fault(
        TANH, in_table(SLOPES, "sigmoid", lambda b, x, y, axes: y)
    ),
    "the slope of an inverse norm is the inverse norm": Fault(
        COSINE, in_table(SLOPES, "inverse_norm", slope("inverse_norm"))
    ),
    "the adjoint of a logsumexp has the wrong sign": Fault(PLAIN, in_adjoint(LogSumExp, negated)),
    "the adjoint of a logsumexp is left out": Fault(PLAIN, in_adjoint(LogSumExp, lambda *_: [])),
    "the adjoint of a sum forgets its coefficients": Fault(PLAIN, in_adjoint(Linear, without_coefficients)),
    "the adjoint of a product reaches only the first factor": Fault(
        PLAIN, in_adjoint(Contraction, first_only)
    ),
    "the adjoint of a distance adds the other row": Fault(EUCLID, in_adjoint(Distance, far_added)),
    "the adjoint of a distance reaches only the left rows": Fault(EUCLID, in_adjoint(Distance, first_only)),
    # algebra and lowering
    "sums lose their signs": Fault(
        EUCLID, in_module(algebra, "flat_terms", _without_signs(algebra.flat_terms))
    ),
    "a common factor leaves the signs behind": Fault(
        PLAIN, in_module(Builder, "_common_factor", _common_factor_without_signs)
    ),
    "a common scalar is applied twice": Fault(
        SCALED, in_module(Coefficient, "over", lambda self, other: self)
    ),
    "a scalar is lost on its way out of a product": Fault(
        "scale(Q) @ K.T @ V", in_module(Builder, "_split_scalar", _split_without_scalar)
    ),
    "scale does nothing": Fault(PLAIN, in_table(lower.KERNEL_RULES, "scale", lambda b, axes, x: x)),
    "the transpose of a square is forgotten": Fault(
        COLUMN,
        in_table(
            lower.KERNEL_RULES, "transpose", lambda b, axes, x: x if axes == SCORES else algebra.transpose(x)
        ),
    ),
    "cosine normalises only the left rows": Fault(
        COSINE,
        in_module(
            lower,
            "_unit_rows",
            lambda b, x, original=lower._unit_rows: original(b, x) if x.node.name == "Q" else x,
        ),
    ),
    "a sum over S that nobody else needs is left out": Fault(
        LINEAR,
        in_module(
            contract,
            "_cheapest_tree",
            lambda factors, axes, summed, b, original=contract._cheapest_tree: (
                original(factors[:-1] if len(factors) > 2 else factors, axes, summed, b)
                if all(
                    n in {i for f in factors[:-1] for i in f.labels} for n in range(len(axes) + len(summed))
                )
                else original(factors, axes, summed, b)
            ),
        ),
    ),
    # schedules
    "a value that a later kernel reads is not stored": Fault(COLUMN, in_schedule(drop_stores)),
    "kernels are launched in the wrong order": Fault(COLUMN, in_schedule(lambda kernels: kernels[::-1])),
    "a kernel is left out": Fault(LINEAR, in_schedule(lambda kernels: kernels[1:])),
    "a softmax's product shares the loop but not its repair": Fault(PLAIN, in_schedule(no_merging)),
    "loops that depend on each other become one": Fault(TWICE, in_schedule(one_loop)),
    "squares are computed by programs of one block": Fault(PRODUCT, in_schedule(unpaired)),
    "the last value of a kernel is forgotten": Fault(PLAIN, in_schedule(forget_last)),
    "all sums over S are on one level": Fault(
        COLUMN,
        in_module(
            schedule,
            "_levels",
            lambda awaited, decision: {node: int(schedule.reduces_seq(node)) for node in awaited},
        ),
    ),
    "a factor that depends on the statistic may merge": Fault(
        GATED, in_module(schedule, "_depends_on", lambda node, target: False)
    ),
    "residuals are not handed on": Fault(PLAIN, in_module(triton_attention, "_read_from", lambda *_: [])),
    # tiles and emission
    "no operand of a sum over padding is masked": Fault(
        UNPADDED, in_module(tile_writer, "masked", lambda part, *_: part)
    ),
    "logsigmoid is said to keep zero": Fault(
        UNPADDED, in_table(FUNCTIONS, "logsigmoid", replace(FUNCTIONS["logsigmoid"], keeps_zero=True))
    ),
    "tiles are not transposed": Fault(COLUMN, in_module(tiles, "aligned", _never_transposed)),
    "the scale of scores is lost in kernels": Fault(
        SUMMED, in_module(tile_writer, "scalar", lambda coefficient: "")
    ),
    "the running sum is not repaired": Fault(PLAIN, in_text("out * repair[:, None]", "out")),
    "the running weights are not repaired": Fault(PLAIN, in_text("weight_sum * repair + ", "weight_sum + ")),
    "the key mask is not read": Fault(PLAIN, in_text("if HAS_MASK:", "if False:")),
    "only the first partial sum is taken": Fault(LINEAR, in_text(".sum(2)", "[:, :, 0]")),
    "partial logsumexps forget their rest": Fault(LINEAR, in_text("* LOG2E + rests)", "* LOG2E)")),
    "the backward forgets the rest of a logsumexp": Fault(PLAIN, in_text("* LOG2E - rest  #", "* LOG2E  #")),
    "a chunk begins one block late": Fault(LINEAR, in_text("range(first, ", "range(first + BLOCK_OWN, ")),
    "matrices are read with the wrong stride": Fault(
        PLAIN, in_text("rows[:, None] * row_stride", "rows[:, None] * column_stride")
    ),
    "logsigmoid adds its logarithm": Fault(
        ROWS, in_text("tl.minimum(x, 0.0) - log1p", "tl.minimum(x, 0.0) + log1p")
    ),
    "the slope of softsign is not squared on chip": Fault(
        ROWS, in_text("1.0 / ((1.0 + tl.abs(x)) * (1.0 + tl.abs(x)))", "1.0 / (1.0 + tl.abs(x))")
    ),
    "squared distances lose the factor two": Fault(
        EUCLID, in_text("norms - 2.0 * tl.dot", "norms - 1.0 * tl.dot")
    ),
    "dropout exchanges rows and columns in one direction": Fault(
        PLAIN,
        in_text(
            "batch_head, loop[None, :], own[:, None], dropout_p",
            "batch_head, own[:, None], loop[None, :], dropout_p",
        ),
    ),
    "heads share a dropout mask in the backward": Fault(
        PLAIN,
        in_text(
            "batch_head, loop[None, :], own[:, None], dropout_p",
            "0 * batch_head, loop[None, :], own[:, None], dropout_p",
        ),
    ),
}


@pytest.mark.parametrize("text", sorted({fault.graph for fault in FAULTS.values()}))
def test_nobody_objects_to_the_compiler_as_it_is(text):
    assert verdict(text) is None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault, monkeypatch):
    FAULTS[fault].make(monkeypatch)
    assert verdict(FAULTS[fault].graph) is not None


def test_there_are_at_least_thirty_faults():
    assert len(FAULTS) >= 30
