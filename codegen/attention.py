"""`compile_attention`: a graph becomes a function of tensors."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from codegen.algebra import Builder
from codegen.contract import order_contractions
from codegen.emit_torch import TorchProgram, write_program
from codegen.kernel_plan import KernelPlan, plan_kernels
from codegen.launch import HEAD_BLOCKS
from codegen.lower import lower
from codegen.plan import Plan, plan_steps
from codegen.rendering import load_source, render
from codegen.torch_steps import select_steps
from codegen.triton_attention import triton_program
from graphir import AttentionGraph, OpnasError

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "torch", "triton"]

MAX_HEAD_DIM = HEAD_BLOCKS[-1]
"""The largest head dimension of kernels."""


class BackendError(OpnasError, RuntimeError):
    """The wanted backend cannot compile here; the message says what to do."""


@dataclass(frozen=True)
class CompiledAttention:
    """A graph as a differentiable function; call it with tensors.

    Attributes:
        graph: the graph it was compiled from.
        backend: ``"torch"`` or ``"triton"``: what ``source`` and ``plan`` describe.
        source: the generated Python text, which imports only torch, and triton for kernels.
        plan: what it will do, and at which cost.
        function: the generated function itself.
        elsewhere: the function for tensors that kernels do not take (on a CPU, or float64); None where only
            kernels are wanted.
    """

    graph: AttentionGraph
    backend: str
    source: str
    plan: Plan | KernelPlan
    function: Callable[..., torch.Tensor]
    elsewhere: Callable[..., torch.Tensor] | None = None

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
            BackendError: where kernels were asked for and cannot take these tensors.
        """
        shape = _check_inputs(self.graph.inputs, {"Q": q, "K": k, "V": v})
        _check_mask(key_mask, shape)
        if not 0.0 <= dropout_p < 1.0:
            raise ValueError(f"dropout_p must be at least 0 and below 1, not {dropout_p}")
        function = self.function
        if self.backend == "triton":
            given = next(x for name, x in zip("QKV", (q, k, v), strict=True) if name in self.graph.inputs)
            problem = _kernel_problem(given)
            if problem and self.elsewhere is None:
                raise BackendError(f"{problem}: use backend='auto' or 'torch'")
            function = self.elsewhere if problem and self.elsewhere else function
        return function(q, k, v, key_mask, dropout_p)


def compile_attention(graph: AttentionGraph, backend: Backend = "auto") -> CompiledAttention:
    """Compile a graph into a function ``(q, k, v, key_mask=None, dropout_p=0.0) -> out``.

    Args:
        graph: the attention structure.
        backend: ``"torch"`` for the PyTorch form, which runs on any device; ``"triton"`` for fused kernels,
            forward and backward, on a GPU (or anywhere in Triton's interpreter, where the environment has
            ``TRITON_INTERPRET=1`` before Triton is imported); ``"auto"`` takes kernels for tensors on a GPU and
            the PyTorch form for others.

    Raises:
        BackendError: for ``"triton"`` where Triton is not installed.
        ValueError: for an unknown backend.

    Example:
        >>> from graphir import presets
        >>> print(compile_attention(presets.get("autobert-zero/6"), backend="torch").plan)
        backend torch, tier 1, 1 fused attention call(s), 0 stored S x S value(s)
          S x D  logsigmoid
          S x D  linear combination
          S x D  scaled_dot_product_attention
    """
    if backend not in ("auto", "torch", "triton"):
        raise ValueError(f"backend must be 'auto', 'torch' or 'triton', not {backend!r}")
    if backend == "triton":
        if not _has_triton():
            raise BackendError("Triton is not installed: pip install triton, or use backend='torch'")
        return _compile_triton(graph, graph.name)
    torch_form = _compile_torch(graph, graph.name)
    if backend == "torch" or not _has_gpu() or not _has_triton():
        return torch_form
    return replace(_compile_triton(graph, graph.name), elsewhere=torch_form.function)


@lru_cache(maxsize=1024)
def _compile_torch(graph: AttentionGraph, title: str) -> CompiledAttention:
    """Compile once for each graph and name; graphs are equal whatever their names."""
    program, plan = torch_program(graph, "attention")
    source = torch_source(program, title)
    return CompiledAttention(graph, "torch", source, plan, load_source(source, "attention").attention)


@lru_cache(maxsize=1024)
def _compile_triton(graph: AttentionGraph, title: str) -> CompiledAttention:
    program = triton_program(graph)
    function = load_source(program.source, "attention", importable=True).attention
    return CompiledAttention(graph, "triton", program.source, plan_kernels(program), function)


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _kernel_problem(x: torch.Tensor | None) -> str:
    """Why the kernels cannot take a tensor; empty where they can."""
    import torch

    if x is None:
        return ""
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton kernels need tensors on a GPU, and these are on {x.device}"
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"Triton kernels take float32, float16 and bfloat16, not {x.dtype}"
    if x.shape[-1] > MAX_HEAD_DIM:
        return f"Triton kernels take head dimensions up to {MAX_HEAD_DIM}, not {x.shape[-1]}"
    return ""


def torch_source(program: TorchProgram, title: str) -> str:
    """A module that holds nothing but the function of ``program``."""
    return render(
        "torch/attention.py.jinja",
        title=title,
        program=program,
        needed=program.needed,
        uses_functional=program.uses_functional,
    )


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
