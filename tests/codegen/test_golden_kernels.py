"""The generated kernels are those of the golden files."""

from __future__ import annotations

import pytest

from tests.codegen.golden_kernels import FOLDER, graphs, kernels

GRAPHS = dict(graphs())


@pytest.mark.parametrize("name", GRAPHS)
def test_the_kernels_of_a_graph_are_those_of_its_golden_file(name):
    golden = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert kernels(GRAPHS[name]) == golden, (
        "what is emitted has changed: python -m tests.codegen.golden_kernels --write, then read the difference"
    )


def test_there_is_no_golden_file_that_no_graph_writes():
    assert {path.stem for path in FOLDER.glob("*")} == set(GRAPHS)
