"""What is trained for one backbone of a calibration: long, and as each proxy does. Numbers ready for JSON."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from graphir import Backbone
from runtime.corpus import load_corpus
from runtime.language_training import train_on_language
from runtime.masking import training_batches
from runtime.probe_training import ProbeTraining, train_on_probe
from runtime.probes import probe
from runtime.proxy import MaskedLanguageModelEvaluator, ProxyData, prepare
from runtime.proxy_config import ProxyConfig
from runtime.supernet import Supernet, warm_up
from runtime.training import Recipe, TrainingDiverged

LONG_SEED, PROXY_SEED = 1, 0
"""Long trainings draw other batches and other weights than proxies: what agrees is the backbone alone."""
FRESH_RATE = 3e-3
"""Highest learning rate from fresh weights: what the supernet has."""
DIVERGED = 1e9
"""Stands for the loss of a training that diverged, so that it ranks last."""


def warm_supernet(
    folder: Path, corpus: str | None, space: dict[str, Any], proxy: dict[str, Any]
) -> dict[str, Any]:
    """Warm a supernet up as a search does; it lies in ``folder`` afterwards."""
    from evolution import SearchSpace

    config, wanted = ProxyConfig.from_dict(proxy), SearchSpace.from_dict(space)
    data = _data(corpus, proxy)
    supernet = Supernet.create(wanted, data.vocab_size, config.seq_len, PROXY_SEED)
    batches = training_batches(data.train, config.batch_size, data.vocab_size, PROXY_SEED + 1)
    recipe = Recipe(learning_rate=config.warm_up_rate)
    losses = warm_up(supernet, wanted, batches, config.warm_up_steps, PROXY_SEED + 1, recipe=recipe)
    folder.mkdir(parents=True)
    supernet.save(folder / "supernet.safetensors")
    return {"loss": losses[-1]}


def ask_proxies(
    folder: Path,
    backbone: dict[str, Any],
    corpus: str | None,
    proxy: dict[str, Any],
    supernet: str,
    probes: list[str],
) -> dict[str, Any]:
    """The losses of a backbone by each proxy: from inherited weights, from its own, and on probes."""
    config, found = ProxyConfig.from_dict(proxy), Backbone.from_dict(backbone)
    data = _data(corpus, proxy)
    evaluator = MaskedLanguageModelEvaluator(Supernet.load(supernet), data, config)
    inherited = _or_diverged(lambda: -evaluator.evaluate(found, PROXY_SEED, config.candidate_steps).score)
    own = _language(found, data, config.batch_size, config.candidate_steps, PROXY_SEED)
    training = ProbeTraining(steps=config.probe_steps, learning_rate=config.probe_rate)
    losses = {
        name: _or_diverged(
            lambda name=name: train_on_probe(found, probe(name), PROXY_SEED, training)[0]["loss"]
        )
        for name in probes
    }
    return {"inherited": inherited, "own": own["loss"], "probes": losses}


def train_long(
    folder: Path,
    backbone: dict[str, Any],
    corpus: str | None,
    proxy: dict[str, Any],
    steps: int,
    batch_size: int,
    probe_steps: int,
) -> dict[str, Any]:
    """Long training from fresh weights on text, and on recall."""
    found = Backbone.from_dict(backbone)
    data = _data(corpus, proxy)
    language = _language(found, data, batch_size, steps, LONG_SEED)
    recall: dict[str, float] = {"loss": DIVERGED, "accuracy": 0.0}
    with suppress(TrainingDiverged):
        recall, _ = train_on_probe(found, probe("recall"), LONG_SEED, ProbeTraining(steps=probe_steps))
    return {"mlm": language, "recall": recall}


_DATA: dict[str, ProxyData] = {}
"""What a process has prepared: all its jobs are of one calibration."""


def _data(corpus: str | None, proxy: dict[str, Any]) -> ProxyData:
    key = f"{corpus} {proxy}"
    if key not in _DATA:
        _DATA.clear()
        _DATA[key] = prepare(load_corpus(corpus), ProxyConfig.from_dict(proxy))
    return _DATA[key]


def _language(
    backbone: Backbone, data: ProxyData, batch_size: int, steps: int, seed: int
) -> dict[str, float]:
    """Held-out loss and accuracy after training from fresh weights."""
    try:
        return train_on_language(backbone, data, steps, batch_size, seed, FRESH_RATE)
    except TrainingDiverged:
        return {"loss": DIVERGED, "accuracy": 0.0}


def _or_diverged(loss: Any) -> float:
    try:
        return float(loss())
    except TrainingDiverged:
        return DIVERGED
