"""Faults of the decision what is stored, computed together, and given to the backward."""

from __future__ import annotations

from codegen import algebra, contraction_order, schedule, triton_program
from tests.codegen.faults import (
    COLUMN,
    COSINE,
    GATED,
    OWN_COSINE,
    PLAIN,
    SQUARED,
    SQUARES,
    SQUARES_AND_ROWS,
    STATE,
    TWO_SOFTMAXES,
    WEIGHTED_SCORES,
    both,
    edited,
    fault,
)
from tests.codegen.jury import CHECKER, KERNELS, PLAN, TILES

SCHEDULES = {
    "a value that a kernel of the other role reads is not stored": fault(
        edited(
            schedule.make_schedule, "place[read.node] != place[node]", "levels[read.node] != levels[node]"
        ),
        CHECKER,
        OWN_COSINE,
    ),
    "a value that is needed at another instance starts no new level": fault(
        edited(schedule._levels, "(not at_home)", "0"), CHECKER, COLUMN, STATE
    ),
    "a pair of blocks finds the row results of its level at home": fault(
        edited(schedule._levels, " and seq_rank(node) < 2", ""), CHECKER, SQUARES
    ),
    "a row result does not follow the role of one that it reads": fault(
        edited(schedule._place, "max([_role(node), *before])", "_role(node)"), CHECKER, PLAIN, COSINE
    ),
    "rows run before the pairs of blocks of their level": fault(
        edited(schedule.make_schedule, "not key[1]", "key[1]"), CHECKER, SQUARES_AND_ROWS
    ),
    "kernels run in the reverse order of their levels": fault(
        edited(schedule.make_schedule, "(key[0],", "(-key[0],"), CHECKER, COLUMN, STATE
    ),
    "the first kernel is left out": fault(
        edited(schedule.make_schedule, "for key in order)", "for key in order[1:])"), CHECKER, STATE
    ),
    "values are computed as they were asked for, not after what they read": fault(
        edited(schedule._in_order, "list(order)", "list(decision.awaited)"), CHECKER, COLUMN
    ),
    "sums that wait for each other share a loop": fault(
        edited(schedule._kernel, "1 + max(", "max("), CHECKER, TWO_SOFTMAXES
    ),
    "a sum joins a loop another result of which it needs": fault(
        edited(schedule._kernel, "passes[n] < passes[statistic]", "passes[n] <= passes[statistic]"),
        CHECKER,
        "mul(softmax(Q @ K.T), softsign(softmax(Q @ V.T))) @ V",
    ),
    "a sum joins a loop before another one that it needs": fault(
        edited(schedule._kernel, "all(passes[n] < passes[statistic] for n in needed - {statistic})", "True"),
        CHECKER,
        "t = softmax(Q @ K.T); mul(t, softsign(softmax(softmax(Q @ V.T)))) @ V",
    ),
    "a sum that needs what an earlier loop has found joins none": fault(
        edited(
            schedule._kernel,
            "all(passes[n] < passes[statistic] for n in needed - {statistic})",
            "not (needed - {statistic})",
        ),
        PLAN,
        TWO_SOFTMAXES,
    ),
    "a product shares the loop of its softmax but not the repair": fault(
        edited(
            schedule._kernel, "passes[node], merged[node] = passes[statistic], statistic", "passes[node] = 0"
        ),
        CHECKER,
        PLAIN,
    ),
    "a product joins a loop and runs in the next": fault(
        edited(
            schedule._kernel, "merged[node] = passes[statistic],", "merged[node] = passes[statistic] + 1,"
        ),
        CHECKER,
        PLAIN,
    ),
    "what is read through a value without a loop is overlooked": fault(
        edited(schedule._row_results_before, "else:", "elif False:"),
        CHECKER,
        "s = softsign(softmax(Q @ K.T) @ V); softmax((softmax(s @ K.T) @ V) @ s.T) @ V",
    ),
    "a sum joins a softmax though another factor depends on the statistic": fault(
        edited(schedule.online_statistic, "any(found[0] in topological(other) for other in others)", "False"),
        CHECKER,
        GATED,
    ),
    "a sum joins a softmax that is two of its factors": fault(
        edited(schedule.online_statistic, "len(found) != 1", "not found"), CHECKER, SQUARED
    ),
    "scores are written one way in the statistic and another way in the weights": fault(
        edited(
            contraction_order.order_contractions,
            "[(ONE, builder.linear(x, axes)), *statistics]",
            "x + statistics",
        ),
        PLAN,
        WEIGHTED_SCORES,
    ),
    "a sum joins a softmax of what the statistic is not of": fault(
        both(
            edited(
                contraction_order.order_contractions,
                "[(ONE, builder.linear(x, axes)), *statistics]",
                "x + statistics",
            ),
            edited(
                algebra.softmax_parts,
                "{*terms[:position], *terms[position + 1 :]} == set(flat_terms(ONE, logits))",
                "True",
            ),
        ),
        CHECKER,
        WEIGHTED_SCORES,
    ),
    "an S x S value is put among single blocks": fault(
        edited(schedule._place, "seq_rank(node) == 2", "False"), CHECKER, SQUARES
    ),
    "a program of pairs of blocks owns one block": fault(
        edited(schedule._kernel, "merged, level, paired)", "merged, level, False)"), CHECKER, SQUARES
    ),
    "an S x S value is computed on the diagonal of blocks only": fault(
        edited(schedule.own_binding, "(OWN, OTHER)", "(OWN, OWN)"), KERNELS, SQUARES
    ),
    "a row value is computed at the tile of a loop": fault(
        edited(schedule.own_binding, "(OWN, OTHER)", "(LOOP, OTHER)"), TILES, COLUMN
    ),
    "a result is not stored": fault(
        edited(
            schedule.make_schedule,
            "setdefault(node)\n            decision.stored.add(node)",
            "setdefault(node)",
        ),
        CHECKER,
        PLAIN,
    ),
    "kernels store nothing": fault(
        edited(schedule._kernel, "decision.stored & set(computes)", "()"), CHECKER, PLAIN
    ),
    "the last value of a kernel is forgotten": fault(
        edited(schedule._kernel, "Kernel(tuple(computes)", "Kernel(tuple(computes[:-1])"), CHECKER, PLAIN
    ),
    "a residual is left out": fault(
        edited(triton_program._read_from, "lambda node: node.serial)", "lambda node: node.serial)[1:]"),
        CHECKER,
        PLAIN,
        COLUMN,
    ),
    "the forward does not know what the backward reads": fault(
        edited(triton_program.triton_program, ", keep=residuals", ""), CHECKER, PLAIN
    ),
    "the backward computes again what the forward has": fault(
        edited(triton_program.triton_program, "if reduces_seq(node)]", "if False]"), PLAN, PLAIN
    ),
    "the gradient of Q shares a kernel with those of K and V": fault(
        edited(triton_program.triton_program, "split_roles=True", "split_roles=False"), PLAN, PLAIN
    ),
}
