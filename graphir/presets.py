"""Known architectures by name.

Sources: ``bert`` Devlin et al. 2019; ``autobert-zero`` Gao et al. 2022 (arXiv 2107.07445), the winner's
figure, with its node "sqrt" read as scale (division by sqrt(D); assumed); ``linear-attention`` the efficient
attention of Shen et al. 2021; ``cosine-attention`` as in Swin V2 (Liu et al. 2022) with its temperature at 1;
``linear-cosine-attention`` the softmax-free form of Mongaras et al. 2024; ``shared-qk`` Kitaev et al. 2020.
"""

from __future__ import annotations

from functools import cache

from graphir.backbone import SIZES, AttentionLayer, Backbone, ConvLayer, Layer
from graphir.errors import PresetError
from graphir.graph import AttentionGraph
from graphir.validation import nearest

_PLAIN = "softmax(scale(Q @ K.T)) @ V"

_GRAPHS = {
    "linear-attention": "(softmax(Q) @ softmax(K.T)) @ V",
    "cosine-attention": "softmax(cosine_similarity(Q, K)) @ V",
    "linear-cosine-attention": "cosine_similarity(Q, K) @ V",
    "shared-qk": "softmax(scale(Q @ Q.T)) @ V",
}

# A kernel size or a formula a layer.
_BACKBONES: dict[str, tuple[int | str, ...]] = {
    "bert": (_PLAIN,) * 12,
    "autobert-zero": (
        65,
        "softmax(scale(Q @ -logsigmoid(-K).T)) @ (Q + K)",
        9,
        "softmax(scale(Q @ -logsigmoid(logsigmoid(Q) + (Q + K)).T)) @ Q",
        3,
        "softmax(scale(Q @ -logsigmoid(K).T)) @ Q",
        7,
        "softmax(scale(Q @ -logsigmoid(K).T)) @ Q",
        7,
        "softmax(scale(Q @ (scale(K) + (softsign(scale(softsign(K))) + V)).T)) @ V",
        3,
        "softmax(scale(Q @ (scale(K) + V).T)) @ V",
    ),
}


def names() -> tuple[str, ...]:
    """The names that `get` takes, sorted.

    Every attention layer of a backbone is ``<backbone>/<number>``, and every backbone stands in the usual sizes under
    ``<backbone>-<size>``; without a size it is ``base``.
    """
    layers = [
        f"{name}/{number}"
        for name, parts in _BACKBONES.items()
        for number, part in enumerate(parts, 1)
        if isinstance(part, str)
    ]
    sized = [f"{name}-{size}" for name in _BACKBONES for size in SIZES]
    return tuple(sorted([*_GRAPHS, *_BACKBONES, *layers, *sized], key=_natural))


@cache
def get(name: str) -> AttentionGraph | Backbone:
    """The graph or backbone called ``name``.

    Raises:
        PresetError: a `KeyError`, for an unknown name, with the nearest known ones.

    Example:
        >>> get("autobert-zero/6").equation()
        'softmax(scale(Q @ -logsigmoid(K).T)) @ Q'
    """
    if name in _GRAPHS:
        return AttentionGraph.from_expression(_GRAPHS[name], name=name)
    if name in _BACKBONES:
        return _backbone(name)
    stem, _, size = name.rpartition("-")
    if stem in _BACKBONES and size in SIZES:
        return _backbone(stem).resized(size)
    if name in names():
        backbone, _, number = name.partition("/")
        layer = _layer(backbone, int(number), _BACKBONES[backbone][int(number) - 1])
        assert isinstance(layer, AttentionLayer)  # names() lists attention layers only
        return layer.graph
    raise PresetError(f"unknown preset {name[:60]!r}; {nearest(name, names())}")


def _backbone(name: str) -> Backbone:
    layers = tuple(_layer(name, number, part) for number, part in enumerate(_BACKBONES[name], 1))
    return Backbone(layers, **SIZES["base"], name=name)


def _layer(backbone: str, number: int, part: int | str) -> Layer:
    if isinstance(part, int):
        return ConvLayer(part)
    return AttentionLayer(AttentionGraph.from_expression(part, name=f"{backbone}/{number}"))


def _natural(name: str) -> tuple[str, int]:
    stem, _, number = name.partition("/")
    return stem, int(number or 0)
