"""Kernels of the blocks beside attention: one text for all sizes, which every model shares."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from codegen.attention import KERNELS_STEM, BackendError
from codegen.generated import load_source, module_name
from codegen.rendering import render

_VERSION = "x" * 16
"""Stands in the text for its hash, which is as long, until that is known."""

BLOCKS_STEM = "kernels_blocks"
"""What its file beside a model is called, without ``.py``."""


@cache
def block_source() -> str:
    """The Python text of the kernels: LayerNorm with residual and dropout, bias with GELU, the lightweight convolution.

    It imports torch and triton, and defines ``layer_norm``, ``bias_gelu``, ``light_conv`` and ``problem``.
    """
    text = render("triton/blocks.py.jinja", version=_VERSION)
    # Operators are named after all of the text, so that two versions of it never answer for each other.
    return text.replace(_VERSION, hashlib.sha256(text.encode()).hexdigest()[:16])


def block_module() -> str:
    """Under which name `load_blocks` makes the kernels importable."""
    return module_name(block_source(), KERNELS_STEM)


def load_blocks() -> Any:
    """The module of the kernels. Raises `BackendError` without Triton."""
    try:
        return load_source(block_source(), KERNELS_STEM, operators=True)
    except ModuleNotFoundError as error:
        raise BackendError("Triton is not installed: pip install triton") from error
