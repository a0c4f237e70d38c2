"""Faults of lowering, algebra, the order of contractions, and derivatives."""

from __future__ import annotations

from codegen import algebra, contraction_order, derive, expr, lower
from codegen.expr import SCORES
from tests.codegen.faults import (
    COLUMN,
    COSINE,
    EUCLID,
    LINEAR,
    PLAIN,
    SIGNED_SCORES,
    STATE,
    SUM_OF_SCORES,
    edited,
    entry,
    fault,
    generated,
)
from tests.codegen.jury import ALGEBRA, DROPOUT, KERNELS, PLAN

Builder = algebra.Builder

EXPRESSIONS = {
    "a nested sum loses the scalar in front of it": fault(
        edited(algebra.flat_terms, "outer * inner", "inner"), ALGEBRA, "Q + -(K + V)"
    ),
    "sums lose their signs": fault(
        edited(algebra.flat_terms, "(outer * inner,", "((outer * inner)._replace(number=1),"), ALGEBRA, EUCLID
    ),
    "the scalars of a product's factors are lost": fault(
        edited(Builder.flattened, "coefficient * scalar if moderate else", "coefficient if moderate else"),
        ALGEBRA,
        "scale(Q) @ K.T @ V",
        PLAIN,
    ),
    "another factor than the common one leaves the terms of a sum": fault(
        edited(Builder._without, "factors.remove(factor)", "factors.pop()"), ALGEBRA, PLAIN, COLUMN
    ),
    "a common factor leaves the scalars of the terms behind": fault(
        edited(Builder._common_factor, "[(c, r) for", "[(ONE, r) for"), ALGEBRA, PLAIN
    ),
    "a scalar goes in front of a sum and stays inside": fault(
        edited(Builder._split_scalar, "coefficient.over(common)", "coefficient"), ALGEBRA, SUM_OF_SCORES
    ),
    "the scalar of the first term counts as that of all": fault(
        edited(algebra._common_scalar, "math.gcd(*(c.number for c in coefficients))", "abs(first.number)"),
        ALGEBRA,
        "t = softsign(Q @ K.T); (t + t + t.T) @ V",
    ),
    "a function of a transposed value is not transposed": fault(
        edited(Builder.pointwise, "Use(node.node, operand.labels)", "node"), ALGEBRA, "softsign(K @ Q.T) @ V"
    ),
    "a distance of exchanged operands is not turned back": fault(
        edited(Builder.distance, "turned.relabelled((1, 0))", "turned"),
        ALGEBRA,
        "euclidean_distance(K, Q) @ V",
    ),
    "a product is read in the order in which it is kept": fault(
        edited(Builder.product, "turned, kinds).relabelled(frame)", "turned, kinds)"),
        ALGEBRA,
        "tanh(Q @ (Q.T @ K))",
    ),
    "softmax subtracts the statistic of another row": fault(
        edited(Builder.softmax, "Use(statistic.node, (0,))", "Use(statistic.node, (1,))"), ALGEBRA, PLAIN
    ),
    "scaling twice counts once": fault(
        edited(expr.Coefficient.__mul__, "self.scales + other.scales", "max(self.scales, other.scales)"),
        ALGEBRA,
        "scale(scale(Q)) @ K.T @ V",
    ),
    "ordering the products of a sum loses its scalars": fault(
        edited(
            contraction_order.order_contractions, "x = [(c, rewritten(use))", "x = [(ONE, rewritten(use))"
        ),
        ALGEBRA,
        SIGNED_SCORES,
    ),
    "ordering a product loses the scalar that comes out of it": fault(
        edited(contraction_order.order_contractions, "builder.scaled(coefficient, tree, axes)", "tree"),
        ALGEBRA,
        "euclidean_distance(cosine_similarity(Q, V), Q.T)",
    ),
    "a product of many loses its last factor where no label needs it": fault(
        edited(
            contraction_order._cheapest_tree,
            "kinds = (*axes, *summed)",
            "kinds = (*axes, *summed)\n"
            "    seen = {label for use in factors[:-1] for label in use.labels}\n"
            "    factors = factors[:-1] if len(factors) > 2 and len(seen) == len(kinds) else factors",
        ),
        ALGEBRA,
        STATE,
    ),
    "the dearest order of a product is taken": fault(
        edited(contraction_order._cheapest_tree, "cost < found.cost", "cost > found.cost"), PLAN, LINEAR
    ),
    "scale does nothing": fault(
        entry(lower.KERNEL_RULES, "scale", lambda builder, axes, x: x), ALGEBRA, PLAIN
    ),
    "the transpose of an S x S value is forgotten": fault(
        entry(
            lower.KERNEL_RULES,
            "transpose",
            lambda builder, axes, x: x if axes == SCORES else algebra.transpose(x),
        ),
        ALGEBRA,
        COLUMN,
    ),
    "rms_norm over tokens does not divide by their number": fault(
        edited(lower._rms_norm, "[square, count]", "[square]"), ALGEBRA, "rms_norm(K.T).T"
    ),
    "cosine_similarity takes its second operand as it is": fault(
        edited(lower._cosine_similarity, "transpose(_unit_rows(builder, y))", "transpose(y)"), ALGEBRA, COSINE
    ),
}

DERIVATIVES = {
    "the adjoint of a logsumexp forgets its weights": fault(
        edited(derive._contributions, "[total, weights]", "[total]"), ALGEBRA, PLAIN, COLUMN
    ),
    "the adjoint of a logsumexp has the wrong sign": fault(
        edited(
            derive._contributions,
            "builder.contraction([total, weights], kinds, ())",
            "builder.scaled(Coefficient(-1), builder.contraction([total, weights], kinds, ()), kinds)",
        ),
        ALGEBRA,
        PLAIN,
    ),
    "a logsumexp has no adjoint": fault(
        edited(
            derive._contributions,
            "yield operand.node, _in_frame_of(operand, builder.contraction([total, weights], kinds, ()))",
            "pass",
        ),
        ALGEBRA,
        PLAIN,
    ),
    "an adjoint stays in the frame in which its operand was read": fault(
        edited(derive._in_frame_of, "place[label] for", "label for"), ALGEBRA, COLUMN
    ),
    "both rows of a distance are drawn to each other": fault(
        edited(derive._contributions, "(Coefficient(-1), far)", "(ONE, far)"), ALGEBRA, EUCLID
    ),
    "the gradient of a distance reaches its left operand only": fault(
        edited(derive._contributions, ", (right, left)):", ",):"), ALGEBRA, EUCLID
    ),
    "the adjoint of a sum loses the scalars of its terms": fault(
        edited(
            derive._contributions,
            "builder.scaled(coefficient, _summed_to(use, [total], axes, builder), use.node.axes)",
            "_summed_to(use, [total], axes, builder)",
        ),
        ALGEBRA,
        PLAIN,
    ),
    "the gradient of a product reaches its first factor only": fault(
        edited(derive._contributions, "in enumerate(factors):", "in enumerate(factors[:1]):"), ALGEBRA, PLAIN
    ),
    "the product rule forgets the factors before the one at hand": fault(
        edited(derive._contributions, "*factors[:position], ", ""), ALGEBRA, PLAIN
    ),
    "the product rule forgets dropout": fault(
        edited(
            derive._contributions,
            "others, (*axes",
            '[x for x in others if not hasattr(x.node, "stream")], (*axes',
        ),
        DROPOUT,
        PLAIN,
    ),
    "a value that is read twice has the gradient of one read": fault(
        edited(
            derive.derive,
            "adjoints.setdefault(operand, []).append((ONE, contribution))",
            "adjoints[operand] = [(ONE, contribution)]",
        ),
        ALGEBRA,
        "Q @ Q.T @ V",
    ),
    "the slope of logsigmoid is the sigmoid of x, not of -x": fault(
        entry(derive.SLOPES, "logsigmoid", derive._function_of_operand("sigmoid")), ALGEBRA, "logsigmoid(Q)"
    ),
    "the slope of softsign is softsign": fault(
        entry(derive.SLOPES, "softsign", derive._function_of_operand("softsign")), ALGEBRA, "softsign(Q)"
    ),
    "the slope of tanh is tanh": fault(
        entry(derive.SLOPES, "tanh", derive._function_of_operand("tanh")), ALGEBRA, "tanh(Q)"
    ),
    "the slope of tanh is taken at tanh(x)": fault(
        entry(derive.SLOPES, "tanh", lambda builder, x, y, axes: builder.pointwise("tanh_slope", y, axes)),
        ALGEBRA,
        "tanh(Q)",
    ),
    "the slope of the sigmoid lacks its square": fault(
        entry(derive.SLOPES, "sigmoid", lambda builder, x, y, axes: y), ALGEBRA, "sigmoid(Q)"
    ),
    "the slope of exp is its operand": fault(
        entry(derive.SLOPES, "exp", lambda builder, x, y, axes: x), ALGEBRA, PLAIN, "exp(Q)"
    ),
    "the slope of an inverse norm is the inverse norm": fault(
        entry(derive.SLOPES, "inverse_norm", derive._function_of_operand("inverse_norm")), ALGEBRA, COSINE
    ),
    "the slope of softsign forgets the square": fault(
        generated("1.0 / ((1.0 + tl.abs(x)) * (1.0 + tl.abs(x)))", "1.0 / (1.0 + tl.abs(x))"),
        KERNELS,
        "softsign(Q)",
    ),
    "the slope of an inverse norm has too small a power": fault(
        generated("-0.5 * root * root * root", "-0.5 * root * root"), KERNELS, COSINE, "rms_norm(Q)"
    ),
}
