"""How a fault is put into the compiler, and the graphs on which faults must show.

A fault is one edit of one function, one entry of a table or one text of the generated code. The checker of schedules
and the jury are never edited.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import pytest

from codegen import triton_program
from tests.codegen.jury import Known

Plant = Callable[[pytest.MonkeyPatch], None]


class Fault(NamedTuple):
    """``plant`` puts it in; ``juror`` is the first to object, on every one of ``graphs``."""

    plant: Plant
    juror: str
    graphs: tuple[str, ...]


def fault(plant, juror, *graphs) -> Fault:
    return Fault(plant, juror, graphs)


def edited(function, old, new) -> Plant:
    """The function with ``new`` in place of ``old``, wherever the compiler knows it."""

    def plant(monkeypatch):
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1, (
            f"{function.__qualname__} does not hold {old!r} once: choose another edit"
        )
        made = {}
        exec(compile(source.replace(old, new), "<fault>", "exec"), function.__globals__, made)
        owner, _, name = function.__qualname__.rpartition(".")
        if owner:
            monkeypatch.setattr(function.__globals__[owner], name, made[name])
            return
        for module in [module for room, module in sys.modules.items() if room.startswith("codegen.")]:
            tables = [table for table in vars(module).values() if isinstance(table, dict)]
            for table in [vars(module), *tables]:
                for key in [key for key, value in table.items() if value is function]:
                    monkeypatch.setitem(table, key, made[name])

    return plant


def entry(table, key, value) -> Plant:
    """A table with another entry."""
    return lambda monkeypatch: monkeypatch.setitem(table, key, value)


def generated(old, new) -> Plant:
    """A template that writes ``new`` in place of ``old``."""

    def plant(monkeypatch):
        render = triton_program.render

        def faulty(template, **values):
            text = render(template, **values)
            assert old in text, f"the generated code does not hold {old!r}: choose another edit"
            return text.replace(old, new)

        monkeypatch.setattr(triton_program, "render", faulty)

    return plant


def both(*plants) -> Plant:
    """Two edits, where one part of the compiler is careful on behalf of another."""

    def plant(monkeypatch):
        for each in plants:
            each(monkeypatch)

    return plant


PLAIN = "softmax(scale(Q @ K.T)) @ V"
NEGATED = "softmax(-(Q @ K.T)) @ V"
COLUMN = "softmax((Q @ K.T).T).T @ V"
TWO_SOFTMAXES = "softmax(softmax(Q @ K.T)) @ V"
ONE_SOFTMAX_TWICE = "softmax(Q @ K.T) @ softmax(Q @ K.T) @ V"
GATED = "t = softmax(Q @ K.T); mul(t, softsign(t)) @ V"
SQUARED = "t = softmax(Q @ K.T); mul(t, t) @ V"
WEIGHTED_SCORES = "w = softsign(Q @ V.T); softmax(mul(w, Q @ K.T) + mul(w, V @ K.T)) @ V"
OWN_COSINE = "softmax(cosine_similarity(V, V)) @ Q"
COSINE = "softmax(cosine_similarity(Q, K)) @ V"
LINEAR = "Q @ K.T @ V"
STATE = "Q @ (softmax(K.T) @ V)"  # its values of D x D are sums over all tokens
STATE_COSINE = "cosine_similarity(Q, logsigmoid(K.T @ Q))"  # reads a value of D x D both ways round
UNMASKED_STATE = "Q @ (sigmoid(K).T @ sigmoid(V))"
MIXED_STATE = "Q @ ((sigmoid(K) + V).T @ sigmoid(V))"
NONLINEAR_STATE = "Q @ softsign(K.T @ V)"
SQUARES = "softsign(softmax(Q @ K.T) @ logsigmoid(K @ Q.T)) @ V"  # a product of two S x S values
SQUARES_AND_ROWS = "t = softsign(Q @ V.T); softsign(t @ t + cosine_similarity(K, K)) @ V"
EUCLID = "softmax(-euclidean_distance(Q, K)) @ V"
EUCLID_OF_NEAR_ROWS = "euclidean_distance(Q, Q + scale(scale(scale(K)))) @ V"
EUCLID_OF_ONE = "euclidean_distance(Q, Q) @ V"
EUCLID_OVER_TOKENS = "Q @ euclidean_distance(K.T, V.T)"
SUM_OF_SCORES = "t = softsign(Q @ K.T); (scale(t) + scale(t.T)) @ V"
SIGNED_SCORES = "logsigmoid(scale(Q @ K.T) + scale(K @ V.T)) @ V"

_MATRIX, _VECTOR = 1000 * 64 * 2, 1000 * 4  # bytes: of rows in 16 bits, of one number a row in 32
PLANS = {
    PLAIN: Known((1,), 3, 4 * _MATRIX + 2 * _VECTOR),
    TWO_SOFTMAXES: Known((2,), 4, 4 * _MATRIX + 4 * _VECTOR),
    WEIGHTED_SCORES: Known((1,), 3, 4 * _MATRIX + 2 * _VECTOR),
    LINEAR: Known((0, 0), 3, 4 * _MATRIX + 2 * 64 * 64 * 2),
    NONLINEAR_STATE: Known((0, 0), 3, 4 * _MATRIX + 2 * 64 * 64 * 4),
}
"""What is known of plans by hand. A logsumexp is two numbers a row; a value of D x D is written, then read."""
