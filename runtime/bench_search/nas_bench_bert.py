"""NAS-Bench-BERT (A. Serianni and J. Kalita, CC BY 4.0): 500 backbones, pretrained and fine-tuned on GLUE.

The size decides most of the score, so one stratum is looked at: hidden size 256 and four layers, 133 backbones. They
are a thin sample of their space: what a mutation asks for is never in it. The row that differs in the fewest slots
stands for it (one of those at random where several do), which leaves little of a neighbourhood. A replay here tells
whether a strategy does harm more than which is best.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from operator import ne
from pathlib import Path
from random import Random
from typing import Any

from graphir import InputError
from runtime.bench_search.table_space import Architecture, Row, Slot, TableSpace

HIDDEN_SIZE, LAYERS = 256, 4
MAX_BYTES = 64_000_000
FIELDS = {
    "operation": ("operation_type", "operation_parameter"),
    "heads": ("num_operation_heads",),
    "feed_forward_size": ("feed_forward_dimension",),
    "feed_forward_blocks": ("num_feed_forward",),
}
"""What is chosen in a layer, and the fields of the file that say it."""


def read_nas_bench_bert(path: str | Path) -> TableSpace:
    """The stratum as a table: the GLUE average as the score, "training_seconds" as the cost.

    Raises:
        InputError: where the file is not that of the benchmark; the message names the entry.
        OSError: where it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    try:
        entries = json.loads(raw[:MAX_BYTES])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} is not the JSON of NAS-Bench-BERT: {str(error)[:120]}") from None
    if not isinstance(entries, list):
        raise InputError(f"{path.name} must hold a list of backbones, as BERT_benchmark.json does")
    rows: dict[Architecture, Row] = {}
    for number, entry in enumerate(entries):
        try:
            found = _row(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path.name}: entry {number} is no trained backbone: {error!r:.120}") from None
        if found is not None:
            rows[found[0]] = found[1]
    if len(rows) < 3:
        raise InputError(
            f"{path.name} has {len(rows)} backbones of hidden size {HIDDEN_SIZE}, {LAYERS} layers"
        )
    families = [family for _ in range(LAYERS) for family in FIELDS]
    options: dict[str, Counter[str]] = {}
    for architecture in rows:
        for family, name in zip(families, architecture, strict=True):
            options.setdefault(family, Counter())[name] += 1
    slots = tuple(Slot(family, tuple(sorted(options[family]))) for family in families)
    return TableSpace("nas-bench-bert", slots, rows, _Nearest(tuple(rows)), "training_seconds", _layer_before)


def _row(entry: Mapping[str, Any]) -> tuple[Architecture, Row] | None:
    """An entry of the stratum; None for another."""
    overrides = entry["hparams"]["model_hparam_overrides"]
    layers = overrides["nas_config"]["encoder_layers"]
    if overrides["hidden_size"] != HIDDEN_SIZE or len(layers) != LAYERS or not entry["completed"]:
        return None
    architecture = tuple(
        " ".join(str(layer[field]) for field in names) for layer in layers for names in FIELDS.values()
    )
    cost = {"training_seconds": float(entry["time_to_train"])}
    return architecture, Row(float(entry["scores"]["glue"]), cost)


def _layer_before(architecture: Architecture, slot: int) -> str:
    """What the same family is in the layer before; "input" in the first."""
    return architecture[slot - len(FIELDS)] if slot >= len(FIELDS) else "input"


class _Nearest:
    """The row that differs from an architecture in the fewest slots."""

    def __init__(self, rows: tuple[Architecture, ...]) -> None:
        self.rows = rows
        self.known: dict[tuple[Architecture, tuple[Architecture, ...]], list[Architecture]] = {}

    def __call__(
        self, architecture: Architecture, rng: Random, others: tuple[Architecture, ...]
    ) -> Architecture | None:
        key = architecture, others
        if key not in self.known:
            left = [row for row in self.rows if row not in others]
            differences = [sum(map(ne, row, architecture)) for row in left]
            least = min(differences)
            self.known[key] = [row for row, n in zip(left, differences, strict=True) if n == least]
        return rng.choice(self.known[key])
