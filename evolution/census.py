"""`Census`: what each candidate of a history contains and what was drawn for it, gone through once however it grows.

Priorities are worked out again for every generation, from the whole history. A history only grows, so what was seen of
its candidates is kept as arrays, and a generation adds its own few: the thousandth takes as long as the tenth but for
sums over numbers.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal

import numpy as np

from evolution.candidate import Candidate
from evolution.choices import Choice, ChoiceSpace

Context = Literal["none", "position", "neighbour"]
"""Whether a choice has one priority ("none", as the paper has it) or one at each position or beside each neighbour."""
REMEMBERED = 4
"""So many censuses are kept, the latest ones."""


class Incidence:
    """Which keys belong to which member of a growing sequence.

    Example:
        >>> incidence = Incidence()
        >>> for keys in (["neg", "add"], [], ["add"]):
        ...     incidence.append(keys)
        >>> incidence.sums([1.0, 5.0, 3.0]), incidence.sums([1.0])
        ({'neg': 1.0, 'add': 4.0}, {'neg': 1.0, 'add': 1.0})
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._entries, self._ends = array("q"), array("q")

    def append(self, keys: Iterable[Hashable]) -> None:
        """The next member, with each of its keys as often as it stands there."""
        self._entries.extend(self._numbers.setdefault(key, len(self._numbers)) for key in keys)
        self._ends.append(len(self._entries))

    def sums(self, weights: Sequence[float] | np.ndarray) -> dict[Hashable, float]:
        """By key, the sum of the weights of the first members, in their order; a key that none of them has is left out.

        Args:
            weights: one of each of the first members.
        """
        end = self._ends[len(weights) - 1] if len(weights) else 0
        if not end:
            return {}
        entries = np.frombuffer(self._entries[:end], np.int64)
        counts: np.ndarray = np.diff(np.frombuffer(self._ends[: len(weights)], np.int64), prepend=0)
        each = np.repeat(np.asarray(weights, float), counts)
        sums = np.bincount(entries, weights=each, minlength=len(self._numbers)).tolist()
        seen = np.bincount(entries, minlength=len(self._numbers)).tolist()
        return {
            key: sums[number] for key, number in self._numbers.items() if number < len(seen) and seen[number]
        }


class Census:
    """What is known of the candidates of one history. Made by `census_of`.

    Attributes:
        scores: of all candidates that have one, in order.
        indices: of the same.
        before: by number of candidates, how many of them have a score.
        contained: (family, name) of every choice of the same, once each.
        placed: (family, context, name) of them, where there are contexts.
        drawn: (family, name) of what mutation drew, for all candidates.
    """

    def __init__(self, space: ChoiceSpace, context: Context = "none") -> None:
        self.space, self.context = space, context
        self.history: list[Candidate] = []
        self.scores, self.indices, self.before = array("d"), array("q"), array("q", [0])
        self.contained, self.placed, self.drawn = Incidence(), Incidence(), Incidence()

    def fits(self, history: Sequence[Candidate], space: ChoiceSpace, context: Context) -> bool:
        """Whether this is a census of ``history`` or of its beginning, or of one that it is the beginning of."""
        common = min(len(history), len(self.history))
        same = space == self.space and context == self.context
        return same and self.history[:common] == list(history[:common])

    def append(self, candidate: Candidate) -> None:
        """Count the next candidate."""
        self.drawn.append(() if candidate.mutation is None else candidate.mutation.draws)
        if candidate.score is not None:
            choices: Sequence[Choice] = self.space.choices(candidate.backbone)
            self.contained.append(dict.fromkeys((c.family, c.name) for c in choices))
            if self.context == "position":
                self.placed.append(dict.fromkeys((c.family, c.position, c.name) for c in choices))
            elif self.context == "neighbour":
                self.placed.append(dict.fromkeys((c.family, c.neighbour, c.name) for c in choices))
            self.scores.append(candidate.score)
            self.indices.append(candidate.index)
        self.before.append(len(self.scores))
        self.history.append(candidate)


_censuses: list[Census] = []
_lock = threading.Lock()


def census_of(history: Sequence[Candidate], space: ChoiceSpace, context: Context = "none") -> Census:
    """A census of at least ``history``: what follows its end is cut off by who reads it."""
    with _lock:  # a display looks at the history of a search that goes on
        place = next((i for i, known in enumerate(_censuses) if known.fits(history, space, context)), None)
        # Taken out while it grows: one that was interrupted has counted something by half.
        census = Census(space, context) if place is None else _censuses.pop(place)
        for candidate in history[len(census.history) :]:
            census.append(candidate)
        _censuses.insert(0, census)
        del _censuses[REMEMBERED:]
        return census
