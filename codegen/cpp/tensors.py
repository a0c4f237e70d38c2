"""PyTorch tensors as arguments of native kernels; the structures of ``templates/cpp/memory.hpp.jinja``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Types that kernels read and write, by their number in the text."""


class NativeTensor(ctypes.Structure):
    """``Tensor``: address, strides in elements, type."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("head", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("column", ctypes.c_int64),
        ("type", ctypes.c_int64),
    )


class NativeShape(ctypes.Structure):
    """``Shape``."""

    _fields_ = tuple((name, ctypes.c_int64) for name in ("batch", "heads", "tokens", "head_dim"))


class NativeDropout(ctypes.Structure):
    """``Dropout``."""

    _fields_ = (("seed", ctypes.c_int64), ("p", ctypes.c_float))


def native_tensors(tensors: Sequence[torch.Tensor]) -> ctypes.Array[NativeTensor]:
    """Tensors ``[B, H, S, D]`` of a type in `TYPES`, any strides; they must outlive the call."""
    return (NativeTensor * len(tensors))(
        *(NativeTensor(x.data_ptr(), *x.stride(), TYPES[x.dtype]) for x in tensors)
    )


def call_native(
    function: Callable[..., int],
    tensors: Sequence[torch.Tensor],
    kept: Sequence[torch.Tensor] = (),
    key_mask: torch.Tensor | None = None,
    seed: torch.Tensor | None = None,
    dropout_p: float = 0.0,
) -> None:
    """Call one direction of a `codegen.cpp.program.NativeProgram`, on torch's threads.

    Args:
        function: of a loaded library.
        tensors: ``[B, H, S, D]`` each, read or written.
        kept: contiguous float32, read or written.
        key_mask: bool ``[B, S]``, True = real token.
        seed: int64 ``[1]``, for dropout.
        dropout_p: the probability; nothing is dropped without a seed.

    Raises:
        MemoryError: where there is none for the tiles.
    """
    mask = None if key_mask is None else key_mask.contiguous()
    dropout = NativeDropout(0, 0.0) if seed is None else NativeDropout(int(seed.item()), dropout_p)
    failed = function(
        native_tensors(tensors),
        (ctypes.c_void_p * (len(kept) + 1))(*(x.data_ptr() for x in kept)),
        None if mask is None else ctypes.c_void_p(mask.data_ptr()),
        ctypes.byref(NativeShape(*tensors[0].shape)),
        ctypes.byref(dropout),
        torch.get_num_threads(),
    )
    if failed:
        raise MemoryError("there is no memory for the tiles of native kernels")
