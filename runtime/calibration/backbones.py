"""The backbones of a calibration: some that are known, the rest drawn as a search draws them."""

from __future__ import annotations

from itertools import cycle, islice
from random import Random

from evolution import SearchSpace, random_backbone
from evolution.identity import SeenBackbones
from evolution.space import PLAIN_ATTENTION
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer, InputError, Layer, presets

LINEAR = AttentionGraph.from_expression("Q @ (K.T @ V)", name="linear")


def known_backbones(space: SearchSpace) -> dict[str, Backbone]:
    """Backbones that are worth knowing about, in the size of ``space``, by name.

    Example:
        >>> list(known_backbones(SearchSpace(layers=4)))[:3]
        ['bert', 'convolutions', 'plain-behind-convolution']
    """
    plain, linear = AttentionLayer(PLAIN_ATTENTION), AttentionLayer(LINEAR)
    found: dict[str, list[Layer]] = {"bert": [plain]}
    if space.kernel_sizes:
        sizes = sorted(space.kernel_sizes)
        small, large = ConvLayer(sizes[0]), ConvLayer(sizes[-1])
        steps = [sizes[round(i * (len(sizes) - 1) / 3)] for i in range(4)]
        winner = presets.get("autobert-zero")
        assert isinstance(winner, Backbone)
        found |= {
            "convolutions": [ConvLayer(size) for size in steps],
            "plain-behind-convolution": [small, plain],
            "short-convolutions": [small],
            "one-plain-attention": [small, large, plain, small],
            "linear-behind-convolution": [small, linear],
            "autobert-zero": [layer for layer in winner.layers if _fits(layer, space)],
        }
    return {name: _sized(layers, space, name) for name, layers in found.items()}


def all_convolutions(space: SearchSpace) -> Backbone:
    """A stack of convolutions of all sizes, small to large: what learns text first.

    Raises:
        InputError: where the space has no convolutions.
    """
    if not space.kernel_sizes:
        raise InputError("the space has no convolutions")
    return known_backbones(space)["convolutions"]


def backbones_to_calibrate(space: SearchSpace, count: int, seed: int) -> list[Backbone]:
    """``count`` different backbones: the known ones first, then random ones."""
    chosen: list[Backbone] = []
    seen = SeenBackbones(())
    rng = Random(f"calibration/{seed}")
    known = iter(known_backbones(space).values())
    while len(chosen) < count:
        backbone = next(known, None) or random_backbone(rng, space, f"random-{len(chosen)}")
        identity = seen.identify(backbone)
        if identity is not None:
            seen.add(*identity)
            chosen.append(backbone)
    return chosen


def _fits(layer: Layer, space: SearchSpace) -> bool:
    return not isinstance(layer, ConvLayer) or layer.kernel_size in space.kernel_sizes


def _sized(layers: list[Layer], space: SearchSpace, name: str) -> Backbone:
    """Layers of a pattern, again and again, until there are as many as the space asks for."""
    chosen = tuple(islice(cycle(layers), space.layers))
    return Backbone(chosen, space.hidden_size, space.heads, space.ffn_size, name=name)
