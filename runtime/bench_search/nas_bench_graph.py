"""NAS-Bench-Graph (Qin et al. 2022, Apache-2.0): 26,206 graph neural networks, trained on each of several data sets.

The data lie in the package `nas-bench-graph` of PyPI as pickles. The package is asked which architectures are the same;
its own reader, which runs whatever a pickle says, is not used.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from graphir import InputError
from runtime.bench_search.plain_pickle import read_plain_pickle
from runtime.bench_search.table_space import Architecture, Row, Slot, TableSpace

DATA_SETS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv")
"""Those with all architectures; "proteins" has fewer operations."""
LINKS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
"""Where each of the four computing nodes takes its input from: 0 is the input, 1 the first node, and so on."""
OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
SLOTS = (Slot("link", LINKS), *[Slot("operation", OPERATIONS)] * 4)
HINT = "install it with: pip install nas-bench-graph==1.4.0"


def read_nas_bench_graph(data_set: str) -> TableSpace:
    """The table of a data set: validation accuracy as the score, "parameters" and "latency" as costs.

    Raises:
        InputError: for an unknown data set, where the package is not installed, or its file holds anything else.
    """
    if data_set not in DATA_SETS:
        raise InputError(f"unknown data set {data_set[:40]!r}: there are {', '.join(DATA_SETS)}")
    path = _package_folder() / "light" / f"{data_set}.bench"
    if not path.is_file():
        raise InputError(f"the package nas-bench-graph has no {path.name}: {HINT}")
    spellings, by_hash = _spellings()
    rows = {
        by_hash[number]: _row(entry, data_set)
        for number, entry in read_plain_pickle(path).items()
        if number in by_hash
    }

    def settle(
        architecture: Architecture, rng: Random, others: tuple[Architecture, ...]
    ) -> Architecture | None:
        found = spellings.get(architecture)
        return found if found in rows and found not in others else None

    return TableSpace(data_set, SLOTS, rows, settle, "parameters", _operation_before)


def _operation_before(architecture: Architecture, slot: int) -> str:
    """The operation whose result a computing node takes, or "input"; the links have no neighbour."""
    if slot == 0:
        return ""
    source = int(architecture[0][slot - 1])
    return architecture[source] if source else "input"


def _package_folder() -> Path:
    found = importlib.util.find_spec("nas_bench_graph")
    if found is None or found.origin is None:
        raise InputError(f"the tables need the package nas-bench-graph: {HINT}")
    return Path(found.origin).parent


def _row(entry: Any, data_set: str) -> Row:
    names = ("valid_perf", "para", "latency")
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(name), float) for name in names):
        raise InputError(f"a row of {data_set} lacks numbers {', '.join(names)}: {HINT}")
    return Row(entry["valid_perf"], {"parameters": entry["para"], "latency": entry["latency"]})


@lru_cache(maxsize=1)
def _spellings() -> tuple[dict[Architecture, Architecture], dict[int, Architecture]]:
    """The one spelling of every architecture, and the spelling of every number that the tables know."""
    architecture = importlib.import_module("nas_bench_graph.architecture")
    spellings: dict[Architecture, Architecture] = {}
    by_hash: dict[int, Architecture] = {}
    for link, *operations in product(LINKS, *[OPERATIONS] * 4):
        settled = architecture.Arch([int(source) for source in link], operations).regularize()
        settled.move_skip_op()
        settled.equalpart_sort()
        spelling = ("".join(map(str, settled.link)), *settled.ops)
        if spelling[0] not in LINKS:
            continue
        spellings[link, *operations] = spelling
        by_hash[settled.hash_arch()] = spelling
    return spellings, by_hash
