"""Attention by hand on the native library (`native/*.cpp`): what the printer of tile programs shall reach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from codegen.cpp import load_library
from codegen.cpp.program import Kept, NativeProgram
from codegen.cpp.tensors import call_native


@cache
def program(name: str) -> NativeProgram:
    """``"softsign"`` or ``"softmax"``."""
    text = (Path(__file__).parent / "native" / f"{name}.cpp").read_text(encoding="utf-8")
    if name == "softsign":
        return NativeProgram("softsign(Q @ K.T) @ V", ("q", "k", "v"), text)
    kept = (Kept("logsumexp", ("S",), 2),)
    return NativeProgram(
        "softmax(scale(Q @ K.T)) @ V", ("q", "k", "v"), text, kept, reads_out=True, dropout=True
    )


@dataclass
class NativeAttention:
    """One structure on q, k, v ``[B, H, S, D]``, without PyTorch's operators; key_mask bool ``[B, S]`` or None."""

    name: str
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    key_mask: torch.Tensor | None = None
    dropout_p: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.program = program(self.name)
        self.out = torch.full_like(self.q, torch.nan)
        self.kept = [torch.full(value.shape(*self.q.shape), torch.nan) for value in self.program.kept]

    def forward(self) -> torch.Tensor:
        self._call("forward", self.q, self.k, self.v, self.out)
        return self.out

    def backward(self, g: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of q, k and v, after `forward`."""
        gradients = [torch.full_like(x, torch.nan) for x in (self.q, self.k, self.v)]
        out = (self.out,) if self.program.reads_out else ()
        self._call("backward", self.q, self.k, self.v, *out, g, *gradients)
        return gradients

    def _call(self, direction: str, *tensors: torch.Tensor) -> None:
        function = getattr(load_library(self.program.source, self.name), direction)
        seed = torch.tensor([self.seed]) if self.dropout_p else None
        call_native(function, tensors, self.kept, self.key_mask, seed, self.dropout_p)
