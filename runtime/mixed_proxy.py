"""The proxy of a search as one number: short language modelling, probes, or both."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from evolution import Evaluation, Evaluator, Stop
from evolution.candidate import STOPPED
from graphir import Backbone
from runtime.probe_training import ProbeTraining, train_on_probe
from runtime.probes import Probe, probe
from runtime.proxy import MaskedLanguageModelEvaluator
from runtime.proxy_config import LANGUAGE, MIXES


def make_evaluator(language: MaskedLanguageModelEvaluator) -> Evaluator:
    """The evaluator of the task that the configuration of ``language`` names."""
    names = tasks_of(language.config.task)
    probes = tuple(probe(name) for name in names if name != LANGUAGE)
    return MixedEvaluator(language, probes, LANGUAGE in names) if probes else language


def tasks_of(task: str) -> tuple[str, ...]:
    """The tasks of which a proxy is made.

    Example:
        >>> tasks_of("mix")
        ('mlm', 'recall')
    """
    return MIXES.get(task, (task,))


class MixedEvaluator:
    """Scores a backbone by the mean of its losses on several tasks (`evolution.Evaluator`).

    Each loss is divided by that of ignorance, so that 1 is ignorance in every task: see `mixed_score`. A probe is
    learnt from fresh weights; language modelling starts from the supernet.

    Args:
        language: of the masked language model; its configuration gives steps, rate, device and backend of the probes.
        probes: at least one.
        with_language: whether language modelling is one of the tasks.
    """

    def __init__(
        self, language: MaskedLanguageModelEvaluator, probes: tuple[Probe, ...], with_language: bool
    ) -> None:
        self.language = language
        self.probes = probes
        self.with_language = with_language
        config = language.config
        self.training = ProbeTraining(steps=config.probe_steps, learning_rate=config.probe_rate)

    def evaluate(
        self, backbone: Backbone, seed: int, budget: int, stops: tuple[Stop, ...] = ()
    ) -> Evaluation:
        """Train and judge on each task.

        Stops are those of language modelling: a candidate that is given up there counts as ignorant of the probes.

        Returns:
            The score is the negative mean of the losses, each as a part of ignorance. The metrics are those of the
            masked language model, and ``<probe>_loss`` (nats) and ``<probe>_accuracy`` of each probe.

        Raises:
            TrainingDiverged: where a loss is not finite.
            SupernetError: where the backbone does not fit the supernet.
        """
        start = time.perf_counter()
        metrics: dict[str, float] = {}
        losses: dict[str, float] = {}
        if self.with_language:
            metrics |= self.language.evaluate(backbone, seed, budget, stops).metrics
            losses[LANGUAGE] = metrics["loss"]
        data, backend = self.language.data, self.language.config.backend
        for task in self.probes:
            if STOPPED in metrics:
                losses[task.name] = task.guess_loss
                continue
            found, _ = train_on_probe(backbone, task, seed, self.training, data.train.ids.device, backend)
            metrics |= {f"{task.name}_{name}": value for name, value in found.items()}
            losses[task.name] = found["loss"]
        return Evaluation(mixed_score(losses, data.vocab_size), metrics, time.perf_counter() - start)


def mixed_score(losses: Mapping[str, float], vocab_size: int) -> float:
    """The score of losses, in nats, by task: their negative mean, each as a part of ignorance.

    Ignorance of language is the logarithm of the vocabulary. That of a probe is `Probe.guess_loss`, and no loss counts
    for more: among those that look nothing up, it would be noise (measured, docs/search.md).

    Example:
        >>> mixed_score({"mlm": math.log(1024), "recall": 0.0}, vocab_size=1024)
        -0.5
    """
    parts = [
        loss / math.log(vocab_size) if name == LANGUAGE else min(1.0, loss / probe(name).guess_loss)
        for name, loss in losses.items()
    ]
    return -sum(parts) / len(parts)
