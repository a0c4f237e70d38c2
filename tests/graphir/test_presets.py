"""The known architectures."""

import numpy as np
import pytest

from graphir import AttentionGraph, Backbone, ConvLayer, presets, reference

WINNER = {
    2: ("Q", "K"),
    4: ("Q", "K"),
    6: ("Q", "K"),
    8: ("Q", "K"),
    10: ("Q", "K", "V"),
    12: ("Q", "K", "V"),
}


@pytest.mark.parametrize("name", presets.names())
def test_every_name_gives_an_architecture_of_that_name(name: str) -> None:
    preset = presets.get(name)
    assert isinstance(preset, (AttentionGraph, Backbone))
    assert preset.name == name


def test_the_winner_is_that_of_the_figure() -> None:
    winner = presets.get("autobert-zero")
    kernels = [layer.kernel_size for layer in winner.layers[::2] if isinstance(layer, ConvLayer)]
    assert kernels == [65, 9, 3, 7, 7, 3]
    assert {number: presets.get(f"autobert-zero/{number}").inputs for number in WINNER} == WINNER
    assert [layer.graph for layer in winner.layers[1::2]] == [
        presets.get(f"autobert-zero/{number}") for number in WINNER
    ]


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


def _log_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.log(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize("seed", range(3))
def test_layers_2_and_12_are_the_papers_formulas(seed: int) -> None:
    q, k, v = np.random.default_rng(seed).standard_normal((3, 5, 4))
    two = _softmax(q @ -_log_sigmoid(-k).T / 2) @ (q + k)
    twelve = _softmax(q @ (k / 2 + v).T / 2) @ v
    for name, expected in (("autobert-zero/2", two), ("autobert-zero/12", twelve)):
        out = reference.evaluate(presets.get(name), *(x[None, None] for x in (q, k, v)))
        # 1e-12: float64 rounding of a few dozen operations
        assert np.allclose(out[0, 0], expected, rtol=1e-12, atol=1e-12), f"seed {seed}, {name}"


def test_bert_is_twelve_times_plain_attention() -> None:
    bert = presets.get("bert")
    assert {graph.equation() for graph in bert.graphs} == {"softmax(scale(Q @ K.T)) @ V"}
    assert (len(bert.layers), bert.hidden_size, bert.heads, bert.ffn_size) == (12, 768, 12, 3072)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [("small", (256, 4, 1024)), ("base", (768, 12, 3072)), ("large", (1024, 16, 4096))],
)
@pytest.mark.parametrize("name", ["autobert-zero", "bert"])
def test_backbones_stand_in_three_sizes_with_the_same_layers(
    name: str, size: str, sizes: tuple[int, int, int]
) -> None:
    sized = presets.get(f"{name}-{size}")
    assert isinstance(sized, Backbone)
    assert (sized.hidden_size, sized.heads, sized.ffn_size) == sizes
    assert sized.head_dim == 64
    assert sized.layers == presets.get(name).layers


def test_the_base_size_is_the_backbone_itself() -> None:
    assert presets.get("autobert-zero-base").canonical_hash() == presets.get("autobert-zero").canonical_hash()
    assert (
        presets.get("autobert-zero-small").canonical_hash() != presets.get("autobert-zero").canonical_hash()
    )


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="autobert-zero"):
        presets.get("autobert-zro")
    with pytest.raises(KeyError, match="unknown preset"):
        presets.get("autobert-zero/1")
    for name in ("autobert-zero-tiny", "linear-attention-small", "autobert-zero/2-small"):
        with pytest.raises(KeyError, match="unknown preset"):
            presets.get(name)
