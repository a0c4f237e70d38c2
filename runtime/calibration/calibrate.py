"""`calibrate`: train backbones long, ask every proxy about them, and say how well each ranks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evolution import SearchSpace
from graphir import Backbone, InputError
from graphir.checks import check_whole
from graphir.files import write_json
from runtime.calibration.agreement import Agreement, agreement
from runtime.calibration.backbones import backbones_to_calibrate
from runtime.calibration.work import ask_proxies, train_long, warm_supernet
from runtime.corpus import load_corpus
from runtime.jobs import Job, carry_out
from runtime.machine import installed_versions
from runtime.mixed_proxy import mixed_score, tasks_of
from runtime.probes import PROBES
from runtime.proxy_config import LANGUAGE, MIXES, PROXY_SPACE, ProxyConfig

Tell = Callable[[str], None]
TARGETS = (*MIXES, LANGUAGE, "recall")
"""What long training may be judged by; the first is what a search wants by default."""
PARAMETERS = "parameters"
RANDOM_GRAPHS = replace(PROXY_SPACE, plain_probability=0.0)


@dataclass(frozen=True)
class Calibration:
    """What is trained.

    Attributes:
        backbones: how many, the known ones (`runtime.calibration.backbones`) included.
        steps: of a long training on text, from fresh weights.
        batch_size: sequences of such a step.
        probe_steps: of a long training on recall, from fresh weights.
        seed: of the random backbones.
        space: where they are drawn from; by default that of the default search, with random graphs alone.
        proxy: the proxy that is calibrated.
        corpus: text file; None for Python's own documentation.
    """

    backbones: int = 24
    steps: int = 3000
    batch_size: int = 16
    probe_steps: int = 600
    seed: int = 0
    space: SearchSpace = RANDOM_GRAPHS
    proxy: ProxyConfig = field(default_factory=ProxyConfig)
    corpus: str | None = None

    def __post_init__(self) -> None:
        for name, low in (("backbones", 3), ("steps", 1), ("batch_size", 1), ("probe_steps", 1), ("seed", 0)):
            check_whole(getattr(self, name), name, low, 2**31)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "space": self.space.to_dict(), "proxy": self.proxy.to_dict()}


def calibrate(
    out: Path, calibration: Calibration | None = None, workers: int = 2, tell: Tell = lambda line: None
) -> dict[str, Any]:
    """Train, ask, compare; ``out/calibration.json`` holds what is returned.

    What was finished when it was stopped is not done again. Each backbone has one thread.

    Args:
        out: folder of the numbers, a file a backbone.
        calibration: what is trained.
        workers: processes; 0 works in this one.
        tell: told of each result.

    Returns:
        ``settings``, ``agreement`` (a row a proxy and target) and ``backbones`` (all numbers), see `agreements`.

    Raises:
        InputError: where ``out`` was begun with other settings.
    """
    wanted = calibration or Calibration()
    settings = _settle(out, wanted)
    corpus = load_corpus(wanted.corpus)  # a file that is missing is told before anything is trained
    tell(f"corpus {corpus.name}: {len(corpus.train):,} paragraphs to learn from")
    shared = {"corpus": wanted.corpus, "proxy": wanted.proxy.to_dict()}
    backbones = backbones_to_calibrate(wanted.space, wanted.backbones, wanted.seed)
    supernet = Job("supernet", warm_supernet, {**shared, "space": wanted.space.to_dict()})
    long = {
        backbone.name: Job(
            f"long/{backbone.name}",
            train_long,
            {
                **shared,
                "backbone": backbone.to_dict(),
                "steps": wanted.steps,
                "batch_size": wanted.batch_size,
                "probe_steps": wanted.probe_steps,
            },
        )
        for backbone in backbones
    }
    done = carry_out([supernet, *long.values()], out, workers, tell)
    asked = {
        backbone.name: Job(
            f"proxies/{backbone.name}",
            ask_proxies,
            {
                **shared,
                "backbone": backbone.to_dict(),
                "supernet": str(out / "supernet" / "supernet.safetensors"),
                "probes": list(PROBES),
            },
        )
        for backbone in backbones
    }
    done |= carry_out(list(asked.values()), out, workers, tell)
    rows = [_row(b, done[asked[b.name].key], done[long[b.name].key]) for b in backbones]
    vocab_size = wanted.proxy.vocab_size
    results = {
        "settings": settings,
        "versions": installed_versions(("torch",)),
        "core_minutes": sum(result["seconds"] for result in done.values()) / 60,
        "agreement": agreements(rows, vocab_size, wanted.proxy.task),
        "backbones": rows,
    }
    write_json(out / "calibration.json", results)
    return results


def agreements(rows: Sequence[Mapping[str, Any]], vocab_size: int, task: str) -> list[dict[str, Any]]:
    """Kendall's tau of every proxy with long training, by target, the default proxy first.

    Args:
        rows: of each backbone the losses of the proxies and of long training.
        vocab_size: what the losses of language modelling are a part of.
        task: the proxy that is the search's own.
    """
    proxies = proxy_scores(rows, vocab_size)
    proxies = {task: proxies.pop(task), **proxies}
    found = []
    for target in TARGETS:
        long = [
            mixed_score({name: row["long"][name]["loss"] for name in tasks_of(target)}, vocab_size)
            for row in rows
        ]
        for name, scores in proxies.items():
            tau: Agreement = agreement(scores, long)
            found.append({"long training": target, "proxy": name, **tau._asdict()})
    return found


def proxy_scores(rows: Sequence[Mapping[str, Any]], vocab_size: int) -> dict[str, list[float]]:
    """The scores of the backbones by every proxy, and their parameters (more counts as better)."""
    losses = [{LANGUAGE: row["inherited"], **row["probes"]} for row in rows]
    names = (*MIXES, LANGUAGE, *PROBES)
    found = {
        name: [mixed_score({task: loss[task] for task in tasks_of(name)}, vocab_size) for loss in losses]
        for name in names
    }
    found["mlm, own weights"] = [-row["own"] for row in rows]
    found["mix, own weights"] = [
        mixed_score({LANGUAGE: row["own"], "recall": row["probes"]["recall"]}, vocab_size) for row in rows
    ]
    found[PARAMETERS] = [float(row["parameters"]) for row in rows]
    return found


def _row(backbone: Backbone, asked: Mapping[str, Any], long: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "layers": [
            f"conv {layer.kernel_size}" if layer.kind == "conv" else layer.graph.equation()
            for layer in backbone.layers
        ],
        "parameters": backbone.cost().parameters,
        "inherited": asked["inherited"],
        "own": asked["own"],
        "probes": asked["probes"],
        "long": {name: long[name] for name in (LANGUAGE, "recall")},
    }


def _settle(out: Path, wanted: Calibration) -> dict[str, Any]:
    """Numbers of other settings must not be taken for those that are asked for."""
    settings: dict[str, Any] = json.loads(json.dumps(wanted.to_dict()))
    del settings["proxy"]["task"]  # every proxy is asked anyway
    file = out / "settings.json"
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)
    found = json.loads(file.read_text(encoding="utf-8"))
    different = [name for name in settings if found.get(name) != settings[name]]
    if different:
        raise InputError(f"{out} was begun with another {different[0]}: choose another folder")
    return settings
