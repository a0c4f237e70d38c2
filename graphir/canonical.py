"""The canonical form: one hash for all graphs that are equal by exact identities.

Every value is brought to the form ``coefficient * D^(-power/2) * core``. The rules pull signs, whole numbers
and scales out of linear operations into the coefficient, flatten sums and products, and push transposes
down to the inputs. A core is known by the digest of its structure, so equal subexpressions are one.

One rule per operation stands in `RULES`. An operation without a rule is opaque: its hash is right, only
coarser, because nothing moves through it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from math import gcd, prod
from typing import TYPE_CHECKING, NamedTuple

from graphir.ops import OPERATIONS, ValueType

if TYPE_CHECKING:
    from graphir.backbone import Backbone
    from graphir.graph import AttentionGraph

MAX_FACTORS = 16
"""Longest product that is flattened; without a bound x @ x.T, repeated, doubles its length at each step."""

MAX_COEFFICIENT = 2**62
"""Largest coefficient that is moved out of a product: repeated squaring would square it again and again."""

DIGEST_BYTES = 16


class Core:
    """A value without its coefficient: an operation and its operands, known by their digest."""

    __slots__ = ("digest", "mirror", "op", "parts", "turn")

    def __init__(self, op: str, encoded: bytes, parts: tuple, turn: Callable[[], Value]) -> None:
        self.op = op
        self.parts = parts
        self.turn = turn
        self.mirror: Value | None = None  # the transpose, once it was asked for
        self.digest = blake2b(op.encode() + b"(" + encoded, digest_size=DIGEST_BYTES).digest()


class Value(NamedTuple):
    """``coefficient * D^(-power/2) * core``; a zero has coefficient 0, power 0 and a core of its type."""

    coefficient: int
    power: int
    core: Core


Rule = Callable[[tuple[Value, ...], ValueType], Value]
_Terms = dict[bytes, tuple[Core, dict[int, int]]]  # digest -> core, {power: coefficient}


def canonical_hash(graph: AttentionGraph) -> str:
    """A hex digest of what ``graph`` means.

    Equal for graphs that differ only by names, by the order of commutative operands, or by exact
    identities: neg neg, transpose transpose, transpose of a product, of a sum, of a pointwise operation and
    of a pairwise one; neg and scale moving through linear operations; x - y = x + (-y); associativity of
    add, mul and matmul; common subexpressions; odd, even and homogeneous pointwise operations. Different
    where the float64 reference differs. Distribution of products over sums is not among the identities
    (`graphir.reference.fingerprint` sees it).

    Example:
        >>> from graphir import AttentionGraph
        >>> one = AttentionGraph.from_expression("softmax(scale(Q @ K.T)) @ V")
        >>> two = AttentionGraph.from_expression("softmax(-(K @ -scale(Q).T).T) @ V")
        >>> canonical_hash(one) == canonical_hash(two)
        True
    """
    values = {name: Value(1, 0, _input_core(name, False)) for name in graph.inputs}
    types = graph.types
    for node in graph.nodes:
        operands = tuple([values[name] for name in node.inputs])
        rule = RULES.get(node.op) or partial(_opaque, node.op)
        values[node.id] = rule(operands, types[node.id])
    return blake2b(_encoded(values[graph.output]), digest_size=DIGEST_BYTES).hexdigest()


def backbone_hash(backbone: Backbone) -> str:
    """A hex digest of the sizes, the kernel sizes and the canonical hash of every attention graph."""
    parts = [f"{backbone.hidden_size}/{backbone.heads}/{backbone.ffn_size}"]
    for layer in backbone.layers:
        parts.append(f"conv {layer.kernel_size}" if layer.kind == "conv" else canonical_hash(layer.graph))
    return blake2b("\n".join(parts).encode(), digest_size=DIGEST_BYTES).hexdigest()


def _encoded(value: Value) -> bytes:
    return b"%d,%d,%b" % (value.coefficient, value.power, value.core.digest)


def _times(value: Value, coefficient: int, power: int = 0) -> Value:
    if value.coefficient == 0:
        return value
    return Value(value.coefficient * coefficient, value.power + power, value.core)


def _turned(value: Value) -> Value:
    """The transpose of a value."""
    core = value.core
    if core.mirror is None:
        core.mirror = core.turn()
        other = core.mirror.core
        if other.mirror is None:  # a sign that was pulled out on the way is its own inverse
            other.mirror = Value(core.mirror.coefficient, 0, core)
    return _times(core.mirror, value.coefficient, value.power) if value.coefficient else core.mirror


# -- cores


def _input_core(name: str, flipped: bool) -> Core:
    encoded = (name + ("^T" if flipped else "")).encode()
    return Core("input", encoded, (name, flipped), lambda: Value(1, 0, _input_core(name, not flipped)))


def _zero(value_type: ValueType) -> Value:
    flipped = (value_type[1], value_type[0])
    return Value(0, 0, Core("zero", "x".join(value_type).encode(), (), lambda: _zero(flipped)))


def _opaque(op: str, operands: tuple[Value, ...], value_type: ValueType, flipped: bool = False) -> Value:
    """An operation that nothing moves through; its transpose is a flag."""
    encoded = [_encoded(operand) for operand in operands]
    if op in OPERATIONS and OPERATIONS[op].commutative:
        encoded.sort()
    encoded.append(b"^T" if flipped else b"")

    def turn() -> Value:
        return _opaque(op, operands, (value_type[1], value_type[0]), not flipped)

    return Value(1, 0, Core(op, b";".join(encoded), operands, turn))


# -- rules


def _neg(operands: tuple[Value, ...], value_type: ValueType) -> Value:
    return _times(operands[0], -1)


def _transpose(operands: tuple[Value, ...], value_type: ValueType) -> Value:
    return _turned(operands[0])


def _scale(operands: tuple[Value, ...], value_type: ValueType) -> Value:
    return _times(operands[0], 1, 1)


def _odd(op: str, operands: tuple[Value, ...], value_type: ValueType) -> Value:
    """An operation along the last axis with f(-x) = -f(x)."""
    sign = -1 if operands[0].coefficient < 0 else 1
    return _times(_opaque(op, (_times(operands[0], sign),), value_type), sign)


def _pointwise(op: str, parity: int = 0, degree: int = 0) -> Rule:
    """The rule of an elementwise operation f: it commutes with transpose.

    ``parity`` is -1 where f(-x) = -f(x), 1 where f(-x) = f(x), else 0; ``degree`` is n where
    f(c x) = c^n f(x) for every positive c, 0 where f is not homogeneous.
    """

    def rule(operands: tuple[Value, ...], value_type: ValueType) -> Value:
        (operand,) = operands
        if operand.coefficient == 0 and (degree or parity < 0):
            return _zero(value_type)
        coefficient, power, sign = 1, 0, 1
        if operand.coefficient < 0 and parity:
            operand, sign = _times(operand, -1), parity
        if degree and abs(operand.coefficient) ** degree <= MAX_COEFFICIENT:
            coefficient, power = abs(operand.coefficient) ** degree, operand.power * degree
            operand = Value(1 if operand.coefficient > 0 else -1, 0, operand.core)

        def turn() -> Value:
            return rule((_turned(operand),), (value_type[1], value_type[0]))

        return Value(sign * coefficient, power, Core(op, _encoded(operand), (operand,), turn))

    return rule


def _cosine(operands: tuple[Value, ...], value_type: ValueType) -> Value:
    """Odd in both operands. A scale stays inside because of the clamp of small norms."""
    x, y = operands
    if x.coefficient == 0 or y.coefficient == 0:
        return _zero(value_type)
    sign = (1 if x.coefficient > 0 else -1) * (1 if y.coefficient > 0 else -1)
    x, y = (Value(abs(v.coefficient), v.power, v.core) for v in (x, y))

    def turn() -> Value:
        return _cosine((y, x), (value_type[1], value_type[0]))

    return Value(sign, 0, Core("cosine_similarity", _encoded(x) + b";" + _encoded(y), (x, y), turn))


def _euclidean(operands: tuple[Value, ...], value_type: ValueType) -> Value:
    """Homogeneous in both operands together: |c x - c y| = |c| |x - y|."""
    x, y = operands
    size = gcd(x.coefficient, y.coefficient)
    if size == 0:
        return _zero(value_type)
    power = min(v.power for v in operands if v.coefficient)
    divisor = size if (x.coefficient or y.coefficient) > 0 else -size
    x, y = (Value(v.coefficient // divisor, v.power - power if v.coefficient else 0, v.core) for v in (x, y))

    def turn() -> Value:
        return _euclidean((y, x), (value_type[1], value_type[0]))

    return Value(size, power, Core("euclidean_distance", _encoded(x) + b";" + _encoded(y), (x, y), turn))


def _factors(values: tuple[Value, Value], op: str) -> tuple[Core, ...]:
    """The cores of two values, with those of a product by ``op`` in its place where that is short enough."""
    flat = [value.core.parts if value.core.op == op else (value.core,) for value in values]
    if len(flat[0]) + len(flat[1]) > MAX_FACTORS:
        return (values[0].core, values[1].core)
    return (*flat[0], *flat[1])


def _product(op: str, factors: tuple[Core, ...]) -> Core:
    if op == "mul":
        factors = tuple(sorted(factors, key=lambda core: core.digest))

    def turn() -> Value:
        turned = [_turned(Value(1, 0, core)) for core in factors]
        sign = prod(value.coefficient for value in turned)
        cores = tuple([value.core for value in turned])
        return Value(sign, 0, _product(op, cores if op == "mul" else cores[::-1]))

    return Core(op, b"".join([core.digest for core in factors]), factors, turn)


def _bilinear(op: str, operands: tuple[Value, ...], value_type: ValueType) -> Value:
    """matmul and mul: coefficients multiply, factors line up."""
    x, y = operands
    if x.coefficient == 0 or y.coefficient == 0:
        return _zero(value_type)
    if abs(x.coefficient * y.coefficient) > MAX_COEFFICIENT:
        ordered = tuple(sorted(operands, key=_encoded)) if op == "mul" else operands
        return _opaque(f"whole {op}", ordered, value_type)
    core = _product(op, _factors((x, y), op))
    return Value(x.coefficient * y.coefficient, x.power + y.power, core)


def _collect(terms: _Terms, value: Value) -> None:
    """Add a value to a sum, term by term where it is a sum itself."""
    if value.coefficient == 0:
        return
    parts = value.core.parts if value.core.op == "add" else ((value.core, ((0, 1),)),)
    for core, polynomial in parts:
        _, collected = terms.setdefault(core.digest, (core, {}))
        for power, coefficient in polynomial:
            power += value.power
            collected[power] = collected.get(power, 0) + coefficient * value.coefficient


def _sum(terms: _Terms, value_type: ValueType) -> Value:
    """The normal form of a sum: sorted terms, with sign, common divisor and common scales pulled out."""
    parts = []
    for digest in sorted(terms):
        core, collected = terms[digest]
        polynomial = tuple([term for term in sorted(collected.items()) if term[1]])
        if polynomial:
            parts.append((core, polynomial))
    if not parts:
        return _zero(value_type)
    divisor = gcd(*[coefficient for _, polynomial in parts for _, coefficient in polynomial])
    power = min(polynomial[0][0] for _, polynomial in parts)
    if parts[0][1][0][1] < 0:
        divisor = -divisor
    if len(parts) == 1 and len(parts[0][1]) == 1:
        return Value(divisor, power, parts[0][0])
    reduced = tuple([(core, tuple([(p - power, c // divisor) for p, c in poly])) for core, poly in parts])
    encoded = b"".join([core.digest + repr(polynomial).encode() for core, polynomial in reduced])

    def turn() -> Value:
        flipped: _Terms = {}
        for core, polynomial in reduced:
            for p, c in polynomial:
                _collect(flipped, _times(_turned(Value(1, 0, core)), c, p))
        return _sum(flipped, (value_type[1], value_type[0]))

    return Value(divisor, power, Core("add", encoded, reduced, turn))


def _add(sign: int, operands: tuple[Value, ...], value_type: ValueType) -> Value:
    terms: _Terms = {}
    _collect(terms, operands[0])
    _collect(terms, _times(operands[1], sign))
    return _sum(terms, value_type)


RULES: dict[str, Rule] = {
    "neg": _neg,
    "transpose": _transpose,
    "scale": _scale,
    "softmax": partial(_opaque, "softmax"),
    "logsigmoid": _pointwise("logsigmoid"),
    "softsign": _pointwise("softsign", parity=-1),
    "add": partial(_add, 1),
    "matmul": partial(_bilinear, "matmul"),
    "cosine_similarity": _cosine,
    "euclidean_distance": _euclidean,
    "mul": partial(_bilinear, "mul"),
    "sub": partial(_add, -1),
    "relu": _pointwise("relu", degree=1),
    "relu_squared": _pointwise("relu_squared", degree=2),
    "sigmoid": _pointwise("sigmoid"),
    "tanh": _pointwise("tanh", parity=-1),
    "exp": _pointwise("exp"),
    "abs": _pointwise("abs", parity=1, degree=1),
    "rms_norm": partial(_odd, "rms_norm"),
}
"""How each operation is brought to canonical form: operands and result type -> value."""
