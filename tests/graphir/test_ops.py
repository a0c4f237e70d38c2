"""The operation table: meanings against plain formulas, gradients against central differences."""

import math

import numpy as np
import pytest

from graphir import EXTENDED_OPERATIONS, OPERATIONS, PAPER_OPERATIONS
from graphir.ops import VALUE_TYPES

D = 4

# Each meaning once more, a number at a time, written without looking at arrays as a whole.
PLAIN = {
    "neg": lambda x: -x,
    "scale": lambda x: x / math.sqrt(D),
    "logsigmoid": lambda x: math.log(1 / (1 + math.exp(-x))),
    "softsign": lambda x: x / (1 + abs(x)),
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "sub": lambda x, y: x - y,
    "relu": lambda x: x if x > 0 else 0.0,
    "relu_squared": lambda x: x * x if x > 0 else 0.0,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "exp": math.exp,
    "abs": abs,
}


def _softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def _rms_norm(row: list[float]) -> list[float]:
    mean = sum(x * x for x in row) / len(row)
    return [x / math.sqrt(mean + 1e-6) for x in row]


def _cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


ROWS = {"softmax": _softmax, "rms_norm": _rms_norm}
PAIRS = {"cosine_similarity": _cosine, "euclidean_distance": lambda a, b: math.dist(a, b)}


def operands(name: str, rng: np.random.Generator) -> list[np.ndarray]:
    if name == "matmul":
        return [rng.standard_normal((3, 5)), rng.standard_normal((5, 2))]
    if name in PAIRS:
        return [rng.standard_normal((3, 5)), rng.standard_normal((2, 5))]
    return [rng.standard_normal((3, 5)) for _ in range(OPERATIONS[name].arity)]


def expected(name: str, values: list[np.ndarray]) -> list[list[float]]:
    lists = [value.tolist() for value in values]
    if name == "transpose":
        return [list(column) for column in zip(*lists[0], strict=True)]
    if name == "matmul":
        columns = list(zip(*lists[1], strict=True))
        return [[sum(a * b for a, b in zip(row, c, strict=True)) for c in columns] for row in lists[0]]
    if name in ROWS:
        return [ROWS[name](row) for row in lists[0]]
    if name in PAIRS:
        return [[PAIRS[name](a, b) for b in lists[1]] for a in lists[0]]
    return [[PLAIN[name](*xs) for xs in zip(*rows, strict=True)] for rows in zip(*lists, strict=True)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_meaning_is_the_plain_formula(name: str, seed: int) -> None:
    values = operands(name, np.random.default_rng(seed))
    # 1e-12: a handful of float64 roundings
    assert np.allclose(OPERATIONS[name].meaning(D, *values), expected(name, values), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_gradient_is_that_of_central_differences(name: str, seed: int) -> None:
    operation, rng, step = OPERATIONS[name], np.random.default_rng(seed), 1e-6
    values = operands(name, rng)
    for value in values:  # kinks at 0 have no difference quotient
        value[np.abs(value) < 0.01] = 0.5
    out = operation.meaning(D, *values)
    grad = rng.standard_normal(out.shape)
    gradients = operation.gradient(D, grad, out, *values)
    assert len(gradients) == operation.arity
    for which, found in enumerate(gradients):
        assert found.shape == values[which].shape
        for index in np.ndindex(found.shape):
            sides = []
            for sign in (1, -1):
                moved = [value.copy() for value in values]
                moved[which][index] += sign * step
                sides.append((grad * operation.meaning(D, *moved)).sum())
            # error of a central difference: step^2 = 1e-12 times the third derivative, and rounding
            # 1e-16 / step = 1e-10 times the size of the sum; 1e-7 leaves room for steep places
            assert found[index] == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-6, abs=1e-7), (
                f"seed {seed}, operand {which}, element {index}"
            )


def test_distance_and_gradient_of_equal_rows_are_zero() -> None:
    x = np.ones((2, 3))
    operation = OPERATIONS["euclidean_distance"]
    out = operation.meaning(D, x, x)
    assert (out == 0).all()
    for gradient in operation.gradient(D, np.ones((2, 2)), out, x, x):
        assert (gradient == 0).all()


def test_cosine_of_a_tiny_row_is_divided_by_the_clamped_norm() -> None:
    tiny, unit = np.array([[1e-9, 0.0]]), np.array([[1.0, 0.0]])
    operation = OPERATIONS["cosine_similarity"]
    out = operation.meaning(D, tiny, unit)
    assert out[0, 0] == pytest.approx(1e-9 / 1e-6)
    to_tiny, _ = operation.gradient(D, np.ones((1, 1)), out, tiny, unit)
    assert to_tiny[0, 0] == pytest.approx(1e6), "under the clamp the norm is a constant"


def test_large_numbers_do_not_overflow() -> None:
    x = np.array([[1e4, -1e4, 0.0]])
    assert np.allclose(OPERATIONS["softmax"].meaning(D, x), [[1, 0, 0]])
    assert np.allclose(OPERATIONS["logsigmoid"].meaning(D, x), [[0, -1e4, -math.log(2)]])
    assert np.allclose(OPERATIONS["sigmoid"].meaning(D, x), [[1, 0, 0.5]])


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_shape_rule_agrees_with_the_meaning(name: str) -> None:
    """For every choice of operand types: allowed exactly where NumPy's result has the promised shape."""
    operation, sizes = OPERATIONS[name], {"S": 3, "D": 5}
    choices = [(t,) for t in VALUE_TYPES]
    if operation.arity == 2:
        choices = [(a, b) for a in VALUE_TYPES for b in VALUE_TYPES]
    for types in choices:
        values = [np.ones([sizes[axis] for axis in t]) for t in types]
        promised = operation.shape(*types)
        if promised is not None:
            assert operation.meaning(D, *values).shape == tuple(sizes[axis] for axis in promised)
        elif name in {"matmul", *PAIRS}:
            with pytest.raises(ValueError, match=r"mismatch|broadcast"):
                operation.meaning(D, *values)
        else:
            assert types[0] != types[1]


def test_the_default_set_is_the_papers() -> None:
    assert set(PAPER_OPERATIONS) == {
        "neg", "transpose", "scale", "softmax", "logsigmoid", "softsign", "add", "matmul",
        "cosine_similarity", "euclidean_distance",
    }  # fmt: skip
    assert set(PAPER_OPERATIONS) < set(EXTENDED_OPERATIONS) == set(OPERATIONS)


@pytest.mark.parametrize("name", [name for name, op in OPERATIONS.items() if op.arity == 2])
def test_commutative_is_said_of_commutative_operations_only(name: str) -> None:
    operation = OPERATIONS[name]
    x, y = np.random.default_rng(0).standard_normal((2, 4, 4))
    same = np.allclose(operation.meaning(D, x, y), operation.meaning(D, y, x))
    assert same == operation.commutative
