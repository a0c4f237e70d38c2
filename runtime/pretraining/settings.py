"""What a pretraining is asked to do. Read without loading torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from graphir import InputError
from graphir.checks import check_number, check_whole, excerpt
from graphir.validation import nearest
from runtime.special_tokens import MIN_VOCAB_SIZE

Decay = Literal["linear", "cosine"]
MaskingKind = Literal["token", "word"]
Precision = Literal["float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu"]

FREE_SETTINGS = ("checkpoint_every", "evaluate_every")
"""What a resumed pretraining may do otherwise than it began: no weight depends on these."""


@dataclass(frozen=True)
class Pretraining:
    """How a masked language model is pretrained.

    Attributes:
        steps: updates of the weights.
        seq_len: tokens of a sequence, [CLS] and [SEP] among them.
        batch_size: sequences of a step, over all parts and all processes.
        accumulate: parts in which a process computes its share of a step, one after the other; more need less memory.
        learning_rate: the highest one. Post-LN models, as ours are, bear 1e-3 at hidden size 64 with a long warm-up;
            at 768 BERT took 1e-4.
        warm_up: part of the steps in which the learning rate rises to it.
        decay: how it falls to zero in the other steps.
        weight_decay: for matrices; biases and LayerNorms have none.
        beta2: decay of Adam's second moment.
        clip: largest norm of the gradient of all weights together.
        masking: which tokens are hidden together: each by itself, or all of a word.
        vocab_size: most tokens of the tokenizer, where it is trained on the text.
        max_positions: longest sequence that the model takes; None for ``seq_len``. For a new model only.
        dropout: probability for embeddings, softmaxes and residual branches.
        precision: of products in training. Weights and their sums stay in float32.
        gradient_checkpointing: keep what enters a layer alone for the backward pass, and compute the rest again.
        seed: of new weights, the order of the text, hidden tokens and dropout.
        checkpoint_every: steps between checkpoints.
        evaluate_every: steps between evaluations on held-out text; 0 for one at the end.
        held_out_sequences: most sequences of held-out text that are judged on, evenly spread over it.
        device: ``"auto"`` is a GPU where there is one.

    Raises:
        InputError: naming the field that is out of bounds.
    """

    steps: int = 10_000
    seq_len: int = 128
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 5e-4
    warm_up: float = 0.2
    decay: Decay = "linear"
    weight_decay: float = 0.01
    beta2: float = 0.98
    clip: float = 1.0
    masking: MaskingKind = "token"
    vocab_size: int = 16_384
    max_positions: int | None = None
    dropout: float = 0.1
    precision: Precision = "float32"
    gradient_checkpointing: bool = False
    seed: int = 0
    checkpoint_every: int = 500
    evaluate_every: int = 0
    held_out_sequences: int = 1_024
    device: Device = "auto"

    def __post_init__(self) -> None:
        for name, (low, high) in _WHOLE.items():
            check_whole(getattr(self, name), name, low, high)
        for name, (lowest, highest, above) in _NUMBERS.items():
            check_number(getattr(self, name), name, lowest, highest, above)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be {' or '.join(allowed)}, not {excerpt(getattr(self, name))}")
        if not isinstance(self.gradient_checkpointing, bool):
            raise InputError(
                f"gradient_checkpointing must be true or false, not {excerpt(self.gradient_checkpointing)}"
            )
        if self.dropout == 1 or self.beta2 == 1:
            raise InputError("dropout and beta2 must be below 1")
        if self.max_positions is not None:
            check_whole(self.max_positions, "max_positions", self.seq_len, 1_000_000)
        if self.batch_size % self.accumulate:
            raise InputError(
                f"batch_size {self.batch_size} cannot be computed in {self.accumulate} equal parts: "
                "accumulate must divide it"
            )

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the step with this number, counted from 0.

        Example:
            >>> settings = Pretraining(steps=8, learning_rate=1.0, warm_up=0.5)
            >>> [settings.learning_rate_at(step) for step in range(8)]
            [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        rising = max(1, round(self.warm_up * self.steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        left = 1.0 - done if self.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return self.learning_rate * left

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Pretraining:
        """Read what `to_dict` wrote; fields left out take their defaults.

        Raises:
            InputError: for unknown fields, or values that the constructor refuses.
        """
        if not isinstance(data, dict):
            raise InputError(f"settings of a pretraining are an object of fields, not {excerpt(data)}")
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                raise InputError(f"unknown field {excerpt(str(name))}; {nearest(str(name), known)}")
        return cls(**data)


_WHOLE = {
    "steps": (1, 100_000_000),
    "seq_len": (8, 65_536),
    "batch_size": (1, 1_000_000),
    "accumulate": (1, 1_000_000),
    "vocab_size": (MIN_VOCAB_SIZE, 1_000_000),
    "seed": (0, 2**63 - 1),
    "checkpoint_every": (1, 100_000_000),
    "evaluate_every": (0, 100_000_000),
    "held_out_sequences": (1, 1_000_000),
}
_NUMBERS = {
    "learning_rate": (0.0, 1.0, True),
    "warm_up": (0.0, 1.0, False),
    "weight_decay": (0.0, 10.0, False),
    "beta2": (0.0, 1.0, True),
    "clip": (0.0, None, True),
    "dropout": (0.0, 1.0, False),
}
"""Lowest and highest, and whether the lowest itself is refused."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "decay": get_args(Decay),
    "masking": get_args(MaskingKind),
    "precision": get_args(Precision),
    "device": get_args(Device),
}
