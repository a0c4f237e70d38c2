"""Checkpoints: folders that are whole or not there, of safetensors and JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file

from graphir.files import write_json
from runtime.pretraining.update import Update
from runtime.run import new_folder
from runtime.weights import save_weights

KEPT = 2
"""The newest, and one more in case that it cannot be read."""

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass
class Progress:
    """How far a pretraining is. Random numbers are no part of it: those of a step are made from its number.

    Attributes:
        losses: of each step that is done. JSON keeps a float exactly.
        evaluations: on held-out text, each with the number of ``steps`` done, ``loss`` and ``accuracy``.
        tokens: learnt from.
        seconds: taken, interruptions left out.
        scaler: state of the scale of the loss, with float16.
    """

    losses: list[float] = field(default_factory=list)
    evaluations: list[dict[str, float]] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many are done."""
        return len(self.losses)


def write_checkpoint(folder: Path, update: Update, progress: Progress) -> None:
    """Write ``checkpoint-<steps>`` below ``folder``, then remove all but the newest `KEPT`.

    Raises:
        OSError: where it cannot be written; older ones are still there.
    """
    with new_folder(folder / f"checkpoint-{progress.steps}", replace_old=True) as temporary:
        save_weights(update.model.state_dict(), temporary / "model.safetensors")
        save_weights(update.moments(), temporary / "optimizer.safetensors")
        write_json(temporary / "progress.json", asdict(progress))
        for path in temporary.iterdir():
            _to_disk(path)
    for old in checkpoints(folder)[KEPT:]:
        shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints below ``folder``, the newest first."""
    found = {path: _NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*")}
    return sorted((path for path, match in found.items() if match), key=lambda path: -int(path.name[11:]))


def restore_newest(folder: Path, update: Update) -> tuple[Progress, list[str]]:
    """Put ``update`` where the newest checkpoint that can be read was.

    Returns:
        How far that was; and what is wrong with checkpoints that cannot be read.
    """
    complaints = []
    for path in checkpoints(folder):
        try:
            progress = Progress(**json.loads((path / "progress.json").read_bytes()))
            weights, moments = (load_file(path / f"{name}.safetensors") for name in ("model", "optimizer"))
            update.restore(weights, moments)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            complaints.append(f"{path.name} cannot be read ({str(error)[:100]}); the one before it is taken")
            continue
        return progress, complaints
    return Progress(), complaints


def _to_disk(path: Path) -> None:
    """Wait until a file is on the disk: a folder must not get its name before what is in it, should power fail."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
