"""The order in which an epoch takes its blocks: a permutation that is computed, not stored.

A Feistel network permutes the numbers below a power of four; a number that it takes out of range is put in again until
it is in range, which permutes the smaller range (cycle walking). Source: Black and Rogaway 2002, "Ciphers with
arbitrary finite domains".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.pretraining.seeds import derived_seed

_ROUNDS = 6
_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)  # of SplitMix64 (Steele et al. 2014), which mixes well


def permuted(positions: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Where a random permutation of ``range(size)`` takes each of ``positions``; time and memory are those of
    ``positions`` alone.

    Example:
        >>> sorted(permuted(np.arange(5), 5, seed=1).tolist())
        [0, 1, 2, 3, 4]
    """
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = [np.uint64(derived_seed("round", seed, number)) for number in range(_ROUNDS)]
    values = _network(positions.astype(np.uint64), half_bits, keys)
    while (outside := values >= size).any():
        values[outside] = _network(values[outside], half_bits, keys)
    return values.astype(np.int64)


def _network(values: NDArray[np.uint64], half_bits: np.uint64, keys: list[np.uint64]) -> NDArray[np.uint64]:
    """A permutation of the numbers below ``4 ** half_bits``."""
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        mixed = (right + key) * _MULTIPLIER  # modulo 2**64
        mixed = (mixed ^ (mixed >> np.uint64(31))) * _MULTIPLIER
        left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
    return (left << half_bits) | right
