"""The forms of a graph that are compared: ours, eager PyTorch, its compiler, and the fused calls that PyTorch has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from codegen import compile_attention
from codegen.attention import Backend
from graphir import AttentionGraph, presets
from runtime.accuracy import Attention, Inputs
from runtime.bench import COMPILED, EAGER, GENERATED
from runtime.eager import eager_function
from runtime.gpu_check.flex import FlexProgram, flex_function, flex_program

SDPA, FLEX, AUTOTUNED = "SDPA", "FlexAttention", "max-autotune"

COMPILED_FORMS = frozenset({COMPILED, AUTOTUNED, FLEX})
"""Forms that torch.compile makes."""

BASELINES = (EAGER, SDPA, FLEX, COMPILED, AUTOTUNED)
"""What the generated form is compared with."""

AUTOTUNE_MODE = "max-autotune-no-cudagraphs"
"""CUDA graphs are left out: a model decides on them for all of its layers, and they hide launches of any form."""


@dataclass(frozen=True)
class Place:
    """Where forms run.

    Attributes:
        device: ``"cuda"`` or ``"cpu"``.
        backend: of the generated form.
    """

    device: str = "cuda"
    backend: Backend = "triton"


def expressible(form: str, graph: AttentionGraph) -> bool:
    """Whether a form exists for ``graph``: SDPA for the plain attention, FlexAttention where it can express it."""
    if form == SDPA:
        return graph.canonical_hash() == presets.get("bert/1").canonical_hash()
    return form != FLEX or _flex_program(graph) is not None


def make_form(form: str, graph: AttentionGraph, inputs: Inputs, place: Place) -> Attention:
    """A form as ``(q, k, v, key_mask) -> out``, for these inputs and this mask.

    Raises:
        ValueError: for a form that ``graph`` does not have.
    """
    program = _flex_program(graph) if form == FLEX else None
    if not expressible(form, graph):
        raise ValueError(f"{form} cannot express {graph.name}")
    if form == GENERATED:
        return compile_attention(graph, place.backend)
    if form == EAGER:
        return eager_function(graph)
    if form == SDPA:
        return _plain
    if program:
        compiled = torch.compile(flex_function(program, inputs.grad, inputs.key_mask), dynamic=False)
        return lambda q, k, v, key_mask=None: compiled(q, k, v)
    mode = AUTOTUNE_MODE if form == AUTOTUNED else None
    return torch.compile(eager_function(graph), fullgraph=True, dynamic=False, mode=mode)


def _plain(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
    mask = None if key_mask is None else key_mask[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@lru_cache(maxsize=1024)
def _flex_program(graph: AttentionGraph) -> FlexProgram | None:
    return flex_program(graph)
