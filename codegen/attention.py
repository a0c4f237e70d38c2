"""`compile_attention`: a graph becomes a function of tensors."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

from codegen.algebra import Builder
from codegen.contraction_order import order_contractions
from codegen.cpp.compiler import NativeBuildError
from codegen.cpp.program import NativeProgram
from codegen.emit_torch import TorchProgram, write_program
from codegen.generated import load_source
from codegen.kernel_plan import KernelPlan, plan_kernels
from codegen.lower import lower
from codegen.rendering import render
from codegen.torch_plan import Plan, plan_steps
from codegen.torch_steps import select_steps
from codegen.triton_program import TritonProgram, triton_program
from graphir import AttentionGraph, InputError, OpnasError

if TYPE_CHECKING:
    import torch

Backend = Literal["auto", "torch", "triton"]
AttentionBackend = Literal["auto", "torch", "triton", "cpp"]
KERNELS_STEM = "kernels"
"""What modules of Triton kernels are, for their names."""


class BackendError(OpnasError, RuntimeError):
    """The wanted backend cannot compile here; the message says what to do."""


@dataclass(frozen=True)
class CompiledAttention:
    """A graph as a differentiable function; call it with tensors.

    It can be pickled: what is sent is the graph, and the other process compiles it.

    Attributes:
        graph: the graph it was compiled from.
        backend: ``"torch"``, ``"triton"`` or ``"cpp"``: what ``source`` and ``plan`` describe.
        source: the generated Python text, which imports only torch, and triton for kernels; or the C++ text.
        plan: what it will do, and at which cost.
        program: what ``source`` was written from.
        function: the generated function itself.
        elsewhere: the function for tensors that kernels do not take (on a CPU, or float64); None where only
            kernels are wanted.
        wanted: the backend that was asked for.
    """

    graph: AttentionGraph
    backend: Literal["torch", "triton", "cpp"]
    source: str
    plan: Plan | KernelPlan
    program: TorchProgram | TritonProgram | NativeProgram
    function: Callable[..., torch.Tensor]
    elsewhere: Callable[..., torch.Tensor] | None = None
    wanted: AttentionBackend = "torch"

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
            q, k, v: ``[B, H, S, D]``, floating point; those that the graph does not use may be None. Under autocast
                their types may differ.
            key_mask: bool ``[B, S]``, True = real token. Whatever stands at other positions, NaN
                included, changes neither the result nor a gradient at real ones.
            dropout_p: probability with which an entry of a softmax over S is dropped; equal softmaxes
                of a graph share one mask.

        Returns:
            ``[B, H, S, D]``; rows at padded positions are zero.

        Raises:
            ValueError: where shapes, types or devices do not fit; the message says what would be right.
            BackendError: where kernels were asked for and cannot take these tensors.
        """
        x = _check_inputs(self.graph.inputs, {"Q": q, "K": k, "V": v})
        _check_mask(key_mask, x)
        if not 0.0 <= dropout_p < 1.0:
            raise ValueError(f"dropout_p must be at least 0 and below 1, not {dropout_p}")
        function = self.function
        if self.backend != "torch" and (reason := function.__globals__["problem"](x)):
            if self.elsewhere is None:
                raise BackendError(f"{reason}: use backend='auto' or 'torch'")
            function = self.elsewhere
        return function(q, k, v, key_mask, dropout_p)

    def __reduce__(self) -> tuple[Callable[..., CompiledAttention], tuple[AttentionGraph, AttentionBackend]]:
        return compile_attention, (self.graph, self.wanted)


def compile_attention(graph: AttentionGraph, backend: AttentionBackend = "auto") -> CompiledAttention:
    """Compile a graph into a function ``(q, k, v, key_mask=None, dropout_p=0.0) -> out``.

    Args:
        graph: the attention structure.
        backend: ``"torch"`` for the PyTorch form, which runs on any device; ``"triton"`` for fused kernels,
            forward and backward, on a GPU (or anywhere in Triton's interpreter, where the environment has
            ``TRITON_INTERPRET=1`` before Triton is imported); ``"cpp"`` for fused kernels on a CPU, which a C++
            compiler builds; ``"auto"`` takes kernels for tensors on a GPU and the PyTorch form for others.

    Raises:
        BackendError: for ``"triton"`` where Triton is not installed, and for ``"cpp"`` where no compiler is, or where
            the graph would store S x S values.
        InputError: for an unknown backend.

    Example:
        >>> from graphir import presets
        >>> print(compile_attention(presets.get("autobert-zero/6"), backend="torch").plan)
        backend torch, tier 1, 1 fused attention call(s), 0 stored S x S value(s)
          S x D  logsigmoid
          S x D  linear combination
          S x D  scaled_dot_product_attention
    """
    if backend == "cpp":
        return _native(graph)
    return _compiled(graph, graph.name, backend, choose_backend(backend))


def choose_backend(backend: Backend) -> Literal["torch", "triton"]:
    """What ``backend`` comes to on this machine: ``"auto"`` is kernels where there are Triton and a GPU.

    Raises:
        BackendError: for ``"triton"`` where Triton is not installed.
        InputError: for an unknown backend.
    """
    if backend not in get_args(Backend):
        raise InputError(f"backend must be 'auto', 'torch' or 'triton', not {str(backend)[:40]!r}")
    if backend == "auto":
        return "triton" if _has_gpu() and _has_triton() else "torch"
    if backend == "triton" and not _has_triton():
        raise BackendError("Triton is not installed: pip install triton, or use backend='torch'")
    return backend


@lru_cache(maxsize=1024)
def kernel_program(graph: AttentionGraph) -> TritonProgram:
    """The Triton form of a graph; lowered, differentiated and scheduled once, whatever the graph is called.

    It needs no Triton. Raises `codegen.schedule.ScheduleError` for a fault of the compiler.
    """
    return triton_program(graph)


def load_kernels(program: TritonProgram) -> Any:
    """The module of a program: its kernels, operators and ``attention``. Raises `BackendError` without Triton."""
    try:
        return load_source(program.source, KERNELS_STEM, operators=True)
    except ModuleNotFoundError as error:
        raise BackendError("Triton is not installed: pip install triton") from error


@lru_cache(maxsize=1024)
def _compiled(
    graph: AttentionGraph, title: str, wanted: Backend, chosen: Literal["torch", "triton"]
) -> CompiledAttention:
    """Compile once for each graph and name; graphs are equal whatever their names."""
    if chosen == "torch":
        program, plan = torch_program(graph, "attention")
        source = torch_source(program, title)
        function = load_source(source, "attention").attention
        return CompiledAttention(graph, "torch", source, plan, program, function, wanted=wanted)
    kernels = kernel_program(graph)
    elsewhere = _compiled(graph, title, "torch", "torch").function if wanted == "auto" else None
    function = load_kernels(kernels).attention
    return CompiledAttention(
        graph, "triton", kernels.source, plan_kernels(kernels), kernels, function, elsewhere, wanted
    )


@lru_cache(maxsize=1024)
def _native(graph: AttentionGraph) -> CompiledAttention:
    from codegen.cpp.operators import native_attention
    from codegen.cpp.print import native_program

    kernels = kernel_program(graph)
    if kernels.squares:
        raise BackendError(
            "native kernels do not store S x S values, as this graph needs: use backend='torch'"
        )
    program = native_program(kernels)
    try:
        function = native_attention(program)
    except NativeBuildError as error:
        raise BackendError(str(error)) from error
    plan = replace(plan_kernels(kernels), backend="cpp")
    return CompiledAttention(graph, "cpp", program.source, plan, program, function, wanted="cpp")


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


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _autocasts(kind: str) -> bool:
    import torch

    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _check_inputs(used: tuple[str, ...], given: dict[str, torch.Tensor | None]) -> torch.Tensor:
    """The first input that is used, where all fit together."""
    import torch

    first: torch.Tensor | None = None
    for name in used:
        tensor, variable = given[name], name.lower()
        if tensor is None:
            raise ValueError(f"the graph uses {name}: pass a tensor [B, H, S, D] for {variable}, not None")
        if not isinstance(tensor, torch.Tensor) or tensor.dim() != 4 or not tensor.is_floating_point():
            raise ValueError(
                f"{variable} must be a floating-point tensor [B, H, S, D], not {_described(tensor)}"
            )
        if first is None:
            first = tensor
        if tensor.shape != first.shape:
            raise ValueError(
                f"q, k and v must have one shape: {variable} is {list(tensor.shape)}, not {list(first.shape)}"
            )
        if tensor.device != first.device:
            raise ValueError(
                f"q, k and v must be on one device: {variable} is on {tensor.device}, not {first.device}"
            )
        if tensor.dtype != first.dtype and not _autocasts(tensor.device.type):
            raise ValueError(
                f"q, k and v must have one dtype: {variable} is {tensor.dtype}, not {first.dtype}"
            )
    if first is None:
        raise ValueError("the graph uses no input")
    return first


def _check_mask(key_mask: torch.Tensor | None, x: torch.Tensor) -> None:
    if key_mask is None:
        return
    import torch

    wanted = (x.shape[0], x.shape[2])
    fits = isinstance(key_mask, torch.Tensor) and key_mask.dtype == torch.bool
    if not fits or tuple(key_mask.shape) != wanted:
        raise ValueError(
            f"key_mask must be bool [B, S] = {list(wanted)}, True = real token, not {_described(key_mask)}"
        )
    if key_mask.device != x.device:
        raise ValueError(f"key_mask must be on the device of the inputs, {x.device}, not {key_mask.device}")


def _described(value: Any) -> str:
    """A tensor's type and shape, or what else stands in its place, for error messages."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
