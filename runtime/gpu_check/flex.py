"""FlexAttention as a baseline: graphs that are ``softmax(f(a A B^T)) C`` with A, B, C and all the rest row by row.

The rows round the attention are the generated PyTorch form's, with its fused call exchanged for FlexAttention's;
`torch.compile` takes the whole. A function ``f`` of the scores becomes a ``score_mod``, the key mask a block mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codegen.algebra import Builder
from codegen.attention import torch_source
from codegen.contraction_order import order_contractions
from codegen.emit_torch import write_program
from codegen.expr import (
    AXIS_SEQ,
    MATRIX,
    ONE,
    SCORES,
    Coefficient,
    Contraction,
    Linear,
    Pointwise,
    Use,
    summed_axes,
)
from codegen.generated import load_source
from codegen.lower import lower
from codegen.torch_steps import (
    Attend,
    Matmul,
    Softmax,
    Step,
    query_and_key,
    reads,
    select_steps,
    softmax_step,
)
from graphir import AttentionGraph

SCORE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "exp": torch.exp,
    "logsigmoid": F.logsigmoid,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}
"""Functions of `codegen.pointwise` that may change a score."""

Change = tuple[str | Coefficient, ...]
"""What happens to a score one after the other: a function of `SCORE_FUNCTIONS`, or a scalar factor."""


@dataclass(frozen=True)
class FlexProgram:
    """A graph that FlexAttention can express.

    Attributes:
        source: a function ``attention(q, k, v)`` that calls ``_attend`` for every attention in it.
        change: what is done to the scores of its one attention; empty where nothing is.
    """

    source: str
    change: Change


def flex_program(graph: AttentionGraph) -> FlexProgram | None:
    """How FlexAttention expresses ``graph``; None where it cannot.

    Example:
        >>> flex_program(AttentionGraph.from_expression("softmax(tanh(Q @ K.T)) @ V")).change
        ('tanh',)
        >>> flex_program(AttentionGraph.from_expression("relu(Q @ K.T) @ V")) is None
        True
    """
    builder = Builder()
    root = order_contractions(lower(graph, builder), builder)
    steps = select_steps(root, builder)
    changes = {step.node: found for step in steps if (found := _changed_attention(step))}
    steps = _needed([changes[step.node][0] if step.node in changes else step for step in steps], root)
    attentions = [step for step in steps if isinstance(step, Attend)]
    others = [step for step in steps if not isinstance(step, Attend)]
    if not attentions or any(s.node.axes == SCORES or AXIS_SEQ in summed_axes(s.node) for s in others):
        return None
    if changes and len(attentions) > 1:
        return None
    program = write_program(graph, root, steps, "attention")
    change = next((change for _, change in changes.values()), ())
    return FlexProgram(torch_source(program, graph.name), change)


def flex_function(program: FlexProgram, like: Tensor, key_mask: Tensor | None) -> Callable[..., Tensor]:
    """``(q, k, v) -> out`` for inputs like ``like`` ``[B, H, S, D]`` and this very mask, not compiled yet.

    The block mask is made here, once, as a model would for all of its layers; it leaves out padded queries too.
    """
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    batch, _, seq_len, head_dim = like.shape
    block_mask = None
    if key_mask is not None:
        real = key_mask

        def both_real(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return real[b, query] & real[b, key]

        block_mask = create_block_mask(both_real, batch, None, seq_len, seq_len, device=str(like.device))
    score_mod = _score_mod(program.change, head_dim) if program.change else None

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_mask: Tensor | None,
        dropout_p: float,
        scale: float | None = None,
    ) -> Tensor:
        attended = flex_attention(query, key, value, score_mod=score_mod, block_mask=block_mask, scale=scale)
        assert isinstance(attended, Tensor)  # no auxiliary results were asked for
        return attended

    module = load_source(program.source, "flex")
    module.__dict__["_attend"] = attend
    function: Callable[..., Tensor] = module.attention
    return function


def _changed_attention(step: Step) -> tuple[Attend, Change] | None:
    """The attention that a product of softmax weights with values is, where its scores were changed by functions."""
    match step:
        case Matmul(left=weights, right=value, summed="S") if step.node.axes == MATRIX:
            softmax = _softmax_of(weights)
        case _:
            return None
    # The axis that the softmax runs over is the one that is summed, labelled 2.
    if softmax is None or weights.labels[softmax.axis] != 2:
        return None
    match _score_chain(softmax.operand):
        case (Use(node=Contraction() as scores, labels=labels), change):
            query, key = query_and_key(softmax, labels, scores)
        case _:
            return None
    # All factors are part of the change.
    return Attend(step.node, query, key, value.relabelled((0, 2, 1)), scale=ONE), change


def _softmax_of(weights: Use) -> Softmax | None:
    match weights.node:
        case Pointwise(function="dropout", operand=operand):
            return softmax_step(operand.node)
    return None


def _score_chain(use: Use) -> tuple[Use, Change] | None:
    """The product ``A B^T`` under functions and factors, and these, innermost first."""
    change: list[str | Coefficient] = []
    while True:
        match use.node:
            case Pointwise(function=function, operand=operand) if function in SCORE_FUNCTIONS:
                change.append(function)
            case Linear(terms=((coefficient, operand),)):
                change.append(coefficient)
            case Contraction(axes=axes, factors=(one, two), summed=("D",)) if (
                axes == SCORES and len(one.labels) == len(two.labels) == 2
            ):
                return use, tuple(reversed(change))
            case _:
                return None
        use = operand.relabelled(use.labels)


def _score_mod(change: Change, head_dim: int) -> Callable[..., Tensor]:
    steps = [
        SCORE_FUNCTIONS[part] if isinstance(part, str) else part.number * head_dim ** (-part.scales / 2)
        for part in change
    ]

    def changed(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        for step in steps:
            score = score * step if isinstance(step, float) else step(score)
        return score

    return changed


def _needed(steps: list[Step], root: Use) -> list[Step]:
    """The steps that ``root`` needs, in their order."""
    by_node = {step.node: step for step in steps}
    wanted = set()
    open_nodes = [root.node]
    while open_nodes:
        node = open_nodes.pop()
        if node not in wanted:
            wanted.add(node)
            open_nodes += [use.node for use in reads(by_node[node])]
    return [step for step in steps if step.node in wanted]
