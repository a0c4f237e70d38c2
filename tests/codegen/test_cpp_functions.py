"""Elementary functions of the native library against float64."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from tests.codegen.native_library import built, pointer

LARGEST = float(np.finfo(np.float32).max)


def _softplus(x):
    return np.logaddexp(0.0, x)


erf = np.vectorize(math.erf, otypes=[float])
# Function, its meaning in float64, and the operands: every one where the result is a float32 is to be right.
FUNCTIONS = {
    "exp": (np.exp, (-104.0, 89.0)),
    "exp2": (np.exp2, (-151.0, 128.5)),
    "log": (np.log, (0.0, LARGEST)),
    "log2": (np.log2, (0.0, LARGEST)),
    "log_of_one_more": (np.log1p, (0.0, 1e6)),
    "sigmoid": (lambda x: np.exp(-_softplus(-x)), (-104.0, 104.0)),
    "logsigmoid": (lambda x: -_softplus(-x), (-1e4, 87.0)),
    "tanh": (np.tanh, (-20.0, 20.0)),
    "tanh_slope": (lambda x: 4 / (np.exp(x) + np.exp(-x)) ** 2, (-42.0, 42.0)),
    "softsign": (lambda x: x / (1 + np.abs(x)), (-1e30, 1e30)),
    "softsign_slope": (lambda x: (1 + np.abs(x)) ** -2.0, (-1e18, 1e18)),
    "erf": (erf, (-10.0, 10.0)),
    "square_root": (np.sqrt, (0.0, LARGEST)),
    "inverse_root": (lambda x: 1 / np.sqrt(x), (1e-38, LARGEST)),
    "inverse_or_zero": (lambda x: np.where(x > 0, 1 / np.where(x > 0, x, 1), 0), (-1e30, 1e30)),
    "relu": (lambda x: np.maximum(x, 0), (-1e30, 1e30)),
    "step": (lambda x: (x > 0) * 1.0, (-1.0, 1.0)),
    "sign": (np.sign, (-1.0, 1.0)),
}
UNITS = {"sigmoid": 2.5, "tanh_slope": 4.0, "softsign_slope": 4.0}  # as functions.hpp says; 2 for all others
# Sums of two terms that cancel: units of the larger of value and operand.
MIXED = {"gelu", "gelu_slope"}
ALL = [*FUNCTIONS, "gelu", "gelu_slope", "exp2_of_negative"]


@pytest.fixture(scope="module")
def apply():
    """``apply(name, x)``: the function on a float32 array."""
    library = built(
        "\n".join(
            f"EXPORTED void {name}_of(float* x, long n) "
            f"{{ for (long i = 0; i < n; i += WIDTH) put(x + i, {name}(at(x + i))); }}"
            for name in ALL
        )
    )

    def run(name, x):
        y = np.pad(x.astype(np.float32), (0, -len(x) % 64))
        getattr(library, f"{name}_of")(pointer(y), ctypes.c_long(len(y)))
        return y[: len(x)]

    return run


def operands(low, high, seed=0):
    """Evenly spread numbers, and numbers of every magnitude; among them subnormals and both ends."""
    rng = np.random.default_rng(seed)
    sizes = np.exp2(rng.uniform(-149, 127.9, 40_000))
    x = np.concatenate(
        [rng.uniform(low, high, 40_000), sizes, -sizes, rng.uniform(-2, 2, 40_000), [low, high]]
    )
    x = x.astype(np.float32)
    return x[(x >= low) & (x <= high)]


def units(found, exact, floor=None):
    """Errors in units of the last place of the exact value; equal infinities have none."""
    exact32 = np.clip(np.abs(exact if floor is None else floor), 0, LARGEST).astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        too_large = np.abs(exact) > LARGEST * (1 + 2**-25)
        error = np.abs(found.astype(np.float64) - exact) / np.spacing(exact32)
    return np.where(too_large & np.isinf(found) & (np.sign(found) == np.sign(exact)), 0.0, error)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_right_to_the_last_places_everywhere(name, apply):
    meaning, bounds = FUNCTIONS[name]
    x = operands(*bounds)
    with np.errstate(all="ignore"):
        exact = meaning(x.astype(np.float64))
    found = apply(name, x)
    error = units(found, exact)
    worst = int(np.argmax(error))
    assert error[worst] <= UNITS.get(name, 2.0), (x[worst], found[worst], exact[worst])  # NaN fails too


@pytest.mark.parametrize("name", ["gelu", "gelu_slope"])
def test_gelu_is_right_against_the_larger_of_value_and_operand(name, apply):
    x = operands(-30.0, 30.0)
    wide = x.astype(np.float64)
    cumulative = 0.5 * (1 + erf(wide / math.sqrt(2)))
    density = np.exp(-0.5 * wide**2) / math.sqrt(2 * math.pi)
    exact = wide * cumulative if name == "gelu" else cumulative + wide * density
    # One plus an erf near -1 cancels; PyTorch's has the same loss.
    floor = np.maximum(np.abs(exact), np.abs(wide) if name == "gelu" else 1.0)
    assert units(apply(name, x), exact, floor).max() <= 4.0


def test_a_weight_is_exp2_down_to_the_smallest_normal_number(apply):
    x = operands(-126.0, 0.0)
    assert units(apply("exp2_of_negative", x), np.exp2(x.astype(np.float64))).max() <= 2.0
    assert (np.abs(apply("exp2_of_negative", np.array([-127.0, -1e30, -np.inf]))) < 1.2e-38).all()


@pytest.mark.parametrize(
    ("name", "at_minus_infinity", "at_infinity"),
    [
        ("exp", 0.0, np.inf),
        ("exp2", 0.0, np.inf),
        ("log", np.nan, np.inf),
        ("sigmoid", 0.0, 1.0),
        ("logsigmoid", -np.inf, 0.0),
        ("tanh", -1.0, 1.0),
        ("erf", -1.0, 1.0),
        ("relu", 0.0, np.inf),
        ("inverse_root", np.nan, 0.0),
    ],
)
def test_infinities_and_nan_have_their_meaning(name, at_minus_infinity, at_infinity, apply):
    found = apply(name, np.array([-np.inf, np.inf, np.nan]))
    np.testing.assert_equal(found, np.array([at_minus_infinity, at_infinity, np.nan], np.float32))


def test_the_logarithm_of_zero_is_minus_infinity_and_of_a_negative_number_nothing(apply):
    np.testing.assert_equal(
        apply("log", np.array([0.0, -0.0, -1.0, 1.0])), np.float32([-np.inf, -np.inf, np.nan, 0])
    )
