"""What kernels say of themselves: every value that they compute, in terms of what is known."""

from __future__ import annotations

import re
from random import Random

from codegen.triton_attention import triton_program
from evolution import SearchSpace, random_graph
from graphir import EXTENDED_OPERATIONS, AttentionGraph, presets


def test_the_kernels_of_attention_say_what_they_compute():
    program = triton_program(presets.get("bert/1"))
    assert [kernel.formulas for kernel in program.kernels] == [
        (
            "x1[i, j] = sum_c q[i, c] k[j, c]",
            "logsumexp_1[i] = logsumexp_j(SCALE x1[i, j])",
            "out[i, c] = sum_j v[j, c] exp(SCALE x1[i, j] - logsumexp_1[i]) keep_0[i, j]",
        ),
        ("sums_1[i] = sum_c out[i, c] g[i, c]",),
        (
            "x1[i, j] = exp(SCALE (sum_c q[i, c] k[j, c]) - logsumexp_1[i]) (keep_0[i, j] (sum_c v[j, c] g[i, c])",
            "    - sums_1[i])",
            "rows_1[i, c] = sum_j k[j, c] x1[i, j]",
            "grad_q[i, c] = SCALE rows_1[i, c]",
        ),
        (
            "x1[i, j] = exp(SCALE (sum_c q[i, c] k[j, c]) - logsumexp_1[i])",
            "rows_2[i, c] = sum_j q[j, c] x1[j, i] (keep_0[j, i] (sum_d v[i, d] g[j, d]) - sums_1[j])",
            "grad_k[i, c] = SCALE rows_2[i, c]",
            "grad_v[i, c] = sum_j x1[j, i] keep_0[j, i] g[j, c]",
        ),
    ]


def test_norms_constants_and_sums_without_an_index():
    graph = AttentionGraph.from_expression(
        "rms_norm(K.T).T @ (K.T @ V) + euclidean_distance(Q, K.T @ V) + Q + Q"
    )
    lines = [line for kernel in triton_program(graph).forward.kernels for line in kernel.formulas]
    assert "state_1[c, d] = sum_i k[i, c] v[i, d]" in lines
    assert any("norm_d(q[i, d] - state_1[c, d])" in line for line in lines)
    assert any("2 q[i, c]" in line for line in lines)
    assert any("sum_i 1" in line for line in lines)


def test_every_formula_reads_what_is_known_with_indices_that_it_binds(fresh_seed):
    rng, space = Random(fresh_seed), SearchSpace(operations=EXTENDED_OPERATIONS)
    for _ in range(60):
        program = triton_program(random_graph(rng, space))
        known = {"q", "k", "v", "g"}
        for kernel in program.kernels:
            here = set(known)
            # A line that goes on is indented.
            for line in re.split(r"\n(?! )", "\n".join(kernel.formulas)):
                left, _, right = line.partition(" = ")
                where = f"OPNAS_TEST_SEED={fresh_seed}: {line}"
                read = re.findall(r"\b(\w+)\[([a-z, ]+)\]", right)
                assert {name for name, _ in read if not name.startswith("keep_")} <= here, where
                bound = {
                    *re.findall(r"\b[a-z]\b", left),
                    *re.findall(r"(?:sum|norm|logsumexp)_([a-z])\b", right),
                }
                assert {letter for _, letters in read for letter in letters.split(", ")} <= bound, where
                here.add(left.partition("[")[0])
            stored = {stored.name for stored in kernel.stores}
            assert stored <= here
            known |= stored
