"""The closing comparison of a search: its winner, a stack of convolutions and BERT, trained alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphir import Backbone
from graphir.files import write_json
from runtime.calibration.backbones import known_backbones
from runtime.corpus import load_corpus
from runtime.jobs import Job, carry_out
from runtime.language_training import train_on_language
from runtime.mixed_proxy import mixed_score, tasks_of
from runtime.probe_training import ProbeTraining, train_on_probe
from runtime.probes import probe
from runtime.progress import describe
from runtime.proxy import prepare
from runtime.proxy_config import LANGUAGE, ProxyConfig
from runtime.run import Run
from runtime.training import TrainingDiverged

COMPARISON = "comparison.json"
"""In the folder of a run: what `compare` returned."""
RIVALS = ("convolutions", "bert")
"""What the winner is compared with, where the space has it (`runtime.calibration.backbones`)."""
SEED_OFFSET = 2
"""The comparison draws from the seed of the search plus this, so not what the search has seen."""


@dataclass(frozen=True)
class Rank:
    """One backbone of the comparison.

    Attributes:
        name: ``winner`` or one of `RIVALS`.
        score: as the search scores, from fresh weights; None where training diverged.
        metrics: ``loss`` and ``accuracy`` of language modelling, ``<probe>_accuracy`` of probes.
        layers: for people.
    """

    name: str
    score: float | None
    metrics: dict[str, float]
    layers: str


def compare(
    run: Run, winner: Backbone, steps: int, workers: int, tell: Callable[[str], None]
) -> tuple[Rank, ...]:
    """Train winner and rivals from fresh weights, equally; best first. What was done before is read.

    Args:
        run: of the search; the result is kept in its folder.
        winner: its best backbone.
        steps: of language modelling; probes have the steps of the proxy.
        workers: processes, one thread each; 0 works in this one.
        tell: told of each that is done.
    """
    finished = finished_comparison(run, winner)
    if finished is not None:
        return finished
    known = known_backbones(run.config.space)
    rivals = {"winner": winner, **{name: known[name] for name in RIVALS if name in known}}
    corpus = None if run.corpus_path is None else str(run.corpus_path)
    seed = run.config.seed + SEED_OFFSET
    jobs = {
        name: Job(
            f"{winner.canonical_hash()[:16]}/{name}",
            train_alike,
            {
                "backbone": b.to_dict(),
                "corpus": corpus,
                "proxy": run.config.proxy.to_dict(),
                "steps": steps,
                "seed": seed,
            },
        )
        for name, b in rivals.items()
    }
    done = carry_out(list(jobs.values()), run.folder / "comparison", workers, tell)
    ranks = [
        Rank(name, done[job.key]["score"], done[job.key]["metrics"], describe(rivals[name]))
        for name, job in jobs.items()
    ]
    ranks.sort(key=lambda rank: (rank.score is None, -(rank.score or 0.0)))
    write_json(
        run.folder / COMPARISON,
        {"winner": winner.canonical_hash(), "steps": steps, "ranks": [asdict(rank) for rank in ranks]},
    )
    return tuple(ranks)


def finished_comparison(run: Run, winner: Backbone) -> tuple[Rank, ...] | None:
    """What `compare` would read; None where it would train."""
    saved = read_comparison(run.folder / COMPARISON)
    return saved[0] if saved is not None and saved[1] == winner.canonical_hash() else None


def read_comparison(file: Path) -> tuple[tuple[Rank, ...], str] | None:
    """What `compare` wrote, and the hash of the winner that it is about; None where there is nothing to read."""
    try:
        data = json.loads(file.read_bytes())
        return tuple(Rank(**rank) for rank in data["ranks"]), str(data["winner"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def train_alike(
    folder: Path, backbone: dict[str, Any], corpus: str | None, proxy: dict[str, Any], steps: int, seed: int
) -> dict[str, Any]:
    """Score and metrics of a backbone after ``steps`` of language modelling and a training on each probe."""
    config, found = ProxyConfig.from_dict(proxy), Backbone.from_dict(backbone)
    tasks = tasks_of(config.task)
    data = prepare(load_corpus(corpus), config)
    device = data.train.ids.device
    try:
        metrics = train_on_language(
            found, data, steps, config.batch_size, seed, config.warm_up_rate, config.backend
        )
        losses = {LANGUAGE: metrics["loss"]}
        training = ProbeTraining(steps=config.probe_steps, learning_rate=config.probe_rate)
        for name in tasks:
            if name != LANGUAGE:
                judged, _ = train_on_probe(found, probe(name), seed, training, device, config.backend)
                losses[name] = judged["loss"]
                metrics[f"{name}_accuracy"] = judged["accuracy"]
    except TrainingDiverged:
        return {"score": None, "metrics": {}}
    return {"score": mixed_score({name: losses[name] for name in tasks}, data.vocab_size), "metrics": metrics}
