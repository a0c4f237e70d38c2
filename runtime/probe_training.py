"""Training a backbone on a probe from fresh weights: some seconds on one core."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from codegen import Backend, compile_backbone
from graphir import Backbone
from graphir.checks import check_number, check_whole
from runtime.default_device import made_on
from runtime.probes import Probe
from runtime.training import Recipe, TrainingReport, evaluate_mlm, train

HELD_OUT_SEED = 2**31 + 11
"""Beyond every seed of a candidate."""
POSITION_STD = 0.02


@dataclass(frozen=True)
class ProbeTraining:
    """How a probe is learnt. With these numbers plain attention behind a convolution of three tokens solves recall, and
    a stack of convolutions does not (docs/search.md).

    Attributes:
        steps: of training.
        batch_size: sequences of a step.
        learning_rate: the highest one; it rises for half of the steps.
        held_out_batches: that the model is judged on.
    """

    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 4e-3
    held_out_batches: int = 8

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "held_out_batches"):
            check_whole(getattr(self, name), name, 1, 2**31)
        check_number(self.learning_rate, "learning_rate", high=1.0, above=True)


def train_on_probe(
    backbone: Backbone,
    probe: Probe,
    seed: int,
    training: ProbeTraining | None = None,
    device: torch.device | str = "cpu",
    backend: Backend = "auto",
) -> tuple[dict[str, float], TrainingReport]:
    """Train fresh weights on a probe and judge them; the same for the same seed and number of threads, on a CPU.

    Returns:
        ``loss`` (nats a hidden token) and ``accuracy`` on sequences that no training sees, and what the training did.

    Raises:
        TrainingDiverged: where a loss is not finite.
    """
    training = training or ProbeTraining()
    model = fresh_model(backbone, probe, seed, device, backend)
    batches = (batch.to(device) for batch in probe.batches(training.batch_size, seed))
    report = train(model, batches, training.steps, Recipe(learning_rate=training.learning_rate))
    held_out = islice(probe.batches(64, HELD_OUT_SEED), training.held_out_batches)
    return evaluate_mlm(model, (batch.to(device) for batch in held_out)), report


def fresh_model(
    backbone: Backbone, probe: Probe, seed: int, device: torch.device | str = "cpu", backend: Backend = "auto"
) -> nn.Module:
    """A model of ``backbone`` for the tokens of a probe, on a device.

    Matrices and tokens have the standard deviation ``1 / sqrt(hidden size)``, so that queries and keys of small
    models tell tokens apart from the first step; with BERT's 0.02 at hidden size 64 attention did not learn recall in
    1,500 steps. Positions keep 0.02: where they are as loud as tokens, it takes twice the steps. (docs/log.md)
    """
    with torch.random.fork_rng(devices=[]), made_on("cpu"):
        torch.default_generator.manual_seed(seed)
        model = compile_backbone(backbone, probe.vocab_size, probe.seq_len, 0.0, backend)
        for name, weight in model.named_parameters():
            if name.endswith("position.weight"):
                nn.init.normal_(weight, std=POSITION_STD)
            elif weight.ndim == 2 and not name.endswith(".kernel"):
                nn.init.normal_(weight, std=backbone.hidden_size**-0.5)
    return model.to(device)
