"""Training a backbone as a masked language model from fresh weights: the twin of `runtime.probe_training`."""

from __future__ import annotations

import torch

from codegen import Backend, compile_backbone
from graphir import Backbone
from runtime.masking import training_batches
from runtime.proxy import ProxyData
from runtime.training import Recipe, evaluate_mlm, train


def train_on_language(
    backbone: Backbone,
    data: ProxyData,
    steps: int,
    batch_size: int,
    seed: int,
    learning_rate: float,
    backend: Backend = "auto",
) -> dict[str, float]:
    """Train fresh weights on text and judge them; weights and batches are drawn from ``seed``.

    Returns:
        ``loss`` (nats a hidden token) and ``accuracy`` on the held-out text of ``data``, on whose device it happens.

    Raises:
        TrainingDiverged: where a loss is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = compile_backbone(backbone, data.vocab_size, data.train.ids.shape[1], 0.0, backend)
    batches = training_batches(data.train, batch_size, data.vocab_size, seed)
    train(model.to(data.train.ids.device), batches, steps, Recipe(learning_rate=learning_rate))
    return evaluate_mlm(model, data.held_out)
