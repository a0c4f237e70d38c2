"""Seeds made from a seed: independent streams of random numbers, each known from its name and numbers alone."""

from __future__ import annotations

import hashlib


def derived_seed(name: str, *numbers: int) -> int:
    """A seed below 2**63 for what ``name`` says; other names or numbers give unrelated ones.

    Example:
        >>> len({derived_seed("mask", 0, 1), derived_seed("mask", 0, 1), derived_seed("mask", 1, 0)})
        2
    """
    text = "/".join([name, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
