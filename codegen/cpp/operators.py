"""Native kernels as PyTorch operators: fake, vmap and autograd formulas, as those of Triton kernels have them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from codegen.cpp.build import load_library
from codegen.cpp.program import NativeProgram
from codegen.cpp.tensors import TYPES, call_native

MAX_HEAD_DIM = 256


def problem(x: Tensor) -> str:
    """Why native kernels cannot take a tensor like x [B, H, S, D]; empty where they can."""
    if x.device.type not in ("cpu", "meta"):
        return f"native kernels need tensors on a CPU, and these are on {x.device}"
    if compute_type(x) not in TYPES:
        return f"native kernels take float32, float16 and bfloat16, not {compute_type(x)}"
    if x.shape[-1] > MAX_HEAD_DIM:
        return f"native kernels take head dimensions up to {MAX_HEAD_DIM}, not {x.shape[-1]}"
    return ""


def compute_type(x: Tensor) -> torch.dtype:
    """The type in which x is computed: autocast's where that is on, as for products of matrices."""
    kind = x.device.type
    autocasts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if autocasts and x.dtype != torch.float64 else x.dtype


@lru_cache(maxsize=1024)
def native_attention(program: NativeProgram) -> Callable[..., Tensor]:
    """``attention(q, k, v, key_mask=None, dropout_p=0.0)`` of a program; unused inputs may be None.

    Raises:
        NativeBuildError: where the kernels cannot be built.
    """
    _register(program, load_library(program.source, "attention"))
    function = _function(program)
    operator = getattr(torch.ops.opnas, program.operator)
    names, dropout, keeps = program.inputs, program.dropout, bool(program.kept)

    def attention(
        q: Tensor | None,
        k: Tensor | None,
        v: Tensor | None,
        key_mask: Tensor | None = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        given = {"q": q, "k": k, "v": v}
        inputs = []
        for name in names:
            x = given[name]
            if x is None:
                raise ValueError(f"{name} is used: pass a tensor [B, H, S, D], not None")
            inputs.append(x.to(compute_type(x)))
        if inputs[0].numel() == 0:
            return sum(inputs[1:], 1.0 * inputs[0])
        drops = dropout and dropout_p > 0.0
        seed = torch.randint(2**62, (1,)) if drops else None
        # torch.compile takes the operator with its own formula, torch.func only the function.
        called = operator if torch.compiler.is_compiling() else function.apply
        result = called(*inputs, key_mask, seed, dropout_p if drops else 0.0)
        return result[0] if keeps else result

    attention.__doc__ = program.equation
    return attention


def _register(program: NativeProgram, library: ctypes.CDLL) -> None:
    """The operators of both directions, once a process: they cannot be taken back."""
    if hasattr(torch.ops.opnas, program.operator):
        return
    settings = "Tensor? key_mask, Tensor? seed, float dropout_p"
    inputs = ", ".join(f"Tensor {name}" for name in program.inputs)
    kept = "".join(f", Tensor {value.name}" for value in program.kept)
    out = ", Tensor out" if program.reads_out else ""
    count = len(program.inputs)

    def forward(*arguments: Any) -> Any:
        inputs, (key_mask, seed, dropout_p) = arguments[:count], arguments[count:]
        _check(inputs, key_mask)
        out, *kept = forward_shapes(*arguments) if program.kept else (forward_shapes(*arguments),)
        call_native(library.forward, (*inputs, out), kept, key_mask, seed, dropout_p)
        return (out, *kept) if kept else out

    def forward_shapes(*arguments: Any) -> Any:
        x = arguments[0]
        out = x.new_empty(x.shape)
        kept = [x.new_zeros(value.shape(*x.shape), dtype=torch.float32) for value in program.kept]
        return (out, *kept) if kept else out

    def backward(g: Tensor, *arguments: Any) -> Any:
        inputs, (key_mask, seed, dropout_p), read = (
            arguments[:count],
            arguments[count : count + 3],
            arguments[count + 3 :],
        )
        _check((*inputs, g), key_mask)
        out, kept = (read[:1], read[1:]) if program.reads_out else ((), read)
        gradients = [
            (x.new_zeros if name in program.constant else x.new_empty)(x.shape)
            for name, x in zip(program.inputs, inputs, strict=True)
        ]
        whole = [value.contiguous() for value in kept]
        call_native(library.backward, (*inputs, *out, g, *gradients), whole, key_mask, seed, dropout_p)
        return tuple(gradients) if count > 1 else gradients[0]

    def backward_shapes(g: Tensor, *arguments: Any) -> Any:
        gradients = tuple(x.new_empty(x.shape) for x in arguments[:count])
        return gradients if count > 1 else gradients[0]

    for name, schema, function, shapes in (
        (
            program.operator,
            f"({inputs}, {settings}) -> {_results(1 + len(program.kept))}",
            forward,
            forward_shapes,
        ),
        (
            f"{program.operator}_backward",
            f"(Tensor g, {inputs}, {settings}{out}{kept}) -> {_results(count)}",
            backward,
            backward_shapes,
        ),
    ):
        operator = torch.library.custom_op(f"opnas::{name}", function, mutates_args=(), schema=schema)
        operator.register_fake(shapes)
        operator.register_vmap(_mapped(operator))
    setup_context, differentiate = _formulas(program)
    torch.library.register_autograd(f"opnas::{program.operator}", differentiate, setup_context=setup_context)


def _results(count: int) -> str:
    return "Tensor" if count == 1 else f"({', '.join(['Tensor'] * count)})"


def _check(inputs: tuple[Tensor, ...], key_mask: Tensor | None) -> None:
    """Refuse what the kernels would read wrongly."""
    x = inputs[0]
    if reason := problem(x):
        raise RuntimeError(reason)
    for other in inputs:
        if (other.shape, other.dtype, other.device) != (x.shape, x.dtype, x.device):
            raise ValueError(
                f"all inputs must be alike, not {x.dtype} {list(x.shape)} on {x.device} "
                f"and {other.dtype} {list(other.shape)} on {other.device}"
            )
    if key_mask is not None:
        found = (key_mask.dtype, key_mask.shape, key_mask.device)
        if found != (torch.bool, (x.shape[0], x.shape[2]), x.device):
            raise ValueError(
                f"key_mask must be bool [{x.shape[0]}, {x.shape[2]}] on {x.device}, "
                f"not {key_mask.dtype} {list(key_mask.shape)} on {key_mask.device}"
            )


def _mapped(operator: Any) -> Callable[..., Any]:
    """The rule of an operator under torch.vmap: the mapped dimension becomes part of the batch."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        if any(isinstance(argument, float) and argument > 0.0 for argument in arguments):
            raise RuntimeError("these native kernels have no dropout under torch.vmap: set dropout_p to 0")
        folded = list(arguments)
        for place, (argument, dim) in enumerate(zip(arguments, in_dims, strict=True)):
            if isinstance(argument, Tensor):
                moved = argument.unsqueeze(0) if dim is None else argument.movedim(dim, 0)
                folded[place] = moved.expand(info.batch_size, *moved.shape[1:]).flatten(0, 1)
        results = operator(*folded)
        if isinstance(results, Tensor):
            return results.unflatten(0, (info.batch_size, -1)), 0
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in results), (0,) * len(results)

    return rule


def _formulas(program: NativeProgram) -> tuple[Callable[..., None], Callable[..., Any]]:
    """What is kept for the backward, and the gradient of every argument."""
    # torch.compile reads these functions, and knows numbers, but not the classes of ours.
    count, reads_out, keeps = len(program.inputs), program.reads_out, bool(program.kept)
    gradient = _gradient_function(program)

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *saved, ctx.dropout_p = inputs
        out, *kept = output if keeps else (output,)
        ctx.save_for_backward(*saved, *([out] if reads_out else ()), *kept)
        if kept:
            ctx.mark_non_differentiable(*kept)

    def differentiate(ctx: Any, g: Tensor, *_: Any) -> Any:
        saved = ctx.saved_tensors
        gradients = gradient.apply(g, *saved[: count + 2], ctx.dropout_p, *saved[count + 2 :])
        return (*(gradients if count > 1 else (gradients,)), None, None, None)

    return setup_context, differentiate


def _gradient_function(program: NativeProgram) -> Any:
    """The operator of the backward; there is no second derivative."""

    operator = getattr(torch.ops.opnas, f"{program.operator}_backward")

    class NativeGradient(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return operator(*arguments)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            """Nothing is kept."""

        @staticmethod
        def backward(ctx: Any, *_: Any) -> Any:
            raise RuntimeError("these native kernels have no second derivative: use the PyTorch form")

    return NativeGradient


def _function(program: NativeProgram) -> Any:
    """The operator with its gradient, in the form that torch.func takes too; there is no forward mode."""
    operator, formulas = getattr(torch.ops.opnas, program.operator), _formulas(program)

    class NativeAttention(torch.autograd.Function):
        generate_vmap_rule = True
        setup_context = staticmethod(formulas[0])
        backward = staticmethod(formulas[1])

        @staticmethod
        def forward(*arguments: Any) -> Any:
            return operator(*arguments)

    return NativeAttention
