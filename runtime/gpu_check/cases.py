"""The graphs of a check: every preset, one graph for each class that a search may find, and those of a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphir import AttentionGraph, GraphError, presets
from graphir.files import require_format
from runtime.bench import distinct_graphs

CORPUS_FORMAT = "opnas.corpus/1"

CASES: dict[str, str] = {
    "column-softmax": "softmax(scale(K @ Q.T)).T @ V",
    "softmax-over-tokens": "sigmoid(Q) @ (softmax(K.T) @ V)",
    "two-softmaxes": "softmax(softmax(scale(Q @ K.T)).T) @ V",
    "attention-twice": "softmax(scale(Q @ K.T)) @ (softmax(scale(K @ Q.T)) @ V)",
    "scores-both-ways": "t = scale(Q @ K.T); softmax(t) @ (tanh(t.T) @ V)",
    "product-of-scores": "mul(softmax(scale(Q @ K.T)), sigmoid(scale(K @ Q.T))) @ V",
    "stored-scores": "softsign(softmax(scale(Q @ K.T)) @ logsigmoid(scale(K @ Q.T))) @ V",
    "channel-attention": "V @ softmax(cosine_similarity(Q.T, K.T))",
    "chain-of-products": "scale(scale(Q @ K.T)) @ scale(K @ scale(Q.T @ V))",
    "euclid": "softmax(-euclidean_distance(Q, K)) @ V",
    "softsign-of-cosine": "softsign(cosine_similarity(Q, K)) @ V",
    "sigmoid-attention": "sigmoid(scale(Q @ K.T)) @ V",
    "relu-squared-attention": "relu_squared(scale(Q @ K.T)) @ V",
    "capped-scores": "softmax(tanh(scale(Q @ K.T))) @ V",
    "both-roles": "softmax(scale(softsign(Q) @ softsign(Q + K).T)) @ (Q + K)",
    "normed-and-gated": "mul(softmax(scale(rms_norm(Q) @ rms_norm(K).T)) @ V, sigmoid(Q)) + Q",
}
"""One graph a class, by name: softmax over queries, over the tokens of a D x S value, of a softmax; attention of
attention; one score matrix read both ways; element-wise and matrix products of S x S values; D x D values; chains
that re-associate; distances; attention without a softmax; a change of the scores; one input as query, key and value;
row operations round an attention. All of them keep enough digits in 16 bits to be judged."""


@dataclass(frozen=True)
class Graphs:
    """What is checked.

    Attributes:
        presets: checked and timed first.
        cases: checked and timed after them.
        corpus: checked only.
    """

    presets: tuple[AttentionGraph, ...]
    cases: tuple[AttentionGraph, ...] = ()
    corpus: tuple[AttentionGraph, ...] = ()

    @property
    def all(self) -> tuple[AttentionGraph, ...]:
        """All of them."""
        return self.presets + self.cases + self.corpus


def all_graphs(corpus: Path | None = None) -> Graphs:
    """Every distinct preset, the `CASES`, and the graphs of a corpus file."""
    found = distinct_graphs(["bert/1", *presets.names()])
    return Graphs(found, case_graphs(*CASES), read_corpus(corpus) if corpus else ())


def case_graphs(*names: str) -> tuple[AttentionGraph, ...]:
    """Some of the `CASES`."""
    return tuple(AttentionGraph.from_expression(CASES[name], name=name) for name in names)


def read_corpus(path: Path) -> tuple[AttentionGraph, ...]:
    """The graphs of ``{"format": "opnas.corpus/1", "graphs": [{"classes": [...], "graph": {...}}]}``.

    Each is renamed ``corpus/<number> <classes>``, since a file may use one name for many.

    Raises:
        GraphError: where the file is none, or a graph of it is invalid; the message names it.
        OSError: where it cannot be read.
    """
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GraphError(f"{path.name} is not JSON: {str(error)[:120]}") from None
    require_format(data, CORPUS_FORMAT, "corpus")
    graphs = []
    for number, entry in enumerate(data.get("graphs", [])):
        try:
            classes = " ".join(map(str, entry["classes"]))
            graph = AttentionGraph.from_dict(entry["graph"] | {"name": f"corpus/{number} {classes}"[:60]})
        except (GraphError, KeyError, TypeError) as error:
            raise GraphError(f"graph {number} of {path.name} is invalid: {error}") from None
        graphs.append(graph)
    return tuple(graphs)
