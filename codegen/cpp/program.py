"""`NativeProgram`: both directions of an attention structure as C++, and what their functions take."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from codegen.cpp.library import with_library
from codegen.expr import Axes


@dataclass(frozen=True)
class Kept:
    """What the forward keeps for the backward beside its result: float32, of each head.

    Attributes:
        name: in the text.
        axes: ``("S",)``, ``("S", "D")`` and so on, S first; along S stand the real tokens, in order.
        parts: values of these axes; a logsumexp is a maximum and the rest.
    """

    name: str
    axes: Axes
    parts: int = 1

    def shape(self, batch: int, heads: int, tokens: int, head_dim: int) -> tuple[int, ...]:
        """Of the tensor: ``[batch, heads, parts, ...]``, lengths up to a multiple of 16."""
        sizes = {"S": (tokens + 15) // 16 * 16, "D": (head_dim + 15) // 16 * 16}
        return (batch, heads, self.parts, *([sizes[axis] for axis in self.axes] or [16]))


@dataclass(frozen=True)
class NativeProgram:
    """C++ of a forward and a backward.

    The text defines, with the types of ``templates/cpp``::

        EXPORTED int forward(const Tensor* tensors, float* const* kept, const uint8_t* mask, const Shape* shape,
                             const Dropout* dropout, int threads);   // and backward, likewise

    ``tensors`` are the inputs and the result, or the inputs, the result where ``reads_out``, its gradient and the
    gradients of the inputs. They return 0, or 1 where there is no memory.

    Attributes:
        equation: of the graph.
        inputs: those that the graph uses, ``q`` and so on.
        text: the kernels, without the library.
        kept: what the forward keeps.
        reads_out: whether the backward reads the result.
        dropout: whether there is a softmax that dropout works on.
        constant: inputs that have no gradient: it is zero.
    """

    equation: str
    inputs: tuple[str, ...]
    text: str
    kept: tuple[Kept, ...] = ()
    reads_out: bool = False
    dropout: bool = False
    constant: tuple[str, ...] = ()

    @cached_property
    def source(self) -> str:
        """The whole translation unit."""
        return with_library(self.text)

    @cached_property
    def operator(self) -> str:
        """The name of its PyTorch operator, made from all of the text."""
        described = f"{self.source}\0{self.inputs}\0{self.kept}\0{self.reads_out}\0{self.dropout}"
        return f"native_{hashlib.sha256(described.encode()).hexdigest()[:16]}"
