"""The proxy task of a search: short masked language modelling with weights from a supernet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from evolution import Evaluation, SearchSpace
from graphir import Backbone
from graphir.validation import nearest
from runtime.corpus import Corpus
from runtime.masking import MaskedBatch, commonest_token_accuracy, held_out_batches, training_batches
from runtime.supernet import Supernet
from runtime.tokenizer import MIN_VOCAB_SIZE, Sequences, encode_sequences, train_tokenizer
from runtime.training import Recipe, TrainingReport, evaluate_mlm, train

PROXY_SPACE = SearchSpace(layers=4, hidden_size=64, heads=4, ffn_size=128)
"""The space of the default search: the paper's layers, small enough for two cores."""


@dataclass(frozen=True)
class ProxyConfig:
    """Sizes and times of the proxy task. The defaults suit two cores and five minutes.

    Attributes:
        vocab_size: largest number of tokens of the tokenizer.
        seq_len: tokens of a sequence.
        batch_size: sequences of a step.
        held_out_sequences: most sequences that a candidate is judged on.
        held_out_seed: of the hidden tokens of these; the same for all candidates.
        warm_up_steps: steps of the supernet before it is frozen.
        warm_up_rate: highest learning rate of these steps.
        candidate_steps: steps of a candidate by itself: the ``budget`` that a search should give.
        candidate_rate: highest learning rate of these steps.

    Raises:
        ValueError: naming the field that is out of bounds.
    """

    vocab_size: int = 1024
    seq_len: int = 64
    batch_size: int = 32
    held_out_sequences: int = 512
    held_out_seed: int = 0
    warm_up_steps: int = 600
    warm_up_rate: float = 3e-3
    candidate_steps: int = 20
    candidate_rate: float = 1e-3

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(
                    f"{name} must be a whole number from {low:,} to {high:,}, not {str(value)[:40]!r}"
                )
        for name in ("warm_up_rate", "candidate_rate"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
                raise ValueError(f"{name} must be a number above 0 and at most 1, not {str(value)[:40]!r}")

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> ProxyConfig:
        """Read what `to_dict` wrote; fields left out take their defaults.

        Raises:
            ValueError: for unknown fields, or values that the constructor refuses.
        """
        if not isinstance(data, dict):
            raise ValueError(f"a proxy configuration is an object of fields, not a {type(data).__name__}")
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                raise ValueError(f"unknown field {str(name)[:60]!r}; {nearest(str(name), known)}")
        return cls(**data)


_BOUNDS = {
    "vocab_size": (MIN_VOCAB_SIZE, 1_000_000),
    "seq_len": (8, 65_536),
    "batch_size": (1, 65_536),
    "held_out_sequences": (1, 1_000_000),
    "held_out_seed": (0, 2**63 - 1),
    "warm_up_steps": (0, 1_000_000_000),
    "candidate_steps": (0, 1_000_000_000),
}


@dataclass(frozen=True)
class ProxyData:
    """A corpus made ready for the proxy task.

    Attributes:
        tokenizer: trained on the training text alone.
        train: sequences to learn from.
        held_out: batches to be judged on, their hidden tokens fixed.
        baseline: accuracy of always predicting the commonest token of the training text.
    """

    tokenizer: Tokenizer
    train: Sequences
    held_out: tuple[MaskedBatch, ...]
    baseline: float

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones included."""
        size: int = self.tokenizer.get_vocab_size()
        return size


def prepare(corpus: Corpus, config: ProxyConfig) -> ProxyData:
    """Train the tokenizer, encode both parts of ``corpus``, hide the held-out tokens."""
    tokenizer = train_tokenizer(corpus.train, config.vocab_size)
    vocab_size = tokenizer.get_vocab_size()
    train_sequences = encode_sequences(tokenizer, corpus.train, config.seq_len)
    held_out = encode_sequences(tokenizer, corpus.held_out, config.seq_len).first(config.held_out_sequences)
    batches = held_out_batches(held_out, config.batch_size, vocab_size, config.held_out_seed)
    return ProxyData(tokenizer, train_sequences, batches, commonest_token_accuracy(train_sequences, batches))


class MaskedLanguageModelEvaluator:
    """Scores a backbone by its accuracy on the hidden tokens of held-out text (`evolution.Evaluator`).

    A candidate inherits from a frozen supernet, is trained by itself, and is judged. The score depends on
    the backbone, the seed, the budget, the supernet and the number of threads; never on what was evaluated
    before.

    Args:
        supernet: warmed up; it is read and never written.
        data: what to learn from and be judged on.
        config: sizes and learning rates.
    """

    def __init__(self, supernet: Supernet, data: ProxyData, config: ProxyConfig) -> None:
        self.supernet = supernet
        self.data = data
        self.config = config

    def train_candidate(self, backbone: Backbone, seed: int, budget: int) -> tuple[nn.Module, TrainingReport]:
        """The model of ``backbone`` after ``budget`` steps, exactly as `evaluate` judges it.

        Raises:
            TrainingDiverged: where a loss is not finite.
            SupernetError: where the backbone does not fit the supernet.
        """
        model = self.supernet.compile(backbone)
        self.supernet.inherit(model)
        recipe = Recipe(learning_rate=self.config.candidate_rate)
        return model, train(model, self.batches(seed), budget, recipe)

    def batches(self, seed: int) -> Iterator[MaskedBatch]:
        """Training batches without end, the same for the same seed."""
        return training_batches(self.data.train, self.config.batch_size, self.data.vocab_size, seed)

    def evaluate(self, backbone: Backbone, seed: int, budget: int) -> Evaluation:
        """Inherit, train ``budget`` steps, and judge.

        Returns:
            The score is the accuracy. The metrics are ``accuracy``, ``loss`` (nats a hidden token),
            ``tokens_per_second`` (of training) and ``parameters``.

        Raises:
            TrainingDiverged: where a loss is not finite.
            SupernetError: where the backbone does not fit the supernet.
        """
        start = time.perf_counter()
        model, report = self.train_candidate(backbone, seed, budget)
        metrics = evaluate_mlm(model, self.data.held_out)
        metrics["tokens_per_second"] = report.tokens_per_second
        metrics["parameters"] = float(sum(math.prod(weight.shape) for weight in model.parameters()))
        return Evaluation(metrics["accuracy"], metrics, time.perf_counter() - start)
