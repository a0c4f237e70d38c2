"""Search spaces: what they refuse, and their file form."""

from __future__ import annotations

import json

import pytest

from evolution import SearchSpace
from graphir import EXTENDED_OPERATIONS, Backbone, ConvLayer, presets


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operations": ("matmul", "sofmax")}, "unknown operation 'sofmax'; did you mean softmax"),
        ({"operations": ("neg", "neg")}, "repeat a name"),
        ({"operations": ("matmul",)}, "no graph of 3 to 16 nodes can be built from matmul"),
        ({"operations": ()}, "can be built from no operation"),
        ({"operations": ("transpose",), "min_nodes": 3, "max_nodes": 3}, "no graph of 3 to 3 nodes"),
        ({"operations": "neg"}, "operations must be a tuple"),
        ({"min_nodes": 0}, "min_nodes must be a whole number from 1 to 64"),
        ({"max_nodes": 65}, "max_nodes must be a whole number from 1 to 64"),
        ({"min_nodes": 9, "max_nodes": 8}, "min_nodes 9 is above max_nodes 8"),
        ({"kernel_sizes": (3, 4)}, "kernel_size must be odd, not 4"),
        ({"kernel_sizes": (3, 3)}, "repeat a size"),
        ({"kernel_sizes": ()}, "kernel_sizes is empty"),
        ({"kernel_sizes": (3,), "conv_probability": 1}, "one backbone only"),
        ({"conv_probability": 1.5}, "conv_probability must be a number from 0 to 1"),
        ({"conv_probability": float("nan")}, "conv_probability must be a number from 0 to 1"),
        ({"layer_mutation_probability": "often"}, "layer_mutation_probability must be a number"),
        ({"layers": 0}, "layers must be a whole number of at least 1"),
        ({"layers": 129}, "1 to 128 layers, not 129"),
        ({"hidden_size": 100, "heads": 12}, "hidden_size 100 must be a multiple of heads 12"),
        ({"ffn_size": -1}, "ffn_size must be a whole number"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_its_reason(fields, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(**fields)


def test_the_file_form_gives_the_same_space_back():
    space = SearchSpace(layers=2, operations=EXTENDED_OPERATIONS, kernel_sizes=(3, 9), max_nodes=7)
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert SearchSpace.from_dict({}) == SearchSpace()


@pytest.mark.parametrize(("data", "message"), [([], "not a list"), ({"layer": 3}, "did you mean layers")])
def test_a_file_form_that_is_not_a_space_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace.from_dict(data)


def test_the_winner_of_the_paper_lies_in_the_default_space():
    SearchSpace().require(presets.get("autobert-zero"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 6}, "heads is 12, the space has 6"),
        ({"layers": 11}, "12 layers, the space has 11"),
        ({"kernel_sizes": (3, 7, 65)}, "layer 3: kernel size 9 not in the space"),
        ({"max_nodes": 7}, "layer 2: .* the space allows 3 to 7"),
        ({"operations": ("matmul", "transpose")}, "layer 2: .*softmax not among"),
    ],
)
def test_require_names_the_layer_that_is_outside(fields, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(**fields).require(presets.get("autobert-zero"))


def test_require_accepts_what_the_bounds_allow():
    space = SearchSpace(layers=1, hidden_size=8, heads=2, ffn_size=8)
    space.require(Backbone((ConvLayer(65),), 8, 2, 8))
