"""PyTorch tensors as arguments of native kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class NativeTensor(ctypes.Structure):
    """``Tensor`` of ``templates/cpp/memory.hpp.jinja``: address, strides in elements, type."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("head", ctypes.c_int64),
        ("row", ctypes.c_int64),
        ("column", ctypes.c_int64),
        ("type", ctypes.c_int64),
    )


def native_tensors(tensors: Sequence[torch.Tensor]) -> ctypes.Array[NativeTensor]:
    """Tensors ``[B, H, S, D]`` of float32, bfloat16 or float16, any strides; they must outlive the call."""
    import torch

    types = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
    return (NativeTensor * len(tensors))(
        *(NativeTensor(x.data_ptr(), *x.stride(), types[x.dtype]) for x in tensors)
    )
