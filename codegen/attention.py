"""`compile_attention`: a graph becomes a function of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from codegen.algebra import Builder
from codegen.contract import order_contractions
from codegen.emit_torch import TorchProgram, write_program
from codegen.lower import lower
from codegen.plan import Plan, plan_steps
from codegen.rendering import load_source, render
from codegen.torch_steps import select_steps
from graphir import AttentionGraph

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "torch", "triton"]


class BackendError(RuntimeError):
    """The wanted backend cannot compile here; the message says what to do."""


@dataclass(frozen=True)
class CompiledAttention:
    """A graph as a differentiable function; call it with tensors.

    Attributes:
        graph: the graph it was compiled from.
        source: the generated Python text, which imports only torch.
        plan: what it will do, and at which cost.
        function: the generated function itself.
    """

    graph: AttentionGraph
    source: str
    plan: Plan
    function: Callable[..., torch.Tensor]

    def __call__(
        self,
        q: torch.Tensor | None,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        key_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
    ) -> torch.Tensor:
        """Run it.

        Args:
            q, k, v: ``[B, H, S, D]``, floating point; those that the graph does not use may be None.
            key_mask: bool ``[B, S]``, True = real token. Whatever stands at other positions, NaN
                included, changes neither the result nor a gradient at real ones.
            dropout_p: probability with which an entry of a softmax over S is dropped; equal softmaxes
                of a graph share one mask.

        Returns:
            ``[B, H, S, D]``; rows at padded positions are zero.

        Raises:
            ValueError: where shapes or types do not fit; the message says what would be right.
        """
        shape = _check_inputs(self.graph.inputs, {"Q": q, "K": k, "V": v})
        _check_mask(key_mask, shape)
        if not 0.0 <= dropout_p < 1.0:
            raise ValueError(f"dropout_p must be at least 0 and below 1, not {dropout_p}")
        return self.function(q, k, v, key_mask, dropout_p)


def compile_attention(graph: AttentionGraph, backend: Backend = "auto") -> CompiledAttention:
    """Compile a graph into a function ``(q, k, v, key_mask=None, dropout_p=0.0) -> out``.

    Args:
        graph: the attention structure.
        backend: ``"torch"`` for the PyTorch form, which runs on any device; ``"auto"`` takes the best
            that is available, at present the PyTorch form.

    Raises:
        BackendError: for ``"triton"``, which this version does not generate yet.
        ValueError: for an unknown backend.

    Example:
        >>> from graphir import presets
        >>> print(compile_attention(presets.get("autobert-zero/6")).plan)
        backend torch, tier 1, 1 fused attention call(s), 0 stored S x S value(s)
          S x D  logsigmoid
          S x D  linear combination
          S x D  scaled_dot_product_attention
    """
    if backend == "triton":
        raise BackendError("this version does not generate Triton kernels yet: use backend='torch' or 'auto'")
    if backend not in ("auto", "torch"):
        raise ValueError(f"backend must be 'auto', 'torch' or 'triton', not {backend!r}")
    return _compile_torch(graph, graph.name)


@lru_cache(maxsize=1024)
def _compile_torch(graph: AttentionGraph, title: str) -> CompiledAttention:
    """Compile once for each graph and name; graphs are equal whatever their names."""
    program, plan = torch_program(graph, "attention")
    source = render(
        "torch/attention.py.jinja",
        title=title,
        program=program,
        needed=program.needed,
        uses_functional=program.uses_functional,
    )
    return CompiledAttention(graph, source, plan, load_source(source, "attention").attention)


def torch_program(graph: AttentionGraph, name: str) -> tuple[TorchProgram, Plan]:
    """The PyTorch form of ``graph`` as a function called ``name``, ready for a template, and its plan."""
    builder = Builder()
    root = order_contractions(lower(graph, builder), builder)
    steps = select_steps(root, builder)
    return write_program(graph, root, steps, name), plan_steps(steps)


def _check_inputs(used: tuple[str, ...], given: dict[str, torch.Tensor | None]) -> tuple[int, ...]:
    import torch

    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None
    for name in used:
        tensor = given[name]
        if tensor is None:
            raise ValueError(
                f"the graph uses {name}: pass a tensor [B, H, S, D] for {name.lower()}, not None"
            )
        if not isinstance(tensor, torch.Tensor) or tensor.dim() != 4 or not tensor.is_floating_point():
            raise ValueError(
                f"{name.lower()} must be a floating-point tensor [B, H, S, D], not {_described(tensor)}"
            )
        if shape is not None and tuple(tensor.shape) != shape:
            raise ValueError(
                f"q, k and v must have one shape: {name.lower()} is {list(tensor.shape)}, not {list(shape)}"
            )
        if dtype is not None and tensor.dtype != dtype:
            raise ValueError(f"q, k and v must have one dtype: {name.lower()} is {tensor.dtype}, not {dtype}")
        shape, dtype = tuple(tensor.shape), tensor.dtype
    if shape is None:
        raise ValueError("the graph uses no input")
    return shape


def _check_mask(key_mask: torch.Tensor | None, shape: tuple[int, ...]) -> None:
    if key_mask is None:
        return
    import torch

    wanted = (shape[0], shape[2])
    fits = isinstance(key_mask, torch.Tensor) and key_mask.dtype == torch.bool
    if not fits or tuple(key_mask.shape) != wanted:
        raise ValueError(
            f"key_mask must be bool [B, S] = {list(wanted)}, True = real token, not {_described(key_mask)}"
        )


def _described(value: Any) -> str:
    """A tensor's type and shape, or what else stands in its place, for error messages."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
