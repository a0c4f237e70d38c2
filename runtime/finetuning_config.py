"""How a model is fine-tuned. Read without loading torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from graphir import InputError
from graphir.checks import check_number, check_whole, excerpt

Precision = Literal["float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]
Kept = Literal["best", "median"]


@dataclass(frozen=True)
class FineTuning:
    """Settings of `runtime.finetuning.finetune`; the defaults are within those that BERT's authors advise.

    Attributes:
        learning_rate: the highest one, of AdamW.
        epochs: how often the training data is gone through.
        batch_size: sequences of a step.
        max_length: most tokens of a sequence; None for 128 (GLUE) or 384 (SQuAD), or what the model can take.
        seeds: one training each: of the new weights, of dropout, of the order of the data.
        warm_up: the part of the steps in which the learning rate rises; then it falls to zero, both linearly.
        weight_decay: for matrices; biases and norms have none.
        clip: largest norm of the gradient of all weights together.
        precision: in which a step computes; weights stay float32. float16 is for GPUs.
        device: ``auto`` is a GPU where there is one.
        keep: the seed whose model is saved: the one with the ``best`` metrics on the development data, or the
            ``median`` one (the lower of two), which says more of what to expect.
        stride: (SQuAD) tokens that neighbouring parts of a paragraph share; None for 128, or a quarter of
            ``max_length`` where that is less.
        n_best: (SQuAD) answers that are written for each question.
        max_answer_length: (SQuAD) most tokens of an answer.
        null_threshold: (SQuAD 2.0) a question has no answer where that scores more than this above the best one.

    Raises:
        InputError: naming the field that is out of bounds.
    """

    learning_rate: float = 5e-5
    epochs: float = 3.0
    batch_size: int = 32
    max_length: int | None = None
    seeds: tuple[int, ...] = (0,)
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Precision = "float32"
    device: Device = "auto"
    keep: Kept = "best"
    stride: int | None = None
    n_best: int = 20
    max_answer_length: int = 30
    null_threshold: float = 0.0

    def __post_init__(self) -> None:
        check_number(self.learning_rate, "learning_rate", high=1.0, above=True)
        check_number(self.epochs, "epochs", high=10_000, above=True)
        check_number(self.warm_up, "warm_up", high=0.99)
        check_number(self.weight_decay, "weight_decay", high=1.0)
        check_number(self.clip, "clip", above=True)
        check_number(self.null_threshold, "null_threshold", low=-1e6, high=1e6)
        check_whole(self.batch_size, "batch_size", high=65_536)
        check_whole(self.n_best, "n_best", high=1_000)
        check_whole(self.max_answer_length, "max_answer_length", high=1_000)
        if self.max_length is not None:
            check_whole(self.max_length, "max_length", 8, 65_536)
        if self.stride is not None:
            check_whole(self.stride, "stride", 0, 65_536)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be {', '.join(allowed)}, not {excerpt(getattr(self, name))}")
        if not isinstance(self.seeds, tuple) or not self.seeds:
            raise InputError("seeds must be a tuple with at least one whole number")
        for seed in self.seeds:
            check_whole(seed, "a seed", 0, 2**32 - 1)
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError("seeds must differ: the same seed gives the same model")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"seeds": list(self.seeds)}


_CHOICES = {
    "precision": ("float32", "bfloat16", "float16"),
    "device": ("auto", "cpu", "cuda"),
    "keep": ("best", "median"),
}
