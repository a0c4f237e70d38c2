"""`compile_backbone`: a backbone becomes one flat module file and a model made from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from codegen.attention import KERNELS_STEM, Backend, choose_backend, kernel_program
from codegen.block_kernels import BLOCKS_STEM, block_module, block_source
from codegen.generated import load_source, module_name
from codegen.model_layers import model_layers
from codegen.rendering import render
from graphir import AttentionGraph, AttentionLayer, Backbone, InputError
from graphir.checks import check_whole

if TYPE_CHECKING:
    from torch import nn

Kernels = Literal["none", "beside", "preferred", "only"]
"""How a module comes to its kernels: it has none; from files beside it, where it finds a GPU; from this process, for
the tensors that they take; or for all tensors."""

_IMPORTS: dict[Kernels, tuple[str, ...]] = {
    "none": (),
    "beside": (
        "import functools",
        "import importlib.util",
        "import os",
        "import sys",
        "import warnings",
        "from pathlib import Path",
    ),
    "preferred": ("import functools", "import importlib"),
    "only": ("import importlib",),
}


def backbone_source(
    backbone: Backbone,
    vocab_size: int = 30_522,
    max_positions: int = 512,
    dropout: float = 0.1,
    loader: bool = False,
    kernels: Kernels = "none",
) -> str:
    """The text of a Python file that defines ``Model``, a masked language model, and imports only torch.

    Args:
        backbone: the layers and sizes.
        vocab_size: number of token ids.
        max_positions: longest sequence in tokens.
        dropout: probability for embeddings, softmaxes and residual branches in training.
        loader: also write a function ``load`` that reads ``model.safetensors`` beside the file.
        kernels: ``"beside"`` for a file that runs the kernels of `kernel_files` where it finds them, Triton and a
            GPU, and the PyTorch form elsewhere. The others are for `compile_backbone`.

    Raises:
        InputError: for sizes below 1 or a probability outside [0, 1).
    """
    check_model_sizes(vocab_size, max_positions, dropout)
    layers = model_layers(backbone)
    modules = [_kernel_module(graph) for graph in layers.graphs] if kernels in ("preferred", "only") else []
    imports = [*_IMPORTS[kernels], *(["from pathlib import Path"] if loader else [])]
    if not layers.programs:
        imports = [line for line in imports if line != "import functools"]  # of attention's choice alone
    return render(
        "torch/backbone.py.jinja",
        backbone=backbone,
        layer_lines=backbone.equation().splitlines(),
        layers=layers,
        vocab_size=vocab_size,
        max_positions=max_positions,
        dropout=float(dropout),
        loader=loader,
        kernels=kernels,
        modules=modules,
        block_module=block_module() if kernels in ("preferred", "only") else "",
        decorators=_decorators(kernels, len(layers.programs), modules),
        imports=list(dict.fromkeys(imports)),
        needs="torch alone" + ("" if kernels == "none" else ", and Triton for its kernels"),
    )


def check_model_sizes(vocab_size: int, max_positions: int, dropout: float) -> None:
    """Refuse what no model has.

    Raises:
        InputError: for sizes below 1 or a probability outside [0, 1).
    """
    for what, size in (("vocab_size", vocab_size), ("max_positions", max_positions)):
        check_whole(size, what)
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout must be at least 0 and below 1, not {dropout!r}")


def kernel_files(backbone: Backbone) -> dict[str, str]:
    """The text of each file that `backbone_source` with ``kernels="beside"`` looks for, by file name.

    One file a distinct graph, ``kernels_1.py`` and so on, in the order of the layers, and ``kernels_blocks.py`` for
    what stands beside attention; they import torch and triton.
    """
    graphs = dict.fromkeys(layer.graph for layer in backbone.layers if isinstance(layer, AttentionLayer))
    files = {
        f"{_file_stem(number)}.py": kernel_program(graph).source for number, graph in enumerate(graphs, 1)
    }
    return files | {f"{BLOCKS_STEM}.py": block_source()}


def compile_backbone(
    backbone: Backbone,
    vocab_size: int = 30_522,
    max_positions: int = 512,
    dropout: float = 0.1,
    backend: Backend = "auto",
) -> nn.Module:
    """A new model with freshly drawn weights (from torch's global generator).

    Args:
        backbone, vocab_size, max_positions, dropout: as of `backbone_source`.
        backend: as of `codegen.compile_attention`: ``"auto"`` runs fused kernels for tensors on a GPU and the PyTorch
            form elsewhere, ``"torch"`` the PyTorch form everywhere, ``"triton"`` kernels everywhere.

    Returns:
        An ``nn.Module``: ``model(input_ids, key_mask=None)`` takes int64 ``[B, S]`` and bool ``[B, S]``
        (True = real token) and gives logits ``[B, S, vocab_size]``; ``model.hidden`` and ``model.logits``
        are its two halves, ``model.source`` its generated text. It can be pickled, and so sent to other
        processes, where opnas is installed; to keep weights, save ``model.state_dict()``.

    Raises:
        BackendError: for ``"triton"`` where Triton is not installed.
        InputError: for sizes out of bounds or an unknown backend.
    """
    kernels: Kernels = "none"
    if choose_backend(backend) == "triton":
        kernels = "preferred" if backend == "auto" else "only"
    source = backbone_source(backbone, vocab_size, max_positions, dropout, kernels=kernels)
    files = kernel_files(backbone) if kernels != "none" else {}
    model: nn.Module = _load(source, tuple(files.values())).Model()
    return model


@lru_cache(maxsize=64)
def _load(source: str, kernel_sources: tuple[str, ...]) -> ModuleType:
    for text in kernel_sources:
        load_source(text, KERNELS_STEM, operators=True)
    module = load_source(source, "backbone")
    module.Model.source = source
    module.Model.kernel_sources = kernel_sources
    module.Model.__reduce_ex__ = _reduce_model
    return module


def _reduce_model(model: Any, protocol: Any) -> tuple[Any, ...]:
    """What a model is pickled as: its text first, so that the classes of its parts are there when they are read."""
    parts: tuple[Any, ...] = tuple(object.__reduce_ex__(model, 2))
    return _restore_model, (model.source, model.kernel_sources), *parts[2:]


def _restore_model(source: str, kernel_sources: tuple[str, ...]) -> nn.Module:
    kind = _load(source, kernel_sources).Model
    model: nn.Module = kind.__new__(kind)
    return model


def _kernel_module(graph: AttentionGraph) -> str:
    return module_name(kernel_program(graph).source, KERNELS_STEM)


def _decorators(kernels: Kernels, count: int, modules: Sequence[str]) -> list[str]:
    """What stands above each attention function, without its @."""
    write: Callable[[int], str] = {
        "none": lambda number: "",
        "beside": lambda number: f'with_kernels(load_kernels("{_file_stem(number + 1)}"))',
        "preferred": lambda number: f'with_kernels(importlib.import_module("{modules[number]}"))',
        "only": lambda number: "",
    }[kernels]
    return [write(number) for number in range(count)]


def _file_stem(number: int) -> str:
    return f"kernels_{number}"
