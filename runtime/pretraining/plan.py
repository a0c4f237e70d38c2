"""What a pretraining was asked for, as its folder keeps it: only who asks for the same may go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from graphir.checks import excerpt
from runtime.pretraining.settings import FREE_SETTINGS, Pretraining
from runtime.pretraining.starting_point import StartingPoint
from runtime.pretraining.text_source import TextSource
from runtime.pretraining.tokenised_text import tokenizer_digest
from runtime.run import RunError

_OTHER = {
    "backbone": "another backbone",
    "weights": "other weights",
    "text": "another text",
    "held_out": "another held-out text",
    "tokenizer": "another tokenizer",
    "processes": "another number of processes",
}


def make_plan(
    settings: Pretraining,
    start: StartingPoint,
    text: TextSource,
    held_out: TextSource | None,
    tokenizer: Tokenizer | int,
    processes: int,
) -> dict[str, Any]:
    """All that the weights in the end depend on, ready for JSON."""
    plan = {
        "settings": settings.to_dict(),
        "backbone": start.backbone.to_dict(),
        "weights": start.digest,
        "text": text.identity,
        "held_out": None if held_out is None else held_out.identity,
        "tokenizer": tokenizer if isinstance(tokenizer, int) else tokenizer_digest(tokenizer),
        "processes": processes,
    }
    normal: dict[str, Any] = json.loads(json.dumps(plan))  # as it is when it is read again
    return normal


def refuse_other_plan(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a pretraining under a plan that is not the one that it began with.

    Raises:
        RunError: naming the first setting, or what else, is another one.
    """
    advice = "go on with what it began with, or choose another --out"
    old, new = before.get("settings", {}), now["settings"]
    for name in (name for name in new if name not in FREE_SETTINGS):
        if old.get(name) != new[name]:
            raise RunError(
                f"{folder} was begun with {name} {excerpt(old.get(name))}, not {excerpt(new[name])}: {advice}"
            )
    for name, what in _OTHER.items():
        if before.get(name) != now[name]:
            raise RunError(f"{folder} was begun with {what}: {advice}")
