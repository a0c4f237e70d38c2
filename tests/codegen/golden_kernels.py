"""The golden files: the kernels that are generated for known graphs, forward and backward, a file a graph.

A change of what is emitted shows as a difference of these files, to be read before it is committed:
``python -m tests.codegen.golden_kernels --write`` writes them anew.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from codegen.triton_program import triton_program
from graphir import AttentionGraph, presets
from graphir.files import write_whole

FOLDER = Path(__file__).with_name("golden")

BESIDE_THE_PRESETS = {
    "distances": "softmax(-euclidean_distance(Q, K)) @ V",
    "distances-of-columns": "Q @ euclidean_distance(K.T, V.T)",
    "column-softmax": "Q @ (softmax(K.T) @ V)",
    "two-softmaxes": "softmax(softmax(scale(Q @ K.T))) @ V",
    "squares": "softsign(softmax(Q @ K.T) @ logsigmoid(K @ Q.T)) @ V",
    "squares-beside-rows": "t = softsign(Q @ V.T); softsign(t @ t + cosine_similarity(K, K)) @ V",
    "state-both-ways-round": "cosine_similarity(Q, logsigmoid(K.T @ Q))",
}
"""What no preset has: distances, sums over all tokens of each kind, two loops, stored S x S values."""


def graphs() -> Iterator[tuple[str, AttentionGraph]]:
    """The graphs, by the names of their files; presets that are one graph have one file."""
    seen = set()
    for name in presets.names():
        graph = presets.get(name)
        if isinstance(graph, AttentionGraph) and graph.equation() not in seen:
            seen.add(graph.equation())
            yield name.replace("/", "-"), graph
    for name, text in BESIDE_THE_PRESETS.items():
        yield name, AttentionGraph.from_expression(text)


def kernels(graph: AttentionGraph) -> str:
    """The text of a graph's kernels, in the order of their launch."""
    source = triton_program(graph).source
    lines = source.splitlines()
    found = [f"# {graph.equation()}"]
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_kernel"):
            first = min(each.lineno for each in (node, *node.decorator_list))
            found += ["", "", *lines[first - 1 : node.end_lineno]]
    return "\n".join([*found, ""])


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python -m tests.codegen.golden_kernels --write: writes the golden files anew")
    texts = {name: kernels(graph) for name, graph in graphs()}
    for path in FOLDER.glob("*.txt"):
        if path.stem not in texts:
            path.unlink()
    for name, text in texts.items():
        write_whole(FOLDER / f"{name}.txt", text.encode())
