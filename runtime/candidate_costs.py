"""What a candidate costs, as metrics beside its score: the objectives of a search that wants more than a score.

All of a forward pass of ``batch_size`` sequences of ``latency_tokens`` tokens (by default ``seq_len``), through all
layers, without embeddings and head:

- ``operations``: floating-point operations, a multiplication with its addition counted as two (`graphir.cost`);
- ``roofline_ms``: milliseconds that no run on the named device is faster than. Of attention it is what the plan of its
  Triton kernels says, of all else the roofline of its operations and its memory traffic in 16 bits. Real times are
  longer; small models are bound by launches, which it leaves out;
- ``latency_ms``: milliseconds of a forward pass of the whole model, measured on the machine and device of the search,
  at ``seq_len``, only where it is asked for. It takes time and is not reproducible: where it is an objective of the
  search, the same seed gives another study.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from codegen import kernel_program, plan_kernels
from graphir import AttentionGraph, AttentionLayer, Backbone, InputError
from graphir.cost import backbone_cost, graph_cost
from graphir.devices import Device, device_named, roofline_seconds

if TYPE_CHECKING:
    from runtime.masking import MaskedBatch
    from runtime.proxy_config import ProxyConfig
    from runtime.run_config import RunConfig

_BYTES_A_NUMBER = 2
_ROUNDS = 9
"""Timed passes, of which the median is taken; as many as a tenth of a second or so allows at the sizes of a search."""


def candidate_costs(
    backbone: Backbone, model: nn.Module, batch: MaskedBatch, config: ProxyConfig
) -> dict[str, float]:
    """The costs that ``config`` asks for, by name.

    Args:
        backbone: the architecture.
        model: its model, for a latency that is measured.
        batch: what it is measured on.
        config: names the device, the sizes, and whether to measure.
    """
    tokens = config.seq_len if config.latency_tokens is None else config.latency_tokens
    costs = {"operations": float(backbone_cost(backbone, tokens, config.batch_size).flops)}
    if config.latency_device is not None:
        device = device_named(config.latency_device)
        costs["roofline_ms"] = 1e3 * roofline(backbone, device, tokens, config.batch_size)
    if config.measure_latency:
        costs["latency_ms"] = 1e3 * measured_latency(model, batch)
    return costs


def roofline(backbone: Backbone, device: Device, seq_len: int, batch: int) -> float:
    """Seconds that no forward pass of all layers is faster than, in 16 bits: layer after layer, and in each the
    kernels of its attention after all that stands beside it.

    Example:
        >>> from graphir import presets
        >>> seconds = [roofline(presets.get("bert"), device_named(name), 4096, 1) for name in ("H100", "A100")]
        >>> 0 < seconds[0] < seconds[1]
        True
    """
    total = 0.0
    for layer in backbone.layers:
        one = Backbone((layer,), backbone.hidden_size, backbone.heads, backbone.ffn_size)
        cost = backbone_cost(one, seq_len, batch, _BYTES_A_NUMBER)
        if isinstance(layer, AttentionLayer):
            sizes = (seq_len, backbone.head_dim, backbone.heads, batch)
            cost -= graph_cost(layer.graph, *sizes, _BYTES_A_NUMBER)
            total += _attention_seconds(layer.graph, device, *sizes)
        total += roofline_seconds(cost, device)
    return total


# A child shares all graphs but one with its parent.
@lru_cache(maxsize=4096)
def _attention_seconds(
    graph: AttentionGraph, device: Device, seq_len: int, head_dim: int, heads: int, batch: int
) -> float:
    return plan_kernels(kernel_program(graph)).seconds(device, seq_len, head_dim, heads, batch)


@torch.no_grad()
def measured_latency(model: nn.Module, batch: MaskedBatch) -> float:
    """Seconds of a forward pass: the median of some, after two that nobody counts."""
    model.eval()
    times = []
    for _ in range(_ROUNDS + 2):
        begun = time.perf_counter()
        model(batch.input_ids, batch.key_mask)
        if batch.input_ids.is_cuda:
            torch.cuda.synchronize(batch.input_ids.device)
        times.append(time.perf_counter() - begun)
    return sorted(times[2:])[_ROUNDS // 2]


def check_costs_wanted(config: RunConfig) -> None:
    """Refuse objectives that no candidate would have, before anything is trained.

    Raises:
        InputError: naming the option that is missing.
    """
    objectives = {name.removeprefix("-") for name in config.strategy_settings.get("objectives", ())}
    for name, given, option in (
        ("roofline_ms", config.proxy.latency_device is not None, "--latency-device, such as h100"),
        ("latency_ms", config.proxy.measure_latency, "--measure-latency"),
    ):
        if name in objectives and not given:
            raise InputError(f"the objective {name} needs {option}")
