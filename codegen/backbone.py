"""`compile_backbone`: a backbone becomes one flat module file and a model made from it."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

from codegen.attention import torch_program
from codegen.emit_torch import TorchProgram
from codegen.generated import load_source
from codegen.rendering import render
from graphir import AttentionGraph, AttentionLayer, Backbone

if TYPE_CHECKING:
    from torch import nn


def backbone_source(
    backbone: Backbone,
    vocab_size: int = 30_522,
    max_positions: int = 512,
    dropout: float = 0.1,
    loader: bool = False,
) -> str:
    """The text of a Python file that defines ``Model``, a masked language model, and imports only torch.

    Args:
        backbone: the layers and sizes.
        vocab_size: number of token ids.
        max_positions: longest sequence in tokens.
        dropout: probability for embeddings, softmaxes and residual branches in training.
        loader: also write a function ``load`` that reads ``model.safetensors`` beside the file.

    Raises:
        ValueError: for sizes below 1 or a probability outside [0, 1).
    """
    for what, size in (("vocab_size", vocab_size), ("max_positions", max_positions)):
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{what} must be a whole number of at least 1, not {size!r}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, not {dropout!r}")

    programs: dict[AttentionGraph, TorchProgram] = {}
    mixers: list[str] = []
    for number, layer in enumerate(backbone.layers, 1):
        if not isinstance(layer, AttentionLayer):
            mixers.append(f"LightConv({layer.kernel_size})")
            continue
        # Layers with one graph share one function.
        program = programs.get(layer.graph)
        if program is None:
            program, _ = torch_program(layer.graph, f"attention_{number}")
            programs[layer.graph] = program
        mixers.append(f'Attention({program.name}, inputs="{"".join(layer.graph.inputs)}")')
    return render(
        "torch/backbone.py.jinja",
        backbone=backbone,
        layer_lines=backbone.equation().splitlines(),
        programs=list(programs.values()),
        needed=frozenset().union(*(program.needed for program in programs.values())),
        mixers=mixers,
        has_conv=any(mixer.startswith("LightConv") for mixer in mixers),
        vocab_size=vocab_size,
        max_positions=max_positions,
        dropout=float(dropout),
        loader=loader,
    )


def compile_backbone(
    backbone: Backbone, vocab_size: int = 30_522, max_positions: int = 512, dropout: float = 0.1
) -> nn.Module:
    """A new model with freshly drawn weights (from torch's global generator); arguments as `backbone_source`.

    Returns:
        An ``nn.Module``: ``model(input_ids, key_mask=None)`` takes int64 ``[B, S]`` and bool ``[B, S]``
        (True = real token) and gives logits ``[B, S, vocab_size]``; ``model.hidden`` and ``model.logits``
        are its two halves, ``model.source`` its generated text.
    """
    source = backbone_source(backbone, vocab_size, max_positions, dropout)
    model: nn.Module = _load(source).Model()
    return model


@lru_cache(maxsize=64)
def _load(source: str) -> ModuleType:
    module = load_source(source, "backbone")
    module.Model.source = source
    return module
