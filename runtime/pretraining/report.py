"""What a pretraining did, as an object and as the file ``pretraining.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphir.files import write_json
from runtime.machine import installed_versions
from runtime.pretraining.checkpoint import Progress
from runtime.pretraining.settings import Pretraining
from runtime.run import RunError

REPORT_FORMAT = "opnas.pretraining/1"
REPORT_FILE = "pretraining.json"
_PACKAGES = ("opnas", "torch", "transformers", "tokenizers", "accelerate", "safetensors", "numpy")


@dataclass(frozen=True)
class PretrainingReport:
    """What a pretraining did.

    Attributes:
        folder: where the model is; the Auto classes of transformers load it.
        settings: what was asked for.
        losses: of each step: mean cross-entropy at the hidden tokens, in nats.
        evaluations: on held-out text: ``steps`` done, ``loss`` and ``accuracy``; the last one is of the
            model in ``folder``.
        tokens: learnt from.
        seconds: of learning, without evaluations, checkpoints and interruptions.
        parameters: of the model.
    """

    folder: Path
    settings: Pretraining
    losses: tuple[float, ...]
    evaluations: tuple[Mapping[str, float], ...]
    tokens: int
    seconds: float
    parameters: int

    @property
    def held_out(self) -> dict[str, float] | None:
        """Loss and accuracy of the model in the end; None where no text was held out."""
        if not self.evaluations:
            return None
        return {name: self.evaluations[-1][name] for name in ("loss", "accuracy")}

    @property
    def tokens_per_second(self) -> float:
        """Forward, backward and update."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def make_report(
    folder: Path, settings: Pretraining, progress: Progress, parameters: int
) -> PretrainingReport:
    """The report of a pretraining that has come to its end."""
    return PretrainingReport(
        folder,
        settings,
        tuple(progress.losses),
        tuple(progress.evaluations),
        progress.tokens,
        progress.seconds,
        parameters,
    )


def write_report(report: PretrainingReport, plan: Mapping[str, Any], device: str, path: Path) -> None:
    """Write ``pretraining.json``: the report, what was asked for, and the versions of what carried it out."""
    data = {
        "format": REPORT_FORMAT,
        "plan": dict(plan),
        "held_out": report.held_out,
        "parameters": report.parameters,
        "tokens": report.tokens,
        "seconds": report.seconds,
        "device": device,
        "versions": installed_versions(_PACKAGES),
        "evaluations": list(report.evaluations),
        "losses": list(report.losses),
    }
    write_json(path, data)


def read_report(folder: Path) -> tuple[PretrainingReport, dict[str, Any]]:
    """What `write_report` wrote into ``folder``, and its plan.

    Raises:
        RunError: where it cannot be read.
    """
    path = folder / REPORT_FILE
    try:
        data = json.loads(path.read_bytes())
        if data["format"] != REPORT_FORMAT:
            raise ValueError(f"unknown format {str(data['format'])[:60]!r}")
        report = PretrainingReport(
            folder,
            Pretraining.from_dict(data["plan"]["settings"]),
            tuple(map(float, data["losses"])),
            tuple(data["evaluations"]),
            int(data["tokens"]),
            float(data["seconds"]),
            int(data["parameters"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {str(error)[:200]}") from None
    return report, data["plan"]
