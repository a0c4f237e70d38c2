"""The compiler's tables: nothing is missing, nothing is left over, and both forms of a function agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from codegen.algebra import Builder
from codegen.expr import Pointwise, topological
from codegen.lower import KERNEL_RULES, RULES, lower
from codegen.pointwise import FUNCTIONS
from graphir import OPERATIONS, AttentionGraph

FORMULAS = {
    "transpose": "Q.T.T",
    "matmul": "Q @ (K.T @ V)",
    "cosine_similarity": "cosine_similarity(Q, K) @ V",
    "euclidean_distance": "euclidean_distance(Q, K) @ V",
    "softmax": "softmax(Q @ K.T) @ V",
    "rms_norm": "rms_norm(Q.T).T",
}

GRADIENT_ONLY = {
    "softsign_slope",
    "step",
    "tanh_slope",
    "sign",
    "inverse_norm_slope",
    "inverse_root_slope",
    "inverse_or_zero",
}


def test_every_operation_has_a_lowering_rule():
    assert RULES.keys() == OPERATIONS.keys()


def test_every_pointwise_function_is_used_by_some_operation():
    used = set()
    for name, operation in OPERATIONS.items():
        text = FORMULAS.get(name) or (f"{name}(Q, K)" if operation.arity == 2 else f"{name}(Q)")
        for rules in (RULES, KERNEL_RULES):
            root = lower(AttentionGraph.from_expression(text), Builder(), rules)
            used |= {node.function for node in topological(root.node) if isinstance(node, Pointwise)}
    assert used <= FUNCTIONS.keys()
    assert FUNCTIONS.keys() - used <= GRADIENT_ONLY


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_torch_and_numpy_forms_of_a_function_agree(name):
    function = FUNCTIONS[name]
    points = np.array([0.0, 1e-13, 1e-6, 0.1, 1.0, 3.0, 40.0, 600.0])
    if not name.startswith("inverse_"):  # those take squares and counts
        points = np.concatenate([points, -points[1:]])
    if name == "inverse_count":
        points = points[points >= 1]  # the generated count is at least one
    source = function.torch.format(x="x")
    found = eval(source, {"torch": torch, "F": F, "x": torch.tensor(points), "dropout_p": 0.0})
    # Both are float64 with elementary functions right to a few units in the last place.
    np.testing.assert_allclose(found.numpy(), function.numpy(points), rtol=1e-14)


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if function.keeps_zero])
def test_functions_that_are_said_to_keep_zero_do(name):
    assert FUNCTIONS[name].numpy(np.zeros(1))[0] == 0
