"""Faults of the text of kernels, of their launch, and of the functions that they call."""

from __future__ import annotations

from dataclasses import replace

from codegen import algebra, kernel_text
from codegen.pointwise import FUNCTIONS
from codegen.tiles import build, labels, operands, values
from codegen.triton import print as triton_print
from codegen.triton_functions import TRITON_FUNCTIONS
from tests.codegen.faults import (
    COLUMN,
    EUCLID,
    EUCLID_OF_NEAR_ROWS,
    EUCLID_OF_ONE,
    EUCLID_OVER_TOKENS,
    LINEAR,
    MIXED_STATE,
    NEGATED,
    NONLINEAR_STATE,
    ONE_SOFTMAX_TWICE,
    PLAIN,
    SIGNED_SCORES,
    SQUARES,
    STATE,
    STATE_COSINE,
    TWO_SOFTMAXES,
    UNMASKED_STATE,
    edited,
    entry,
    fault,
    generated,
)
from tests.codegen.jury import DROPOUT, KERNELS, PLAN, SHORT, TILES

Builder = algebra.Builder
Values = values.ValueBuilder
Kernels = build._KernelBuilder

KERNEL_TEXT = {
    "a sum that a function reads waits in 16 bits": fault(
        edited(kernel_text.narrow_values, " and not waits", ""), PLAN, NONLINEAR_STATE
    ),
    "a sum that products alone read waits in 32 bits": fault(
        edited(kernel_text.narrow_values, " and node in elsewhere", ""), PLAN, LINEAR
    ),
    "the parts of a sum over all tokens are not added up": fault(
        edited(kernel_text._stored, '"{x}.sum(2)"', '"{x}[:, :, 0]"'), KERNELS, STATE
    ),
    "the parts of a logsumexp are added up like a sum": fault(
        edited(kernel_text._stored, '"_add_logsumexp({x}, dtype)"', '"{x}.sum(2)"'), KERNELS, STATE
    ),
    "the parts of a logsumexp lose what adds to their maxima": fault(
        generated("* unit + rests)", "* unit)"), KERNELS, STATE
    ),
    "a part of a logsumexp counts though it has no real token": fault(
        edited(Kernels.add_exponentials, "HIGHEST if over == LOOP else LOWEST", "HIGHEST"), KERNELS, STATE
    ),
    "the root of a distance is taken of each part": fault(
        edited(Kernels.add_up, "Root(total) if over == LOOP else total", "Root(total)"),
        KERNELS,
        EUCLID_OVER_TOKENS,
    ),
    "the parts of all blocks are written to one place": fault(
        edited(kernel_text._kernel_text, '"(batch_head * blocks + block)" if', '"batch_head" if'),
        KERNELS,
        STATE,
    ),
    "a chunk begins one block late": fault(
        edited(triton_print.print_body, "range(first, ", "range(first + BLOCK_OWN, "), KERNELS, STATE
    ),
    "a chunk is added up anew from each of its blocks": fault(
        edited(
            Kernels.chunk,
            "outer.body.append(Loop(OWN, tuple(carried), tuple(self.top.body)))",
            "outer.body.append(Loop(OWN, (), (*carried, *self.top.body)))",
        ),
        TILES,
        STATE,
    ),
    "a chunk is as long as its first block": fault(
        edited(triton_print.print_body, "first + chunk, tokens), BLOCK_OWN", "first + chunk, tokens), chunk"),
        KERNELS,
        STATE,
    ),
    "a sum of weights is not repaired when the maximum grows": fault(
        generated("weight_sum * repair + tl.sum", "weight_sum + tl.sum"), KERNELS, PLAIN
    ),
    "a merged sum is not repaired when the maximum grows": fault(
        edited(Kernels.add_merged, "Accumulate(total, value, running.repair)", "Accumulate(total, value)"),
        TILES,
        PLAIN,
    ),
    "a merged sum is repaired by the factor of another softmax": fault(
        edited(Kernels.add_merged, "= self.running[statistic]", "= next(iter(self.running.values()))"),
        KERNELS,
        "softmax(Q @ K.T) @ V + softmax(Q @ V.T) @ K",
    ),
    "a merged softmax leaves out its other factors, dropout among them": fault(
        edited(Kernels.add_merged, "weights.append(", "list[Value]().append("), DROPOUT, PLAIN
    ),
    "the backward forgets the rest of a logsumexp": fault(
        generated("* LOG2E - rest", "* LOG2E"), KERNELS, PLAIN
    ),
    "dropout draws for a tile as it is held, not as its value stands": fault(
        edited(Values.compute, "instances), target.index(0))", "instances), 0)"), DROPOUT, PLAIN
    ),
    "heads share a dropout mask in the backward of K and V": fault(
        generated("batch_head, loop[None, :], own[:, None]", "0 * batch_head, loop[None, :], own[:, None]"),
        DROPOUT,
        PLAIN,
    ),
    "equal softmaxes have masks of their own": fault(
        edited(
            Builder.keep,
            "self._streams.setdefault(weights.node, len",
            "self._streams.setdefault(object(), len",
        ),
        DROPOUT,
        ONE_SOFTMAX_TWICE,
    ),
    "different softmaxes share one mask": fault(
        edited(Builder.keep, "len(self._streams)", "0"), DROPOUT, TWO_SOFTMAXES
    ),
    "a loop reads its operands at the own block": fault(
        edited(labels.label_instances, "LOOP if binding else OWN", "OWN"), TILES, PLAIN
    ),
    "a tile of one loop is taken for known in the next": fault(
        edited(Values.remember, "held.home.tiles", "self.top.tiles"), TILES, TWO_SOFTMAXES
    ),
    "a loop stops before its last tile": fault(
        edited(triton_print.print_body, "range(0, tokens,", "range(0, tokens - BLOCK_LOOP,"), KERNELS, PLAIN
    ),
    "a product of matrices forgets what earlier tiles gave": fault(
        edited(triton_print._dot, 'f", {total}" if total else ""', '""'), KERNELS, PLAIN
    ),
    "a transposed tile is read as it stands": fault(
        edited(operands.aligned, "Transpose(part.value)", "part.value"), TILES, COLUMN
    ),
    "a second load of a D x D value stands as the first one": fault(
        edited(Values.turned, "transposed=True", "transposed=False"), KERNELS, STATE_COSINE
    ),
    "a difference is written as a sum": fault(
        edited(triton_print._combination, 'sign = "-" if', 'sign = "+" if'), KERNELS, "sub(Q, K)"
    ),
    "scalars of a sum are lost in kernels": fault(
        edited(triton_print.scalar, '" * ".join(factors)', '""'), KERNELS, SIGNED_SCORES
    ),
    "masks mask nothing": fault(
        edited(operands.masked, "Masked(part.value, instance, part.labels.index(label))", "part.value"),
        TILES,
        UNMASKED_STATE,
    ),
    "the key mask is not read": fault(generated("if HAS_MASK:", "if False:"), KERNELS, PLAIN),
    "the operands of sums over tokens are not masked": fault(
        edited(Values.unpadded, "if not any(label in part.zeros for part in parts)", "if False"),
        TILES,
        UNMASKED_STATE,
    ),
    "the sigmoid is said to keep zero": fault(
        entry(FUNCTIONS, "sigmoid", replace(FUNCTIONS["sigmoid"], keeps_zero=True)), TILES, UNMASKED_STATE
    ),
    "a sum is taken for zero where one of its terms is": fault(
        edited(Values.combination, "frozenset(target).intersection(", "frozenset().union("),
        TILES,
        MIXED_STATE,
    ),
    "what a loop computes is taken for zero at padded rows": fault(
        edited(Kernels.total, "frozenset()", "frozenset(range(2))"),
        TILES,
        "t = sigmoid(Q @ K.T) @ V; Q @ (softsign(t).T @ sigmoid(K))",
    ),
    "a softmax over D counts columns that do not exist": fault(
        edited(triton_print._add_weights, "{REAL[step.axis]}", "{REAL[step.axis]} | True"),
        KERNELS,
        "softmax(Q) + K",
    ),
    "a softmax counts padded tokens": fault(
        generated('tl.where(tl.expand_dims(real, 1 - axis), scale * x, float("-inf"))', "scale * x"),
        KERNELS,
        PLAIN,
    ),
    "padded rows of the result keep what was computed there": fault(
        generated("tile = tl.where(real_rows[:, None] & real_columns[None, :], tile, 0.0)", "pass"),
        KERNELS,
        PLAIN,
    ),
    "a stored S x S value has the row stride of an S x D one": fault(
        edited(triton_print._row_stride, "EXTENTS[buffer.axes[1]]", '"D"'), KERNELS, SQUARES
    ),
    "an input is read with the row stride of a contiguous one": fault(
        edited(triton_print._row_stride, 'f"{buffer.name}_row" if', '"D" if'), KERNELS, PLAIN
    ),
    "rows of a matrix lie as far apart as its columns": fault(
        generated("rows[:, None] * row_stride", "rows[:, None] * column_stride"), KERNELS, PLAIN
    ),
    "the heads of stored values overlap": fault(
        edited(kernel_text._size, "EXTENTS[axis] for", '"D" for'), KERNELS, PLAIN
    ),
    "the halves of a logsumexp overlap": fault(
        edited(kernel_text._size, "sizes.insert(0, str(buffer.halves))", "pass"), KERNELS, PLAIN
    ),
}

IN_16_BITS = {
    "the weights of older tiles are repaired the wrong way": fault(
        generated("tl.exp2(maximum - newest)", "tl.exp2(newest - maximum)"), SHORT, PLAIN
    ),
    "logits are natural where their maximum is in base 2": fault(
        generated("tl.exp2((scale * LOG2E) * x - tl", "tl.exp2(scale * x - tl"), SHORT, PLAIN
    ),
    "the maximum of negated scores is taken from the largest one": fault(
        generated("tl.max(x, axis) if scale > 0 else tl.min(x, axis)", "tl.max(x, axis)"), SHORT, NEGATED
    ),
    "padded scores count once they are negated": fault(
        generated('float("-inf" if scale > 0 else "inf")', 'float("-inf")'), SHORT, NEGATED
    ),
    "a logsumexp is its maximum alone": fault(generated("whole + rest, tl", "whole, tl"), SHORT, PLAIN),
    "weights are taken from natural logits and a logsumexp in base 2": fault(
        generated("logits = (scale * LOG2E) * x", "logits = scale * x"), SHORT, PLAIN
    ),
    "the parts of a logsumexp in base 2 are added as natural ones": fault(
        generated("LOG2E if dtype == torch.float32 else 1.0", "LOG2E"), SHORT, STATE
    ),
}
"""Of what is written another way where inputs are not float32."""

FUNCTIONS_ON_CHIP = {
    "logsigmoid adds its logarithm": fault(
        generated("tl.minimum(x, 0.0) - log1p", "tl.minimum(x, 0.0) + log1p"), KERNELS, "logsigmoid(Q)"
    ),
    "the sigmoid of a negative number is that of its opposite": fault(
        generated("tl.where(x < 0.0, small, 1.0) / (1.0 + small)", "1.0 / (1.0 + small)"),
        KERNELS,
        "sigmoid(Q)",
    ),
    "the series of tanh near zero has a wrong sign": fault(
        generated("square * (-1.0 / 3.0 +", "square * (1.0 / 3.0 +"), KERNELS, "tanh(Q)"
    ),
    "the inverse of a distance of zero is infinite": fault(
        entry(TRITON_FUNCTIONS, "inverse_or_zero", "(1.0 / {x})"), KERNELS, EUCLID_OF_ONE
    ),
    "squared distances lose the factor two": fault(
        generated("norms - 2.0 * tl.dot", "norms - 1.0 * tl.dot"), KERNELS, EUCLID
    ),
    "the distances of near rows are differences without a square": fault(
        generated(
            "(one[:, None] - two[None, :]) * (one[:, None] - two[None, :])",
            "tl.abs(one[:, None] - two[None, :])",
        ),
        KERNELS,
        EUCLID_OF_NEAR_ROWS,
    ),
    "two values have no distance on the diagonal": fault(
        edited(Values.squares, "node.left.node is node.right.node and ", ""), KERNELS, EUCLID
    ),
}
