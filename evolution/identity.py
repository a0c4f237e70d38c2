"""When two backbones are the same: by canonical hash, then by what their graphs compute."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

from evolution.candidate import Candidate
from graphir import AttentionGraph, Backbone, ConvLayer, reference


def fingerprint(backbone: Backbone) -> str:
    """A digest of the sizes, kernel sizes and float64 fingerprints of the attention graphs.

    It is equal for backbones whose graphs compute the same on fixed random inputs, also where no rule of the
    canonical form shows it.
    """
    parts = [f"{backbone.hidden_size}/{backbone.heads}/{backbone.ffn_size}"]
    for layer in backbone.layers:
        if isinstance(layer, ConvLayer):
            parts.append(f"conv {layer.kernel_size}")
        else:
            parts.append(f"attention {_graph_fingerprint(layer.graph)}")
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


# A child shares all graphs but one with its parent.
@lru_cache(maxsize=4096)
def _graph_fingerprint(graph: AttentionGraph) -> str:
    return reference.fingerprint(graph)


class SeenBackbones:
    """The identities of a study's candidates, so that no graph is trained twice."""

    def __init__(self, candidates: Iterable[Candidate] = ()) -> None:
        self._hashes: set[str] = set()
        self._fingerprints: set[str] = set()
        for candidate in candidates:
            self.add(candidate.canonical_hash, candidate.fingerprint)

    def add(self, canonical_hash: str, backbone_fingerprint: str) -> None:
        """Remember a candidate."""
        self._hashes.add(canonical_hash)
        self._fingerprints.add(backbone_fingerprint)

    def identify(self, backbone: Backbone) -> tuple[str, str] | None:
        """Canonical hash and fingerprint of ``backbone``; None where either has been seen."""
        canonical_hash = backbone.canonical_hash()
        if canonical_hash in self._hashes:
            return None
        found = fingerprint(backbone)
        return None if found in self._fingerprints else (canonical_hash, found)
