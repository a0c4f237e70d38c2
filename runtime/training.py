"""Training and judging a masked language model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from graphir import InputError, OpnasError
from runtime.default_device import made_on
from runtime.masking import IGNORED, MaskedBatch


class TrainingDiverged(OpnasError, RuntimeError):
    """A loss or a gradient is not finite."""


@dataclass(frozen=True)
class Recipe:
    """How weights are updated: AdamW, linear warm-up, linear decay to zero.

    Attributes:
        learning_rate: the highest one.
        warm_up: the part of the steps in which the learning rate rises to it. Half of them: small post-LN
            models that rise faster stay at predicting the commonest token (measured).
        beta2: decay of Adam's second moment. Low, so that one graph with a steep gradient does not hold
            back the weights that it shares for a thousand steps.
        weight_decay: for matrices; biases and LayerNorms have none.
        clip: largest norm of the gradient of all weights together.
    """

    learning_rate: float = 1e-3
    warm_up: float = 0.5
    beta2: float = 0.95
    weight_decay: float = 0.01
    clip: float = 1.0


@dataclass(frozen=True)
class TrainingReport:
    """What a training did.

    Attributes:
        losses: the loss of each step.
        tokens: real tokens seen.
        seconds: wall-clock time.
    """

    losses: tuple[float, ...]
    tokens: int
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Real tokens a second, forward, backward and update."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


class MaskedLoss(nn.Module):
    """The mean cross-entropy of a model at the hidden tokens; its only forward argument is a `MaskedBatch`.

    The head runs at the hidden positions alone: over all of them it would cost as much as the layers.

    Args:
        model: a module with ``hidden(input_ids, key_mask) -> [B, S, E]`` and ``logits(hidden) -> [..., V]``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MaskedBatch) -> Tensor:
        logits, targets = masked_logits(self.model, batch)
        return F.cross_entropy(logits, targets)


def masked_logits(model: nn.Module, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
    """Logits ``[M, V]`` at the ``M`` hidden tokens of a batch, and these tokens ``[M]``."""
    hidden = model.hidden(batch.input_ids, batch.key_mask)  # type: ignore[operator]  # nn.Module hides methods
    chosen = batch.labels != IGNORED
    return model.logits(hidden[chosen]), batch.labels[chosen]  # type: ignore[operator]  # as above


def decayed_matrices(weights: Sequence[Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimizer: weights decay where they are matrices; biases and LayerNorms do not."""
    return [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]


class Updater:
    """Applies gradients to weights under a recipe, for a number of steps that is known beforehand.

    Weights without a gradient are left as they are, moments included.
    """

    def __init__(self, weights: Iterable[Tensor], steps: int, recipe: Recipe) -> None:
        self.weights = list(weights)
        self.clip = recipe.clip
        self.optimizer = AdamW(
            decayed_matrices(self.weights, recipe.weight_decay),
            lr=recipe.learning_rate,
            betas=(0.9, recipe.beta2),
            fused=True,  # one call for all weights: a fifth of the time of a loop over them, on a CPU too (measured)
        )
        rising = max(1, round(recipe.warm_up * steps))
        falling = max(1, steps - rising)
        self.schedule = LambdaLR(
            self.optimizer, lambda step: min((step + 1) / rising, max(0.0, (steps - step) / falling))
        )

    def update(self, loss: Tensor) -> float:
        """One step down the gradient of ``loss``; returns the loss.

        Raises:
            TrainingDiverged: where the loss or its gradient is not finite. No weight is changed then.
        """
        value = loss.item()
        self.optimizer.zero_grad(set_to_none=True)
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"the loss is {value}")
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, self.clip)
        if not torch.isfinite(norm):
            raise TrainingDiverged(f"the gradient's norm is {norm.item()} at a loss of {value:.3f}")
        with made_on("cpu"):  # where an optimizer has its counters
            self.optimizer.step()
        self.schedule.step()
        return value


def train(
    model: nn.Module,
    batches: Iterator[MaskedBatch],
    steps: int,
    recipe: Recipe | None = None,
    ends: Callable[[int], bool] | None = None,
) -> TrainingReport:
    """Train ``model`` in place, a batch a step.

    Everything random is in ``batches`` (`runtime.masking.training_batches` has a seed), so that the same
    weights, batches and number of threads give the same result.

    Args:
        model: a masked language model, see `MaskedLoss`.
        batches: at least ``steps`` batches.
        steps: number of updates.
        recipe: how weights are updated; `Recipe` by default.
        ends: asked after each step, with its number from 1, whether the training is to end. It may judge the model.

    Raises:
        TrainingDiverged: where the loss or its gradient is not finite.
    """
    objective = MaskedLoss(model)
    updater = Updater(model.parameters(), steps, recipe or Recipe())
    losses: list[float] = []
    tokens = 0
    start = time.perf_counter()
    for step in range(steps):
        batch = next(batches)
        model.train()
        try:
            losses.append(updater.update(objective(batch)))
        except TrainingDiverged as error:
            raise TrainingDiverged(f"training diverged at step {step + 1} of {steps}: {error}") from None
        tokens += batch.tokens
        if ends is not None and ends(step + 1):
            break
    return TrainingReport(tuple(losses), tokens, time.perf_counter() - start)


@torch.no_grad()
def evaluate_mlm(model: nn.Module, batches: Iterable[MaskedBatch]) -> dict[str, float]:
    """Judge ``model`` on hidden tokens.

    Returns:
        ``accuracy``, the part of the hidden tokens that is predicted right, and ``loss``, their mean
        cross-entropy in nats.

    Raises:
        TrainingDiverged: where the loss is not finite.
        InputError: without a hidden token.
    """
    model.eval()
    right = hidden = 0
    loss = 0.0
    for batch in batches:
        logits, targets = masked_logits(model, batch)
        right += int((logits.argmax(dim=-1) == targets).sum())
        loss += F.cross_entropy(logits, targets, reduction="sum").item()
        hidden += len(targets)
    if hidden == 0:
        raise InputError("there is no hidden token to judge the model on")
    if not math.isfinite(loss):
        raise TrainingDiverged(f"the held-out loss is {loss}")
    return {"accuracy": right / hidden, "loss": loss / hidden}
