"""The proxy task of a search: short masked language modelling with weights from a supernet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import nn

from evolution import Evaluation, Stop
from graphir import Backbone
from runtime.candidate_costs import candidate_costs
from runtime.corpus import Corpus
from runtime.masking import MaskedBatch, commonest_token_accuracy, held_out_batches, training_batches
from runtime.proxy_config import PROXY_SPACE, ProxyConfig
from runtime.run import RunError
from runtime.rung_judge import RungJudge
from runtime.supernet import Supernet
from runtime.tokenizer import Sequences, encode_sequences, train_tokenizer
from runtime.training import Recipe, TrainingReport, evaluate_mlm, train

__all__ = ["PROXY_SPACE", "MaskedLanguageModelEvaluator", "ProxyConfig", "ProxyData", "prepare"]


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
    """Train the tokenizer, encode both parts of ``corpus``, hide the held-out tokens; all on ``config.device``.

    Raises:
        RunError: where there is no such device.
    """
    device = find_device(config.device)
    tokenizer = train_tokenizer(corpus.train, config.vocab_size)
    vocab_size = tokenizer.get_vocab_size()
    train_sequences = encode_sequences(tokenizer, corpus.train, config.seq_len).to(device)
    held_out = encode_sequences(tokenizer, corpus.held_out, config.seq_len).first(config.held_out_sequences)
    batches = held_out_batches(held_out.to(device), config.batch_size, vocab_size, config.held_out_seed)
    return ProxyData(tokenizer, train_sequences, batches, commonest_token_accuracy(train_sequences, batches))


def find_device(name: str) -> torch.device:
    """The device that a configuration names; ``auto`` is a GPU where there is one.

    Raises:
        RunError: where there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise RunError(f"the device {name!r} cannot be used: {str(error).splitlines()[0][:200]}") from None


class MaskedLanguageModelEvaluator:
    """Scores a backbone by its loss on the hidden tokens of held-out text (`evolution.Evaluator`).

    The loss, not the accuracy: it ranks candidates much more like training from scratch does (docs/log.md). A
    candidate inherits from a frozen supernet, is trained by itself, and is judged. The score depends on
    the backbone, the seed, the budget, the supernet and the number of threads; never on what was evaluated
    before.

    Args:
        supernet: warmed up; it is read and never written. Candidates take its device and backend.
        data: what to learn from and be judged on.
        config: sizes and learning rates.
    """

    def __init__(self, supernet: Supernet, data: ProxyData, config: ProxyConfig) -> None:
        self.supernet = supernet
        self.data = data
        self.config = config

    def train_candidate(
        self, backbone: Backbone, seed: int, budget: int, judge: RungJudge | None = None
    ) -> tuple[nn.Module, TrainingReport]:
        """The model of ``backbone`` after ``budget`` steps, exactly as `evaluate` judges it.

        Raises:
            TrainingDiverged: where a loss is not finite.
            SupernetError: where the backbone does not fit the supernet.
        """
        model = self.supernet.compile(backbone)
        recipe = Recipe(learning_rate=self.config.candidate_rate)
        ends = None if judge is None else judge.of(model)
        return model, train(model, self.batches(seed), budget, recipe, ends)

    def batches(self, seed: int) -> Iterator[MaskedBatch]:
        """Training batches without end, the same for the same seed."""
        return training_batches(self.data.train, self.config.batch_size, self.data.vocab_size, seed)

    def evaluate(
        self, backbone: Backbone, seed: int, budget: int, stops: tuple[Stop, ...] = ()
    ) -> Evaluation:
        """Inherit, train ``budget`` steps or to a stop, and judge.

        Returns:
            The score is the negative loss. The metrics are ``accuracy``, ``loss`` (nats a hidden token),
            ``tokens_per_second`` (of training, and judging at stops), ``parameters``, and those of
            `runtime.candidate_costs`; with ``stops`` also those of `RungJudge`.

        Raises:
            TrainingDiverged: where a loss is not finite.
            SupernetError: where the backbone does not fit the supernet.
        """
        start = time.perf_counter()
        judge = RungJudge(stops, self.data.held_out)
        model, report = self.train_candidate(backbone, seed, budget, judge)
        metrics = judge.ended or evaluate_mlm(model, self.data.held_out)
        metrics = metrics | judge.metrics
        metrics["tokens_per_second"] = report.tokens_per_second
        metrics["parameters"] = float(sum(math.prod(weight.shape) for weight in model.parameters()))
        metrics |= candidate_costs(backbone, model, self.data.held_out[0], self.config)
        return Evaluation(-metrics["loss"], metrics, time.perf_counter() - start)
