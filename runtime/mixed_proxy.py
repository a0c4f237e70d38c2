"""The proxy of a search as one number: short language modelling, probes, or both."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from evolution import Evaluation, Evaluator
from graphir import Backbone
from runtime.probe_training import ProbeTraining, train_on_probe
from runtime.probes import Probe, probe
from runtime.proxy import MaskedLanguageModelEvaluator, ProxyData
from runtime.proxy_config import LANGUAGE, MIXES, ProxyConfig
from runtime.supernet import Supernet


def make_evaluator(supernet: Supernet, data: ProxyData, config: ProxyConfig) -> Evaluator:
    """The evaluator that ``config.task`` names."""
    language = MaskedLanguageModelEvaluator(supernet, data, config)
    names = tasks_of(config.task)
    if names == (LANGUAGE,):
        return language
    probes = tuple(probe(name) for name in names if name != LANGUAGE)
    return MixedEvaluator(language if LANGUAGE in names else None, probes, config, data.vocab_size)


def tasks_of(task: str) -> tuple[str, ...]:
    """The tasks of which a proxy is made.

    Example:
        >>> tasks_of("mix")
        ('mlm', 'recall')
    """
    return MIXES.get(task, (task,))


class MixedEvaluator:
    """Scores a backbone by the mean of its losses on several tasks (`evolution.Evaluator`).

    Each loss is divided by that of who knows nothing, ``log`` of the number of answers, so that 1 is ignorance in
    every task. A probe is learnt from fresh weights; language modelling starts from the supernet.

    Args:
        language: of the masked language model; None where the proxy is made of probes alone.
        probes: at least one.
        config: gives steps, rate, device and backend of the probes.
        vocab_size: of the masked language model.
    """

    def __init__(
        self,
        language: MaskedLanguageModelEvaluator | None,
        probes: tuple[Probe, ...],
        config: ProxyConfig,
        vocab_size: int,
    ) -> None:
        self.language = language
        self.probes = probes
        self.config = config
        self.vocab_size = vocab_size
        self.training = ProbeTraining(steps=config.probe_steps, learning_rate=config.probe_rate)

    def evaluate(self, backbone: Backbone, seed: int, budget: int) -> Evaluation:
        """Train and judge on each task.

        Returns:
            The score is the negative mean of the losses, each as a part of ignorance. The metrics are those of the
            masked language model, and ``<probe>_loss`` (nats) and ``<probe>_accuracy`` of each probe.

        Raises:
            TrainingDiverged: where a loss is not finite.
            SupernetError: where the backbone does not fit the supernet.
        """
        start = time.perf_counter()
        metrics: dict[str, float] = {}
        parts = {}
        if self.language is not None:
            metrics |= self.language.evaluate(backbone, seed, budget).metrics
            parts[LANGUAGE] = metrics["loss"]
        device = self.language.data.train.ids.device if self.language is not None else "cpu"
        for task in self.probes:
            found, _ = train_on_probe(backbone, task, seed, self.training, device, self.config.backend)
            metrics |= {f"{task.name}_{name}": value for name, value in found.items()}
            parts[task.name] = found["loss"]
        return Evaluation(mixed_score(parts, self.vocab_size), metrics, time.perf_counter() - start)


def mixed_score(losses: Mapping[str, float], vocab_size: int) -> float:
    """The score of losses, in nats, by task.

    Example:
        >>> mixed_score({"mlm": math.log(1024), "recall": 0.0}, vocab_size=1024)
        -0.5
    """
    ignorance = {
        name: math.log(vocab_size) if name == LANGUAGE else probe(name).chance_loss for name in losses
    }
    return -sum(loss / ignorance[name] for name, loss in losses.items()) / len(losses)
