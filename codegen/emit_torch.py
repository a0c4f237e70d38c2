"""Writing the steps of the PyTorch form down as source.

Every value remembers at which of its ``S`` axes padded positions are known to be zero. A sum over ``S`` is right as
soon as one factor is zero there and the others are finite, so most graphs need no mask beyond the inputs'.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from codegen.expr import AXIS_SEQ, MATRIX, ONE, SCORES, Coefficient, Expr, Input, Use
from codegen.line_breaking import assignment
from codegen.pointwise import FUNCTIONS
from codegen.torch_steps import (
    Apply,
    Attend,
    Combine,
    Count,
    Distances,
    Given,
    Matmul,
    Product,
    Softmax,
    Step,
    Unit,
    reads,
)
from codegen.torch_text import Text, common_scalar, scalar_source, sum_of, times
from graphir import AttentionGraph

_OWN_FUNCTIONS = {"softsign": "_softsign({x})"}
"""Pointwise functions that generated code has a quicker form of than PyTorch."""

_INLINE_CHARS = 48
_OPERAND_CHARS = 60
"""Operands of one call are named first where together they are longer, so that its line stays readable."""


class Mask(NamedTuple):
    """A view of the key mask: variable, index expression, and a comment with its shape."""

    name: str
    view: str
    comment: str


_SEQ_MASKS = {(1, 0): "tokens", (2, 0): "rows", (2, 1): "columns"}
"""The mask of an ``S`` axis, by the number of dimensions behind ``[B, H]`` and the place among them."""

_NAME_CHARS = 20
"""About the longest variable, with a view of it."""

_MASKS = {
    "rows": Mask("rows", ":, None, :, None", "  # [B, 1, S, 1]"),
    "columns": Mask("columns", ":, None, None, :", "  # [B, 1, 1, S]"),
    "tokens": Mask("tokens", ":, None, :", "  # [B, 1, S]"),
}


@dataclass(frozen=True)
class TorchProgram:
    """The body of one generated function, ready for the template."""

    name: str
    equation: str
    unused: tuple[str, ...]
    lines: tuple[str, ...]
    result: str
    masks: tuple[Mask, ...]
    needed: frozenset[str]
    stores_scores: bool

    @property
    def uses_functional(self) -> bool:
        """Whether the body calls `torch.nn.functional`."""
        return bool(self.needed & {"attend", "parts", "softsign"})

    @property
    def operands(self) -> str:
        """The inputs as a tuple in source, None for those that are unused."""
        return f"({', '.join('None' if name in self.unused else name for name in 'qkv')})"


def write_program(
    graph: AttentionGraph, root: Use, steps: list[Step], name: str = "attention"
) -> TorchProgram:
    """The steps as the lines of a function called ``name``."""
    given = next((step.name for step in steps if isinstance(step, Given)), graph.inputs[0])
    writer = _Writer(steps, [name.lower() for name in graph.inputs], given.lower())
    result = writer.finish(root)
    return TorchProgram(
        name=name,
        equation=graph.equation(),
        unused=tuple(n.lower() for n in ("Q", "K", "V") if n not in graph.inputs),
        lines=tuple(writer.lines),
        result=result,
        masks=tuple(_MASKS[mask] for mask in _MASKS if mask in writer.masks),
        needed=frozenset(writer.needed),
        stores_scores=any(step.node.axes == SCORES for step in steps),
    )


@dataclass
class _Writer:
    """Writes steps in order; remembers the source and the known zeros of every value."""

    steps: list[Step]
    inputs: list[str]
    any_input: str
    lines: list[str] = field(default_factory=list)
    masks: set[str] = field(default_factory=set)
    needed: set[str] = field(default_factory=set)
    texts: dict[Expr, Text] = field(default_factory=dict)
    zeros: dict[Expr, frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.any_node = next((s.node for s in self.steps if isinstance(s, Given)), None)
        self.roles = {
            use.node: role
            for step in self.steps
            if isinstance(step, Attend)
            for use, role in ((step.value, "value"), (step.key, "key"), (step.query, "query"))
        }
        # Inputs that cancel out, such as K in Q + (K - K): they are added as zero, so that their gradient is
        # zero and not None.
        given = {step.name.lower() for step in self.steps if isinstance(step, Given)}
        self.vanished = [name for name in self.inputs if name not in {*given, self.any_input}]
        self.readers = Counter(use.node for step in self.steps for use in reads(step))
        # Inputs that are only added up are zeroed at padded positions once they are: one mask instead of several.
        self.filled_later = {
            use.node
            for step in self.steps
            if isinstance(step, Combine) and len(step.terms) > 1
            if all(isinstance(use.node, Input) and self.readers[use.node] == 1 for _, use in step.terms)
            for _, use in step.terms
        }
        self.names: Counter[str] = Counter(["q", "k", "v", "scale", "rows", "columns", "tokens"])
        self.needed |= {"parts", "plain"}
        if any(c.scales for step in self.steps for c in _coefficients(step)):
            self.lines.append(f"scale = max({self.any_input}.shape[-1], 1) ** -0.5")
        for step in self.steps:
            self.write(step)

    def finish(self, root: Use) -> str:
        """The result; rows at padded positions are zero and pass no gradient on."""
        text = self.read(root, (0, 1))
        if isinstance(root.node, Input) and not self.vanished:
            return f"{text.source}.clone()"  # no part of an input is handed out
        if 0 in self.zero_labels(root) and all(map(_is_row_wise, self.steps)) and not self.vanished:
            # Zero already, and no row's gradient reaches another row.
            if not text.source.isidentifier():
                return text.source
            name, _, source = self.lines[-1].partition(" = ")
            if name == text.source:
                del self.lines[-1]
                return source
        for name in self.vanished:
            text = Text(f"{text.source} + 0.0 * {name}", atom=False)
        return self.filled(text, "rows", "0.0").source

    # -- one step

    def write(self, step: Step) -> None:
        text, zeros = self.expression(step)
        self.zeros[step.node] = zeros
        inline = (
            isinstance(step, Apply | Combine)
            and self.readers[step.node] <= 1
            and len(text.source) <= _INLINE_CHARS
            and getattr(step, "function", "") != "dropout"
        )
        if isinstance(step, Given) or (isinstance(step, Apply) and step.function == "dropout") or inline:
            self.texts[step.node] = text
            return
        self.texts[step.node] = self.named(text, self.roles.get(step.node) or _variable(step))

    def expression(self, step: Step) -> tuple[Text, frozenset[int]]:
        """The source of a step and the ``S`` axes at whose padded positions its value is zero."""
        match step:
            case Given(node=node, name=name):
                variable = name.lower()
                if node in self.filled_later:
                    return Text(variable), frozenset()
                self.lines.append(f"{variable} = {self.filled(Text(variable), 'rows', '0.0').source}")
                return Text(variable), frozenset({0})
            case Apply(function="dropout", operand=operand):
                name = self.texts[operand.node].source
                self.needed.add("dropout")
                self.lines += ["if dropout_p > 0.0:", f"    {name} = _dropout({name}, dropout_p)"]
                return Text(name), self.zeros[operand.node]
            case Apply(node=node, function=function, operand=operand):
                rule = FUNCTIONS[function]
                form = _OWN_FUNCTIONS.get(function, rule.torch)
                if function in _OWN_FUNCTIONS:
                    self.needed |= {function, "plain"}
                keeps = self.zero_labels(operand) if rule.keeps_zero else frozenset()
                text = self.read(operand, tuple(range(len(node.axes))))
                if rule.explodes:
                    # An overflow at padded positions would meet a zero later, and inf * 0 is NaN.
                    for label in sorted(_seq_labels(node.axes) - self.zero_labels(operand)):
                        text = self.filled(text, _SEQ_MASKS[len(node.axes), label], "0.0")
                return Text(form.format(x=text.source if "({x}" in form else text)), keeps
            case Combine(node=node, terms=terms):
                if not terms:
                    return self.zero(node), _seq_labels(node.axes)
                text = self.combination(terms, len(node.axes))
                if terms[0][1].node in self.filled_later:
                    return self.filled(text, "rows", "0.0"), frozenset({0})
                zeros = _seq_labels(node.axes).intersection(*(self.zero_labels(use) for _, use in terms))
                return text, zeros
            case Softmax():
                return self.softmax(step)
            case Matmul(node=node, left=left, right=right, summed=summed, scalar=scalar):
                texts = self.masked_pair((left, (0, 2)), (right, (2, 1)), summed)
                if scalar != ONE:
                    # Into the smaller operand, and not over the whole product.
                    sizes = [use.node.axes.count(AXIS_SEQ) for use in (left, right)]
                    smaller = sizes.index(min(sizes))
                    texts[smaller] = times(scalar, texts[smaller])
                one, two = self.shortened(texts)
                zeros = self.zero_labels(left) | self.zero_labels(right)
                return Text(f"{one} @ {two}", atom=False), zeros & _seq_labels(node.axes)
            case Product(node=node, factors=factors, summed=summed):
                return self.product(node, factors, summed)
            case Unit(node=node, operand=operand, along=along):
                self.needed |= {"unit", "plain"}
                text = self.read(operand, (0, 1))
                zeros = self.zero_labels(operand)
                if node.axes[along] == AXIS_SEQ and along not in zeros:
                    text = self.filled(text, _SEQ_MASKS[2, along], "0.0")
                    zeros |= {along}
                return Text(f"_unit({text.source}, dim={along - 2})"), zeros
            case Distances():
                return self.distances(step), frozenset()
            case Count():
                self.needed.add("count")
                return Text(f"_count({self.any_input}, key_mask)"), frozenset()
            case Attend():
                return self.attend(step), frozenset()
        raise TypeError(f"no source for {type(step).__name__}")

    # -- kinds of expressions

    def combination(self, terms: tuple[tuple[Coefficient, Use], ...], rank: int) -> Text:
        operands = self.shortened([self.read(use, tuple(range(rank))) for _, use in terms])
        common = common_scalar(*(coefficient for coefficient, _ in terms))
        total = sum_of([(c.over(common), operand) for (c, _), operand in zip(terms, operands, strict=True)])
        return times(common, total)

    def zero(self, node: Expr) -> Text:
        """A sum without terms, such as Q - Q. It stays attached to an input, so that its gradient is zero, not None."""
        # An input that is only added up is not zeroed yet: 0.0 times what stands at padded positions may be NaN.
        zeroed = self.any_node is not None and 0 in self.zeros.get(self.any_node, ())
        attached = self.texts.get(self.any_node) if zeroed and self.any_node else None
        source = attached or self.filled(Text(self.any_input), "rows", "0.0")
        if node.axes == MATRIX:
            return Text(f"0.0 * {source}", atom=False)
        sizes = ", ".join(f"{self.any_input}.shape[{-2 if axis == AXIS_SEQ else -1}]" for axis in node.axes)
        return Text(f"{self.any_input}.new_zeros(*{self.any_input}.shape[:2], {sizes})")

    def softmax(self, step: Softmax) -> tuple[Text, frozenset[int]]:
        logits = self.read(step.operand, (0, 1))
        dim = f"dim={step.axis - 2}"
        if step.node.axes[step.axis] != AXIS_SEQ:
            return Text(f"torch.softmax({logits.source}, {dim})"), frozenset()
        named = self.named(logits, "scores" if step.node.axes == SCORES else "logits")
        lowest = f"torch.finfo({named}.dtype).min"
        masked = self.filled(named, ("rows", "columns")[step.axis], lowest)
        return Text(f"torch.softmax({masked.source}, {dim})"), frozenset({step.axis})

    def product(
        self, node: Expr, factors: tuple[Use, ...], summed: tuple[str, ...]
    ) -> tuple[Text, frozenset[int]]:
        rank = len(node.axes)
        labels = tuple(range(rank + len(summed)))
        zeros = frozenset().union(*(self.zero_labels(use) for use in factors))
        texts = [self.read(use, labels) for use in factors]
        for label, axis in enumerate(summed, rank):
            if axis == AXIS_SEQ and label not in zeros:
                position = next(n for n, use in enumerate(factors) if label in use.labels)
                texts[position] = self.filled(texts[position], _SEQ_MASKS[len(labels), label], "0.0")
        texts = self.shortened(texts)
        if summed:
            self.needed.add("wide")
            body = " * ".join(f"_wide({text.source})" for text in texts)
            body = body if len(texts) == 1 else f"({body})"
            dims = "-1" if len(summed) == 1 else "(-2, -1)"
            return Text(f"{body}.sum({dims})"), zeros & _seq_labels(node.axes)
        source = " * ".join(map(str, texts))
        if any(len(use.labels) < rank for use in factors) and rank == 2:
            # Row factors are kept in float32; a matrix has the type of the inputs.
            return Text(f"({source}).to({self.any_input}.dtype)"), zeros & _seq_labels(node.axes)
        return Text(source, atom=False), zeros & _seq_labels(node.axes)

    def distances(self, step: Distances) -> Text:
        self.needed |= {"distances", "plain"}
        texts = [
            self.filled(text, "columns", "0.0")
            if step.summed == AXIS_SEQ and 2 not in self.zero_labels(use)
            else text
            for use, text in (
                (step.left, self.read(step.left, (0, 2))),
                (step.right, self.read(step.right, (1, 2))),
            )
        ]
        if step.left.relabelled((1, 1, 2)) == step.right.relabelled((1, 1, 2)):
            # Of one variable with itself, so that a value's distance from itself is seen to be zero.
            texts = [self.named(texts[0], "points")] * 2
        one, two = self.shortened(texts)
        return Text(f"_distances({one.source}, {two.source})")

    def attend(self, step: Attend) -> Text:
        query, key, value = (
            self.read(step.query, (0, 2)),
            self.read(step.key, (1, 2)),
            self.read(step.value, (1, 2)),
        )
        self.needed |= {"attend", "dropout"}
        operands = [self.named(query, "query"), self.named(key, "key"), self.named(value, "value")]
        arguments = [*map(str, operands), "key_mask", "dropout_p"]
        if step.scale != Coefficient(1, 1):
            arguments.append(f"scale={scalar_source(step.scale) or '1.0'}")
        return Text(f"_attend({', '.join(arguments)})")

    # -- reading values

    def read(self, use: Use, labels: tuple[int, ...]) -> Text:
        """The value as a tensor whose trailing dimensions are ``labels``, in that order, missing ones of size 1."""
        text = self.texts[use.node]
        match [labels.index(label) for label in use.labels], len(labels):
            case [1, 0], 2:
                return Text(f"{text}.mT")
            case [0], 2:
                return Text(f"{text}.unsqueeze(-1)")
            case [1], 2:
                return Text(f"{text}.unsqueeze(-2)")
            case [], 2:
                return Text(f"{text}[..., None, None]")
            case [], 1:
                return Text(f"{text}.unsqueeze(-1)")
        return text

    def masked_pair(
        self, left: tuple[Use, tuple[int, int]], right: tuple[Use, tuple[int, int]], summed: str
    ) -> list[Text]:
        """Both operands of a matmul, one of them zeroed at padded positions of the summed axis if need be."""
        texts = [self.read(*left), self.read(*right)]
        if summed == AXIS_SEQ and not any(2 in self.zero_labels(use) for use, _ in (left, right)):
            # The operand with fewer S axes is the cheaper one to mask.
            seqs = [use.node.axes.count(AXIS_SEQ) for use, _ in (left, right)]
            position = 0 if seqs[0] < seqs[1] else 1
            texts[position] = self.filled(texts[position], ("columns", "rows")[position], "0.0")
        return texts

    def filled(self, text: Text, mask: str, value: str) -> Text:
        self.masks.add(mask)
        self.needed.add("fill")
        return Text(f"_fill({text.source}, {mask}, {value})")

    def zero_labels(self, use: Use) -> frozenset[int]:
        """The labels of ``use`` along which padded positions are zero."""
        return frozenset(use.labels[axis] for axis in self.zeros[use.node])

    def shortened(self, texts: list[Text]) -> list[Text]:
        """The operands of one call, named first where they are long."""
        if sum(len(text.source) for text in texts) <= _OPERAND_CHARS:
            return texts
        return [self.named(text, "operand") if len(text.source) > _NAME_CHARS else text for text in texts]

    def named(self, text: Text, stem: str) -> Text:
        """The value as a variable; a new one unless it is one already."""
        if text.source.isidentifier():
            return text
        name = self.fresh(stem)
        self.lines += assignment(name, text.source)
        return Text(name)

    def fresh(self, stem: str) -> str:
        self.names[stem] += 1
        return stem if self.names[stem] == 1 else f"{stem}_{self.names[stem]}"


def _coefficients(step: Step) -> list[Coefficient]:
    match step:
        case Combine(terms=terms):
            return [coefficient for coefficient, _ in terms]
        case Matmul(scalar=scalar):
            return [scalar]
        case Attend(scale=scale) if scale != Coefficient(1, 1):
            return [scale]
    return []


def _is_row_wise(step: Step) -> bool:
    """Whether a step computes each token from that token alone."""
    match step:
        case Given() | Apply() | Combine():
            return step.node.axes[:1] == (AXIS_SEQ,) and step.node.axes != SCORES
        case Softmax(node=node, axis=axis) | Unit(node=node, along=axis):
            return node.axes == MATRIX and axis == 1
    return False


def _seq_labels(axes: tuple[str, ...]) -> frozenset[int]:
    return frozenset(n for n, axis in enumerate(axes) if axis == AXIS_SEQ)


def _scales_rows(step: Product) -> bool:
    return any(len(use.labels) < len(step.node.axes) for use in step.factors)


def _variable(step: Step) -> str:
    """A telling name for the value of a step."""
    match step:
        case Attend():
            return "attended"
        case Softmax():
            return "weights"
        case Distances():
            return "distances"
        case Unit():
            return "unit"
        case Count():
            return "count"
        case Apply(function=function):
            return function
        case _ if step.node.axes == SCORES:
            return "scores"
        case Matmul() if step.node.axes == MATRIX:
            return "mixed"
        case Matmul() if AXIS_SEQ not in step.node.axes:
            return "state"
        case Product(factors=factors, summed=summed) if summed:
            return "squares" if len(set(factors)) < len(factors) else "sums"
        case Product():
            return "product" if len(step.node.axes) == 2 and not _scales_rows(step) else "scaled_rows"
        case Combine():
            return "total"
    return "value"
