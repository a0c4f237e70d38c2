"""Probe tasks: small synthetic texts whose hidden tokens can be told only by looking things up by content.

Sources of the tasks: Poli et al. 2024, "Mechanistic design and scaling of hybrid architectures" (arXiv 2403.17844),
who choose architectures by the like; Arora et al. 2023 (arXiv 2312.04927) on recall with many queries. Here they have
the form of masked language modelling: what is to be told stands hidden among the rest, before or behind what tells it.
`python -m runtime.probe_table` shows what solves them and what does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from graphir import InputError
from graphir.validation import nearest
from runtime.masking import IGNORED, MaskedBatch
from runtime.special_tokens import MASK, SPECIAL_TOKENS

BLANK = len(SPECIAL_TOKENS)
"""What stands between things, and says nothing."""
FIRST = BLANK + 1
_GUESSES = 2048
"""Sequences that the loss of a guess is taken from."""


@dataclass(frozen=True)
class Probe:
    """One task.

    Attributes:
        name: its key in `PROBES`.
        seq_len: tokens of a sequence.
        vocab_size: special tokens and the blank included.
        answers: how many answers there are, equally often right.
        draw: ``(generator, batch size) -> batch``; everything random comes from the generator, on the CPU.
    """

    name: str
    seq_len: int
    vocab_size: int
    answers: int
    draw: Callable[[Generator, int], MaskedBatch]

    @cached_property
    def guess_loss(self) -> float:
        """The loss, in nats a hidden token, of who sees which answers stand in a sequence and how often, not where.

        Every model learns that much first, and how fast says nothing of looking things up: losses above this one
        count as this one (`runtime.mixed_proxy`). Where an answer need not be shown, it is ``log(answers)``.
        """
        batch = self.draw(Generator("cpu").manual_seed(0), _GUESSES)
        chosen = batch.labels != IGNORED
        rows = chosen.nonzero()[:, 0]
        told = batch.labels[chosen]
        answers = torch.zeros(self.vocab_size, dtype=torch.bool, device="cpu")
        answers[told] = True
        shown = nn.functional.one_hot(batch.input_ids, self.vocab_size).sum(1) * answers  # [B, vocabulary]
        share = shown[rows, told] / shown.sum(1)[rows]
        return float(-share.log().mean()) if bool((share > 0).all()) else math.log(self.answers)

    def batches(self, batch_size: int, seed: int) -> Iterator[MaskedBatch]:
        """Batches without end, the same for the same seed."""
        generator = Generator("cpu").manual_seed(seed)
        while True:
            yield self.draw(generator, batch_size)


def probe(name: str) -> Probe:
    """The probe called ``name``.

    Raises:
        InputError: for an unknown name, with the nearest known one.

    Example:
        >>> batch = next(probe("recall").batches(2, seed=0))
        >>> tuple(batch.input_ids.shape)
        (2, 36)
    """
    if name not in PROBES:
        raise InputError(f"there is no probe {name[:60]!r}; {nearest(name, PROBES)}")
    return PROBES[name]


# -- recall: "key value blank", in any order; the second time a key comes, its value is hidden

KEYS = VALUES = 8
PAIRS = 5
ITEMS = 12
NOISE = 16
"""Tokens that mean nothing, in noisy recall."""


def _recall(generator: Generator, batch_size: int) -> MaskedBatch:
    return _recall_batch(generator, batch_size, PAIRS, ITEMS - PAIRS, 0)


def _noisy_recall(generator: Generator, batch_size: int) -> MaskedBatch:
    return _recall_batch(generator, batch_size, 4, 4, 4)


def _recall_batch(generator: Generator, batch: int, pairs: int, queries: int, noise: int) -> MaskedBatch:
    """``pairs`` shown, ``queries`` hidden and ``noise`` meaningless items of three tokens each, in random order."""
    items = pairs + queries + noise
    keys = _orders(generator, batch, KEYS)[:, :pairs]
    values = _integers(generator, VALUES, (batch, pairs))
    # Each pair is asked for as often as any other, give or take one.
    asked = _orders(generator, batch, pairs * -(-queries // pairs))[:, :queries] % pairs
    meaningless = FIRST + KEYS + VALUES + _integers(generator, NOISE, (batch, noise, 2))
    first = torch.cat([FIRST + keys, FIRST + keys.gather(1, asked), meaningless[..., 0]], 1)
    second = torch.cat(
        [FIRST + KEYS + values, FIRST + KEYS + values.gather(1, asked), meaningless[..., 1]], 1
    )
    hidden = torch.zeros(batch, items, dtype=torch.bool, device="cpu")
    hidden[:, pairs : pairs + queries] = True
    order = _orders(generator, batch, items)
    ids = torch.full((batch, items, 3), BLANK, device="cpu")
    ids[..., 0], ids[..., 1] = first.gather(1, order), second.gather(1, order)
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[..., 1] = hidden.gather(1, order)
    return _hide(ids.flatten(1), chosen.flatten(1))


# -- selective copying: tokens among blanks, and behind them their copy in the same order, hidden

COPIED, SLOTS, COPIED_TOKENS = 4, 20, 8


def _copying(generator: Generator, batch_size: int) -> MaskedBatch:
    places = _orders(generator, batch_size, SLOTS)[:, :COPIED].sort(1).values
    tokens = FIRST + _integers(generator, COPIED_TOKENS, (batch_size, COPIED))
    ids = torch.full((batch_size, SLOTS + COPIED), BLANK, device="cpu").scatter(1, places, tokens)
    ids[:, SLOTS:] = tokens
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[:, SLOTS:] = True
    return _hide(ids, chosen)


# -- brackets: a balanced text of brackets of several kinds; one of a pair is hidden, never both

BRACKET_KINDS, BRACKETS = 4, 32


def _brackets(generator: Generator, batch_size: int) -> MaskedBatch:
    opens = torch.zeros(batch_size, BRACKETS, dtype=torch.bool, device="cpu")
    partner = torch.zeros(batch_size, BRACKETS, dtype=torch.int64, device="cpu")
    draws = torch.rand(batch_size, BRACKETS, generator=generator, device="cpu").tolist()
    for row, draw in enumerate(draws):
        stack: list[int] = []
        for place in range(BRACKETS):
            left, depth = BRACKETS - place, len(stack)
            # Of all balanced texts that go on from here, this part opens a bracket: each text is equally likely.
            if draw[place] < (left - depth) * (depth + 2) / (2 * left * (depth + 1)):
                opens[row, place] = True
                stack.append(place)
            else:
                other = stack.pop()
                partner[row, place], partner[row, other] = other, place
    at = torch.arange(BRACKETS, device="cpu").expand(batch_size, BRACKETS)
    drawn = _integers(generator, BRACKET_KINDS, (batch_size, BRACKETS))
    kind = torch.where(opens, drawn, drawn.gather(1, partner))
    # Of a pair of which one shall be hidden, either may be it. Neighbours tell no more than a glance beside: left out.
    pair_draw = torch.rand(batch_size, BRACKETS, generator=generator, device="cpu")
    pair_draw = torch.where(opens, pair_draw, pair_draw.gather(1, partner))
    far = (at - partner).abs() > 1
    chosen = far & (((pair_draw < 0.25) & opens) | ((pair_draw >= 0.25) & (pair_draw < 0.5) & ~opens))
    nothing = ~chosen.any(1)
    widest = ((at - partner) * ~opens).argmax(
        1
    )  # where all are neighbours, or none was drawn: the widest pair
    chosen[nothing, widest[nothing]] = True
    return _hide(FIRST + kind + BRACKET_KINDS * ~opens, chosen)


def _hide(ids: Tensor, chosen: Tensor) -> MaskedBatch:
    return MaskedBatch(ids.masked_fill(chosen, MASK), None, ids.masked_fill(~chosen, IGNORED))


def _orders(generator: Generator, rows: int, size: int) -> Tensor:
    """A random order of ``0 .. size - 1`` in each row, int64 ``[rows, size]``."""
    return torch.rand(rows, size, generator=generator, device="cpu").argsort(1)


def _integers(generator: Generator, below: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(below, shape, generator=generator, device="cpu")


PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Probe("recall", 3 * ITEMS, FIRST + KEYS + VALUES, VALUES, _recall),
        Probe("noisy-recall", 3 * 12, FIRST + KEYS + VALUES + NOISE, VALUES, _noisy_recall),
        Probe("copying", SLOTS + COPIED, FIRST + COPIED_TOKENS, COPIED_TOKENS, _copying),
        Probe("brackets", BRACKETS, FIRST + 2 * BRACKET_KINDS, BRACKET_KINDS, _brackets),
    )
}
"""Every probe by name."""
