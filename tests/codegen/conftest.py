"""Random inputs, and the comparison of a compiled graph with the float64 reference."""

from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import pytest
import torch

from codegen import compile_attention
from graphir import OPERATIONS, reference


@dataclass(frozen=True)
class Case:
    """Inputs ``[B, H, S, D]`` by name, the gradient of the result, and the mask ``[B, S]`` or None."""

    inputs: dict
    grad: np.ndarray
    key_mask: np.ndarray | None

    @property
    def real(self):
        """Bool ``[B, H, S, D]``: the entries of real tokens."""
        if self.key_mask is None:
            return np.ones(self.grad.shape, bool)
        return np.broadcast_to(self.key_mask[:, None, :, None], self.grad.shape)

    def padded_with(self, value):
        """The same with ``value`` at every padded position of the inputs and of the gradient."""
        inputs = {name: np.where(self.real, x, value) for name, x in self.inputs.items()}
        return replace(self, inputs=inputs, grad=np.where(self.real, self.grad, value))


def _draw(seed, seq_len, head_dim, lengths=None, heads=2):
    """``lengths``: real tokens of each sequence, put at random positions; None for two unpadded ones."""
    rng = np.random.default_rng(seed)
    shape = (len(lengths) if lengths else 2, heads, seq_len, head_dim)
    key_mask = None
    if lengths:
        key_mask = np.stack([rng.permutation(seq_len) < length for length in lengths])
    return Case({name: rng.standard_normal(shape) for name in "QKV"}, rng.standard_normal(shape), key_mask)


def _results(graph, case, dtype=torch.float64):
    """Output and gradients of the compiled graph by name; unused inputs are passed as None."""
    attention = compile_attention(graph, backend="torch")
    tensors = {name: torch.tensor(case.inputs[name], dtype=dtype).requires_grad_() for name in graph.inputs}
    key_mask = None if case.key_mask is None else torch.tensor(case.key_mask)
    out = attention(*(tensors.get(name) for name in "QKV"), key_mask=key_mask)
    out.backward(torch.tensor(case.grad, dtype=dtype))
    results = {"out": out.detach()} | {name: tensor.grad for name, tensor in tensors.items()}
    return {name: tensor.double().numpy() for name, tensor in results.items()}


def _truth(graph, case):
    """Output and gradients by the reference."""
    inputs = [case.inputs[name] for name in "QKV"]
    with np.errstate(all="ignore"):
        out = reference.evaluate(graph, *inputs, key_mask=case.key_mask)
        return {"out": out} | reference.gradients(graph, case.grad, *inputs, key_mask=case.key_mask)


def _shaken_errors(graph, case, expected, seed):
    """Errors of the reference with every entry of every result and of every gradient on the way times
    ``1 + 1e-15 * noise``, by name, the largest of three.

    How far it moves is how well the values of the graph are determined at all (stochastic arithmetic: Vignes,
    "A stochastic arithmetic for reliable scientific computation", 1993). Noise in the inputs alone does not show it:
    a cosine of single numbers is a sign, which they do not move, but which another order of roundings does.
    """

    rng = np.random.default_rng(seed)

    def shaken(x):
        return x * (1 + 1e-15 * rng.standard_normal(x.shape))

    def unsteady(operation):
        return replace(
            operation,
            meaning=lambda *given: shaken(operation.meaning(*given)),
            gradient=lambda *given: tuple(map(shaken, operation.gradient(*given))),
        )

    table = {name: unsteady(operation) for name, operation in OPERATIONS.items()}
    with mock.patch.object(reference, "OPERATIONS", table):
        moved = [_errors(_truth(graph, case), expected, case.real) for _ in range(3)]
    return {name: max(errors[name] for errors in moved) for name in expected}


def _errors(found, expected, real):
    """By name: the largest difference at real positions over the largest magnitude expected, or over 1."""
    errors = {}
    for name, truth in expected.items():
        difference = np.abs(found[name] - truth)[real]
        errors[name] = difference.max(initial=0.0) / max(1.0, np.abs(truth[real]).max(initial=0.0))
    return errors


@pytest.fixture(scope="session")
def draw():
    """``draw(seed, seq_len, head_dim, lengths=None, heads=2)`` gives a `Case`."""
    return _draw


@pytest.fixture(scope="session")
def results():
    """``results(graph, case, dtype=float64)``: output and gradients of the compiled graph."""
    return _results


@pytest.fixture(scope="session")
def truth():
    """``truth(graph, case)``: output and gradients of the float64 reference."""
    return _truth


@pytest.fixture(scope="session")
def shaken_errors():
    """``shaken_errors(graph, case, expected, seed)``: how far roundings after every operation move the reference."""
    return _shaken_errors


@pytest.fixture(scope="session")
def errors():
    """``errors(found, expected, real)``: the relative error of each result."""
    return _errors


@pytest.fixture(scope="session")
def assert_agrees():
    """``assert_agrees(graph, case, tolerance)``: right at real positions, finite everywhere."""

    def check(graph, case, tolerance):
        # NaN at padded positions: whatever reads them shows.
        found = _results(graph, case.padded_with(np.nan))
        errors = _errors(found, _truth(graph, case), case.real)
        where = f"{graph.equation()}, shape {case.grad.shape}, mask {case.key_mask is not None}: {errors}"
        assert all(error <= tolerance for error in errors.values()), where  # NaN fails too
        assert all(np.isfinite(x).all() for x in found.values()), where

    return check
