"""The float64 reference: hand-computed cases, gradients against differences, padding."""

import math

import numpy as np
import pytest

from graphir import EXTENDED_OPERATIONS, AttentionGraph, presets, reference

NAN = float("nan")


def draw(seed: int, batch: int = 2, heads: int = 2, seq_len: int = 4, head_dim: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, batch, heads, seq_len, head_dim))


def test_plain_attention_of_two_tokens_by_hand() -> None:
    graph = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V")
    q = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]).reshape(1, 1, 2, 4)
    k = np.array([[2 * math.log(3), 0, 0, 0], [0, 0, 0, 0]]).reshape(1, 1, 2, 4)
    v = np.array([[4.0, 0, 0, 8], [0, 4, 0, 0]]).reshape(1, 1, 2, 4)
    # head_dim 4: scores of the first token are log 3 and 0, weights 3/4 and 1/4; of the second 1/2 and 1/2
    expected = [[3, 1, 0, 6], [2, 2, 0, 4]]
    assert np.allclose(reference.evaluate(graph, q, k, v)[0, 0], expected)


def test_linear_attention_and_a_distance_by_hand() -> None:
    rows = [[[1, 0], [0, 2]], [[3, 0], [0, 1]], [[1, 2], [3, 4]]]
    q, k, v = np.array(rows, float).reshape(3, 1, 1, 2, 2)
    product = AttentionGraph.from_expression("(Q @ K.T) @ V")
    assert np.allclose(reference.evaluate(product, q, k, v), [[[[3, 6], [6, 8]]]])
    distance = AttentionGraph.from_expression("euclidean_distance(Q, K) @ V")
    d = [[2, math.sqrt(2)], [math.sqrt(13), 1]]
    by_hand = [[d[0][0] + 3 * d[0][1], 2 * d[0][0] + 4 * d[0][1]], [d[1][0] + 3, 2 * d[1][0] + 4]]
    assert np.allclose(reference.evaluate(distance, q, k, v)[0, 0], by_hand)


@pytest.mark.parametrize("seed", range(25))
def test_gradients_are_those_of_central_differences(random_graph, seed: int) -> None:
    graph = random_graph(seed, 8, [op for op in EXTENDED_OPERATIONS if op not in ("exp", "abs", "relu")])
    q, k, v = draw(seed, batch=2, heads=1)
    mask = np.array([[True, True, True, True], [True, False, True, False]])
    grad = np.random.default_rng(seed + 1).standard_normal(q.shape)
    found = reference.gradients(graph, grad, q, k, v, mask)
    assert set(found) == set(graph.inputs)
    step = 1e-6
    for name in graph.inputs:
        direction = np.random.default_rng(seed + 2).standard_normal(q.shape)
        sides = []
        for sign in (1, -1):
            moved = {"q": q, "k": k, "v": v}
            moved[name.lower()] = moved[name.lower()] + sign * step * direction
            sides.append((grad * reference.evaluate(graph, **moved, key_mask=mask)).sum())
        # Along one direction: rounding 1e-16 / step = 1e-10 of the sum, and step^2 of the third derivative,
        # which is large near equal rows of a distance: 1e-4 is far below a wrong factor or sign.
        difference = (sides[0] - sides[1]) / (2 * step)
        assert (found[name] * direction).sum() == pytest.approx(difference, rel=1e-4, abs=1e-6), (
            f"seed {seed}, {name}: {graph}"
        )


@pytest.mark.parametrize("filling", [NAN, math.inf, 1e30, 0.0])
@pytest.mark.parametrize("seed", range(12))
def test_values_at_padded_positions_do_not_matter(random_graph, seed: int, filling: float) -> None:
    graph = random_graph(seed, 12)
    q, k, v = draw(seed, seq_len=6)
    lengths = [6, 3]
    mask = np.arange(6) < np.array(lengths)[:, None]
    grad = np.random.default_rng(seed).standard_normal(q.shape)
    padded = [x.copy() for x in (q, k, v, grad)]
    for x in padded:
        x[1, :, 3:] = filling
    out = reference.evaluate(graph, *padded[:3], mask)
    grads = reference.gradients(graph, padded[3], *padded[:3], mask)
    assert np.isfinite(out).all()
    for index, length in enumerate(lengths):  # each sequence alone, without any padding
        alone = [x[index : index + 1, :, :length] for x in (q, k, v, grad)]
        assert np.array_equal(out[index, :, :length], reference.evaluate(graph, *alone[:3])[0]), (
            f"seed {seed}"
        )
        for name, expected in reference.gradients(graph, alone[3], *alone[:3]).items():
            assert np.array_equal(grads[name][index, :, :length], expected[0]), f"seed {seed} {name}"
        assert not out[index, :, length:].any()


def test_padding_may_stand_anywhere() -> None:
    graph = presets.get("autobert-zero/10")
    q, k, v = draw(3, batch=1, seq_len=5)
    real = [0, 2, 4]
    mask = np.isin(np.arange(5), real)[None]
    out = reference.evaluate(graph, q, k, v, mask)
    assert np.array_equal(out[:, :, real], reference.evaluate(graph, *(x[:, :, real] for x in (q, k, v))))


@pytest.mark.parametrize("seed", range(12))
def test_a_sequence_without_a_real_token_gives_zeros(random_graph, seed: int) -> None:
    graph = random_graph(seed, 12, EXTENDED_OPERATIONS)
    x = np.full((1, 2, 3, 4), NAN)
    mask = np.zeros((1, 3), bool)
    assert not reference.evaluate(graph, x, x, x, mask).any()
    assert all(not g.any() for g in reference.gradients(graph, x, x, x, x, mask).values())


def test_an_empty_sequence_leaves_the_others_of_the_batch_alone() -> None:
    graph = presets.get("linear-attention")  # one softmax over D, one over S
    q, k, v = draw(0)
    out = reference.evaluate(graph, q, k, v, np.array([[True] * 4, [False] * 4]))
    assert np.array_equal(out[0], reference.evaluate(graph, q[:1], k[:1], v[:1])[0])
    assert not out[1].any()


def test_unused_inputs_may_be_none_and_used_ones_may_not() -> None:
    graph = presets.get("autobert-zero/6")
    q, k, _ = draw(1)
    assert reference.evaluate(graph, q, k, None).shape == q.shape
    with pytest.raises(ValueError, match="uses K, which is None"):
        reference.evaluate(graph, q, None, None)


def test_single_precision_inputs_are_computed_in_float64() -> None:
    q, k, v = draw(2).astype(np.float32)
    assert reference.evaluate(presets.get("bert/1"), q, k, v).dtype == np.float64


def test_a_fingerprint_is_that_of_the_function() -> None:
    def fingerprint(text: str) -> str:
        return reference.fingerprint(AttentionGraph.from_expression(text))

    assert fingerprint("(Q + K) @ K.T @ V") == fingerprint("Q @ (K.T @ V) + K @ K.T @ V")
    assert fingerprint("Q + -Q") == fingerprint("(Q @ K.T) @ V + -(Q @ (K.T @ V))")
    different = ["Q", "K", "-Q", "scale(Q)", "Q + Q", "Q + -Q", "softmax(Q)", "softmax(Q.T).T"]
    assert len(set(map(fingerprint, different))) == len(different)


def test_a_fingerprint_of_an_overflow_is_no_error() -> None:
    graph = AttentionGraph.from_expression("exp(exp(exp(exp(exp(Q)))))")
    assert reference.fingerprint(graph) == reference.fingerprint(graph)
