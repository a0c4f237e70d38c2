"""The mask of the public reproduction: padded query rows are masked instead of padded keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graphir import AttentionGraph, AttentionLayer, Backbone
from graphir.ops import SEQ_BY_HEAD
from runtime.eager import NOWHERE, RULES, Call, Value


def query_row_attention(graph: AttentionGraph) -> Callable[..., Tensor]:
    """``graph`` as the reproduction would run it: real tokens attend to padding, and padded rows to all alike.

    A constant in all logits of a row gives equal weights, whatever the constant.

    Args:
        graph: any graph; only its softmax over the sequence knows of a mask.

    Returns:
        A function with the arguments of generated attention, ``[B, H, S, D]``.
    """

    def attention(
        q: Tensor | None,
        k: Tensor | None,
        v: Tensor | None,
        key_mask: Tensor | None = None,
        dropout_p: float = 0.0,
    ) -> Tensor:
        given = {"Q": q, "K": k, "V": v}
        values = {name: Value(_present(given[name]), SEQ_BY_HEAD, NOWHERE) for name in graph.inputs}
        call = Call(next(iter(values.values())).tensor.shape[-1])
        for node in graph.nodes:
            tensor, _ = RULES[node.op](call, *[values[operand] for operand in node.inputs])
            value_type = graph.types[node.id]
            if node.op == "softmax" and value_type[1] == "S":
                if key_mask is not None and value_type[0] == "S":
                    tensor = torch.where(key_mask[:, None, :, None], tensor, 1.0 / tensor.shape[-1])
                tensor = F.dropout(tensor, dropout_p)
            values[node.id] = Value(tensor, value_type, NOWHERE)
        return values[graph.output].tensor

    return attention


def _present(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("an input that the graph uses is None")
    return tensor


def mask_query_rows(model: Any, backbone: Backbone) -> None:
    """Give the attention layers of an exported model the mask of the reproduction; convolutions keep theirs.

    Args:
        model: of transformers, generated from ``backbone``; it is changed in place.
        backbone: what it was generated from.
    """
    attentions = [module for module in model.modules() if type(module).__name__ == "Attention"]
    graphs = [layer.graph for layer in backbone.layers if isinstance(layer, AttentionLayer)]
    for module, graph in zip(attentions, graphs, strict=True):
        module.function = query_row_attention(graph)
