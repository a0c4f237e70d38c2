"""Every preset as a compiled function: right, differentiable, and blind to padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from codegen import compile_attention
from graphir import AttentionGraph, presets

GRAPHS = {
    graph.canonical_hash(): graph
    for graph in map(presets.get, reversed(presets.names()))
    if isinstance(graph, AttentionGraph)
}.values()

# Float64 rounding: sums of some hundred terms, each right to 1e-16, reordered.
TOLERANCE = 1e-10


@pytest.fixture(params=GRAPHS, ids=lambda graph: graph.name)
def graph(request):
    return request.param


@pytest.mark.parametrize("head_dim", [1, 8, 24, 64])
@pytest.mark.parametrize("seq_len", [1, 2, 17, 128])
def test_outputs_and_gradients_are_those_of_the_reference(graph, seq_len, head_dim, draw, assert_agrees):
    assert_agrees(graph, draw(1, seq_len, head_dim, heads=1), TOLERANCE)
    lengths = [seq_len, (seq_len + 1) // 2, 1, 0]  # the last has no real token
    assert_agrees(graph, draw(2, seq_len, head_dim, lengths, heads=1), TOLERANCE)


def test_gradients_are_those_of_finite_differences(graph):
    attention = compile_attention(graph)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(3, 2, 1, 4, 3, dtype=torch.float64, generator=generator).requires_grad_()
    mask = torch.tensor([[True, True, False, True], [False, False, True, False]])
    for key_mask in (None, mask):
        assert torch.autograd.gradcheck(lambda x, m=key_mask: attention(*x, key_mask=m), (inputs,))


def test_nothing_that_stands_in_the_padding_changes_a_bit(graph, draw, results):
    case = draw(4, 17, 8, [17, 9, 1, 0])
    expected = results(graph, case.padded_with(0.0))
    for value in (np.nan, np.inf, -1e300, 7.0):
        found = results(graph, case.padded_with(value))
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{name}, padding {value}")


def test_a_padded_sequence_gives_what_it_gives_alone(graph, draw, results, errors):
    case = draw(5, 17, 8, [11])
    alone = replace(
        case,
        inputs={name: x[:, :, case.key_mask[0]] for name, x in case.inputs.items()},
        grad=case.grad[:, :, case.key_mask[0]],
        key_mask=None,
    )
    padded = {name: x[:, :, case.key_mask[0]] for name, x in results(graph, case).items()}
    # Only the blocking of sums may differ.
    assert max(errors(padded, results(graph, alone), alone.real).values()) <= 1e-12


def test_a_mask_of_real_tokens_only_is_no_mask(graph, draw, results, errors):
    case = draw(6, 9, 8, [9, 9])
    unmasked = replace(case, key_mask=None)
    assert max(errors(results(graph, case), results(graph, unmasked), case.real).values()) <= 1e-12


def test_a_sequence_without_real_tokens_gives_zeros_and_zero_gradients(graph, draw, results):
    case = draw(7, 5, 4, [0, 5])
    for name, array in results(graph, case.padded_with(np.nan)).items():
        assert (array[0] == 0).all(), name
        assert np.isfinite(array).all(), name


def test_transposed_views_of_tensors_give_what_contiguous_ones_give(graph):
    generator = torch.Generator().manual_seed(8)
    strided = torch.randn(3, 2, 7, 2, 4, dtype=torch.float64, generator=generator).transpose(2, 3)
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    attention = compile_attention(graph)
    for key_mask in (None, mask):
        expected = attention(*strided.contiguous(), key_mask=key_mask)
        # Another memory layout may take another matrix kernel, which sums in another order.
        torch.testing.assert_close(attention(*strided, key_mask=key_mask), expected, rtol=0, atol=1e-12)


def test_inputs_are_not_changed(graph, draw, results):
    case = draw(9, 5, 4, [5, 2])
    tensors = [torch.tensor(case.inputs[name]) for name in "QKV"]
    before = [tensor.clone() for tensor in tensors]
    compile_attention(graph)(*tensors, key_mask=torch.tensor(case.key_mask), dropout_p=0.5)
    assert all(torch.equal(x, y) for x, y in zip(tensors, before, strict=True))
