"""Attention structures as graphs of primitive math: make them, check them, look at them."""

from graphir import presets, reference
from graphir.backbone import AttentionLayer, Backbone, ConvLayer, Layer
from graphir.errors import GraphError, InputError, OpnasError, PresetError
from graphir.graph import AttentionGraph, Node
from graphir.ops import EXTENDED_OPERATIONS, OPERATIONS, PAPER_OPERATIONS, Operation, ValueType

__all__ = [
    "EXTENDED_OPERATIONS",
    "OPERATIONS",
    "PAPER_OPERATIONS",
    "AttentionGraph",
    "AttentionLayer",
    "Backbone",
    "ConvLayer",
    "GraphError",
    "InputError",
    "Layer",
    "Node",
    "Operation",
    "OpnasError",
    "PresetError",
    "ValueType",
    "presets",
    "reference",
]
