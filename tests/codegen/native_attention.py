"""Attention by hand on the native library (`native/*.cpp`): what the printer of tile programs shall reach."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from codegen.cpp import load_library, with_library
from codegen.cpp.tensors import native_tensors


class _Dropout(ctypes.Structure):
    _fields_ = (("p", ctypes.c_float), ("seed", ctypes.c_int64))


@cache
def library(name: str) -> ctypes.CDLL:
    """``"softsign"`` or ``"softmax"``. Raises `NativeBuildError`."""
    text = (Path(__file__).parent / "native" / f"{name}.cpp").read_text(encoding="utf-8")
    return load_library(with_library(text), name)


@dataclass
class NativeAttention:
    """One structure on tensors q, k, v ``[B, H, S, D]``; key_mask bool ``[B, S]`` or None."""

    name: str
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    key_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        batch, heads, tokens, _ = self.q.shape
        self.out = torch.full_like(self.q, torch.nan)
        self.logsumexp = torch.full((batch, heads, 2, tokens), torch.nan)

    def forward(self) -> torch.Tensor:
        self._call("forward", self.q, self.k, self.v, self.out)
        return self.out

    def backward(self, g: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of q, k and v, after `forward`."""
        gradients = [torch.full_like(x, torch.nan) for x in (self.q, self.k, self.v)]
        kept = (self.out, g) if self.name == "softmax" else (g,)
        self._call("backward", self.q, self.k, self.v, *kept, *gradients)
        return gradients

    def _call(self, direction: str, *tensors: torch.Tensor) -> None:
        failed = getattr(library(self.name), direction)(
            native_tensors(tensors),
            None if self.key_mask is None else ctypes.c_void_p(self.key_mask.data_ptr()),
            (ctypes.c_long * 4)(*self.q.shape),
            ctypes.byref(_Dropout(self.dropout_p, self.seed)),
            ctypes.c_void_p(self.logsumexp.data_ptr()),
            torch.get_num_threads(),
        )
        assert not failed
