"""Masking: how much, where, with what, and the same again."""

import pytest
import torch

from runtime.masking import (
    IGNORED,
    commonest_token_accuracy,
    held_out_batches,
    mask_tokens,
    training_batches,
)
from runtime.tokenizer import CLS, MASK, PAD, SEP, SPECIAL_TOKENS, Sequences

VOCAB_SIZE = 300


def random_sequences(seed: int, rows: int = 40, seq_len: int = 64, lengths: bool = True) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL_TOKENS), VOCAB_SIZE, (rows, seq_len), generator=generator)
    ids[torch.rand(ids.shape, generator=generator) < 0.1] = SEP
    ids[:, 0] = CLS
    if lengths:
        length = torch.randint(1, seq_len + 1, (rows, 1), generator=generator)
        ids[torch.arange(seq_len) >= length] = PAD
    return Sequences(ids, ids != PAD)


def masked(sequences: Sequences, seed: int):
    # Not the seed that drew the sequences: the same stream twice would tie what is hidden to what there is.
    generator = torch.Generator().manual_seed(seed + 1_000)
    return mask_tokens(sequences.ids, sequences.key_mask, VOCAB_SIZE, generator)


@pytest.mark.parametrize("seed", range(5))
def test_special_and_padded_tokens_are_never_hidden_or_changed(seed):
    sequences = random_sequences(seed)
    batch = masked(sequences, seed)
    special = sequences.ids < len(SPECIAL_TOKENS)
    assert (batch.labels[special] == IGNORED).all(), f"seed {seed}"
    assert torch.equal(batch.input_ids[special], sequences.ids[special]), f"seed {seed}"
    assert torch.equal(batch.key_mask, sequences.key_mask)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_the_hidden_tokens_and_the_rest_is_unchanged(seed):
    sequences = random_sequences(seed)
    batch = masked(sequences, seed)
    hidden = batch.labels != IGNORED
    assert torch.equal(batch.labels[hidden], sequences.ids[hidden]), f"seed {seed}"
    assert torch.equal(batch.input_ids[~hidden], sequences.ids[~hidden]), f"seed {seed}"


@pytest.mark.parametrize("seed", range(5))
def test_each_sequence_hides_fifteen_percent_and_at_least_one(seed):
    sequences = random_sequences(seed)
    batch = masked(sequences, seed)
    for ids, labels in zip(sequences.ids, batch.labels, strict=True):
        ordinary = int((ids >= len(SPECIAL_TOKENS)).sum())
        hidden = int((labels != IGNORED).sum())
        # Half a token is what rounding may add or take.
        assert abs(hidden - 0.15 * ordinary) <= 0.5 or hidden == min(1, ordinary), f"seed {seed}"
        assert hidden >= min(1, ordinary), f"seed {seed}"


def test_a_sequence_without_an_ordinary_token_hides_nothing():
    ids = torch.tensor([[CLS, SEP, PAD, PAD]])
    batch = masked(Sequences(ids, ids != PAD), 0)
    assert torch.equal(batch.input_ids, ids)
    assert (batch.labels == IGNORED).all()


def test_eighty_percent_become_mask_ten_random_ten_stay():
    sequences = random_sequences(0, rows=4_000, lengths=False)
    batch = masked(sequences, 0)
    hidden = batch.labels != IGNORED
    shown, truth = batch.input_ids[hidden], batch.labels[hidden]
    count = len(truth)
    to_mask = float((shown == MASK).double().mean())
    stays = float((shown == truth).double().mean())
    # About 35,000 draws: five standard deviations of a part p are 5 sqrt(p (1 - p) / count), 0.011 and 0.008.
    assert count > 30_000
    assert to_mask == pytest.approx(0.8, abs=0.011)
    # A random token is the true one once in 295.
    assert stays == pytest.approx(0.1 + 0.1 / (VOCAB_SIZE - len(SPECIAL_TOKENS)), abs=0.008)
    random_ids = shown[(shown != MASK) & (shown != truth)]
    assert random_ids.min() >= len(SPECIAL_TOKENS)
    assert len(random_ids.unique()) > 250


def test_training_batches_depend_on_the_seed_alone():
    sequences = random_sequences(1)

    def drawn(seed: int) -> torch.Tensor:
        batches = training_batches(sequences, 8, VOCAB_SIZE, seed)
        return torch.cat([next(batches).input_ids for _ in range(12)])

    first = drawn(3)
    torch.manual_seed(99)
    assert torch.equal(first, drawn(3))
    assert not torch.equal(first, drawn(4))


@pytest.mark.parametrize("batch_size", [1, 7, 40, 100])
def test_an_epoch_of_training_batches_holds_every_sequence_once(batch_size):
    rows = 40
    sequences = random_sequences(2, rows=rows, lengths=False)
    sequences.ids[:, 0] = torch.arange(rows) + len(SPECIAL_TOKENS)  # a name for each row
    batches = training_batches(sequences, batch_size, VOCAB_SIZE, 0)
    names: list[int] = []
    while len(names) < 3 * rows:
        batch = next(batches)
        assert batch.input_ids.shape[0] == batch_size
        hidden = batch.labels[:, 0] != IGNORED
        names += torch.where(hidden, batch.labels[:, 0], batch.input_ids[:, 0]).tolist()
    for epoch in range(3):
        assert len(set(names[epoch * rows : (epoch + 1) * rows])) == rows


def test_training_hides_other_tokens_in_the_next_epoch():
    sequences = random_sequences(3, rows=8, lengths=False)
    batches = training_batches(sequences, 8, VOCAB_SIZE, 0)
    first, second = next(batches), next(batches)
    assert sorted(map(tuple, first.labels.tolist())) != sorted(map(tuple, second.labels.tolist()))


def test_held_out_tokens_are_the_same_for_all_and_in_any_batch_size():
    sequences = random_sequences(4)
    small = held_out_batches(sequences, 7, VOCAB_SIZE, 0)
    large = held_out_batches(sequences, 40, VOCAB_SIZE, 0)
    other = held_out_batches(sequences, 40, VOCAB_SIZE, 1)
    for field in ("input_ids", "key_mask", "labels"):
        joined = torch.cat([getattr(batch, field) for batch in small])
        assert torch.equal(joined, getattr(large[0], field))
    assert not torch.equal(large[0].labels, other[0].labels)


def test_the_baseline_counts_the_commonest_ordinary_token():
    training = torch.tensor([[CLS, 7, 7, 9, SEP, SEP, SEP, SEP]])
    ids = torch.tensor([[CLS, 7, 8, 9, 7, SEP]])
    (batch,) = held_out_batches(Sequences(ids, ids != PAD), 1, VOCAB_SIZE, 0)
    (target,) = batch.labels[batch.labels != IGNORED].tolist()
    expected = 1.0 if target == 7 else 0.0
    assert commonest_token_accuracy(Sequences(training, training != PAD), [batch]) == expected
    batch.labels[0] = torch.tensor([IGNORED, 7, 8, IGNORED, 7, IGNORED])
    assert commonest_token_accuracy(Sequences(training, training != PAD), [batch]) == pytest.approx(2 / 3)
