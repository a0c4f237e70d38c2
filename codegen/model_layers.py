"""What the layers of a backbone become in a generated model: attention functions, and the mixer of each layer."""

from __future__ import annotations

from dataclasses import dataclass

from codegen.attention import torch_program
from codegen.emit_torch import TorchProgram
from graphir import AttentionGraph, AttentionLayer, Backbone


@dataclass(frozen=True)
class Mixer:
    """How a layer makes its mixer of tokens: the name of a block, and its arguments as source."""

    block: str
    arguments: str

    def __str__(self) -> str:
        return f"{self.block}({self.arguments})"


@dataclass(frozen=True)
class ModelLayers:
    """The layers of a model, ready for a template.

    Attributes:
        graphs: the distinct graphs in the order of the layers.
        programs: the PyTorch form of each, named after the first layer that has it.
        mixers: of every layer.
    """

    graphs: tuple[AttentionGraph, ...]
    programs: tuple[TorchProgram, ...]
    mixers: tuple[Mixer, ...]

    @property
    def needed(self) -> frozenset[str]:
        """The small functions that the programs and the blocks call."""
        return self.needed_by_blocks.union(*(program.needed for program in self.programs))

    @property
    def needed_by_blocks(self) -> frozenset[str]:
        """Those that the blocks call, where attention runs in kernels alone."""
        return frozenset({"plain", "mask", "dropout"} | ({"convolution"} if self.has_conv else set()))

    @property
    def has_conv(self) -> bool:
        """Whether a layer is a convolution."""
        return any(mixer.block == "LightConv" for mixer in self.mixers)


def model_layers(backbone: Backbone) -> ModelLayers:
    """The layers of ``backbone``; those with one graph share one function."""
    names: dict[AttentionGraph, str] = {}
    mixers = []
    for number, layer in enumerate(backbone.layers, 1):
        if isinstance(layer, AttentionLayer):
            name = names.setdefault(layer.graph, f"attention_{number}")
            mixers.append(Mixer("Attention", f'{name}, inputs="{"".join(layer.graph.inputs)}"'))
        else:
            mixers.append(Mixer("LightConv", str(layer.kernel_size)))
    programs = tuple(torch_program(graph, name)[0] for graph, name in names.items())
    return ModelLayers(tuple(names), programs, tuple(mixers))
