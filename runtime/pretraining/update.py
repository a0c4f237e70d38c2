"""One step of pretraining: forward and backward over its parts, clipping, AdamW."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.checkpoint import checkpoint

from runtime.default_device import made_on
from runtime.masking import IGNORED, MaskedBatch
from runtime.pretraining.settings import Pretraining
from runtime.training import MaskedLoss, decayed_matrices

if TYPE_CHECKING:
    from accelerate import Accelerator

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class UpdateResult:
    """What a step did; tensors on the device, not yet waited for.

    Attributes:
        loss: mean cross-entropy at this process' hidden tokens, a scalar.
        norm: of the gradient before clipping, a scalar.
        skipped: whether no weight was changed, because the gradient did not fit float16; the scale of the loss is
            smaller from then on.
    """

    loss: Tensor
    norm: Tensor
    skipped: bool


class Update:
    """A model and the optimizer of its weights, on the device that ``accelerator`` chose.

    Args:
        model: a masked language model, as `codegen.compile_backbone` makes it; it is moved and trained in place.
        settings: rates, clipping, precision.
        accelerator: of as many processes as there are.
    """

    def __init__(self, model: nn.Module, settings: Pretraining, accelerator: Accelerator) -> None:
        self.model = model.to(accelerator.device)
        self.settings = settings
        self.accelerator = accelerator
        if settings.gradient_checkpointing:
            keep_layer_inputs_only(model)
        self.weights = list(model.parameters())
        # The fused form is one call for all weights. It would hide from accelerate that a step was skipped.
        self.fused = settings.precision != "float16" and accelerator.device.type in ("cpu", "cuda")
        optimizer = AdamW(
            decayed_matrices(self.weights, settings.weight_decay),
            lr=settings.learning_rate,
            betas=(0.9, settings.beta2),
            fused=self.fused,
        )
        self.objective, self.optimizer = accelerator.prepare(MaskedLoss(model), optimizer)

    def step(self, number: int, parts: Sequence[MaskedBatch]) -> UpdateResult:
        """Learn from the parts of step ``number`` as if they were one batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate_at(number)
        hidden = [int((part.labels != IGNORED).sum()) for part in parts]
        losses = []
        for position, part in enumerate(parts, 1):
            last = position == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.objective):
                loss = self.objective(part.to(self.accelerator.device))
                loss = loss * (hidden[position - 1] / sum(hidden)) if len(parts) > 1 else loss
                self.accelerator.backward(loss)
            losses.append(loss.detach())
        norm = self.accelerator.clip_grad_norm_(self.weights, self.settings.clip)
        with made_on("cpu"):  # where an optimizer has its counters
            self.optimizer.step()
        self.optimizer.zero_grad()
        return UpdateResult(torch.stack(losses).sum(), norm, bool(self.optimizer.step_was_skipped))

    def moments(self) -> dict[str, Tensor]:
        """The optimizer's state by the names of the weights; empty before the first step."""
        state = self.optimizer.state
        return {
            f"{name}/{kind}": state[weight][kind]
            for name, weight in self.model.named_parameters()
            if weight in state
            for kind in _MOMENTS
        }

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Take over what ``model.state_dict()`` and `moments` gave, on any device.

        Raises:
            KeyError: where one is missing.
            RuntimeError: where a shape is another one.
        """
        self.model.load_state_dict(dict(weights))
        for name, weight in self.model.named_parameters():
            restored = {kind: moments[f"{name}/{kind}"].to(weight.device, copy=True) for kind in _MOMENTS}
            if not self.fused:
                restored["step"] = restored["step"].to("cpu")
            self.optimizer.state[weight] = restored


def keep_layer_inputs_only(model: nn.Module) -> None:
    """Gradient checkpointing: what happens within a layer is computed again in the backward pass, dropout included."""
    for layer in model.layers:  # type: ignore[union-attr]  # nn.Module hides its parts
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
