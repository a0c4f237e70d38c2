"""Order and masking: the batch of a step is a function of the seed and its number alone."""

from collections import Counter

import numpy as np
import pytest
import torch

from graphir import InputError
from runtime.masking import IGNORED, MaskedBatch, mask_words
from runtime.pretraining.batches import Batches, make_masking, word_beginnings
from runtime.pretraining.block_order import permuted
from runtime.pretraining.settings import Pretraining
from runtime.pretraining.token_file import Blocks, write_token_file
from runtime.special_tokens import CLS, MASK, SEP, SPECIAL_TOKENS
from runtime.tokenizer import train_tokenizer


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 63, 1000])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_block_is_taken_once(size, seed):
    assert sorted(permuted(np.arange(size), size, seed).tolist()) == list(range(size))


def test_part_of_an_order_is_part_of_the_whole():
    whole = permuted(np.arange(1000), 1000, 7)
    assert (permuted(np.array([999, 5, 5]), 1000, 7) == whole[[999, 5, 5]]).all()


def test_orders_are_as_good_as_drawn():
    """Each of 6 numbers at each of 6 places, in 3,000 orders: chi-square with 25 degrees of freedom."""
    places = np.stack([permuted(np.arange(6), 6, seed) for seed in range(3_000)])
    counts = np.stack([np.bincount(column, minlength=6) for column in places.T])
    # Above 60 it is once in ten thousand times, were they drawn.
    assert ((counts - 500) ** 2 / 500).sum() < 60


def numbered_blocks(tmp_path, count=10, seq_len=8):
    """Block number n is full of the token 5 + n."""
    width = seq_len - 2
    portions = [[5 + number] * width for number in range(count)] + [[1]]
    return Blocks(write_token_file(tmp_path / "x.tokens", portions, 100, None), seq_len, "x")


def unmasked(ids, generator):
    return MaskedBatch(ids, None, ids)


def test_a_block_is_its_tokens_between_cls_and_sep(tmp_path):
    blocks = numbered_blocks(tmp_path)
    assert len(blocks) == 10
    assert blocks.rows(np.array([3, 0])).tolist() == [[CLS, *[8] * 6, SEP], [CLS, *[5] * 6, SEP]]


def test_ids_beyond_sixteen_bits_are_kept(tmp_path):
    file = write_token_file(tmp_path / "x.tokens", [[70_000] * 6], 70_001, None)
    assert Blocks(file, 8, "x").rows(np.array([0]))[0, 1:-1].tolist() == [70_000] * 6


def test_too_little_text_for_a_sequence_is_refused(tmp_path):
    file = write_token_file(tmp_path / "x.tokens", [[7] * 5], 100, None)
    with pytest.raises(InputError, match="x has 5 tokens: one sequence of seq_len 8 needs 6"):
        Blocks(file, 8, "x")


def test_epochs_follow_each_other_and_each_takes_all(tmp_path):
    settings = Pretraining(batch_size=4, seq_len=8)
    batches = Batches(numbered_blocks(tmp_path), unmasked, settings)
    rows = torch.cat([batches.of_step(step)[0].input_ids for step in range(15)])[:, 1] - 5
    epochs = rows.view(6, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 6


def test_a_step_is_the_same_whatever_was_asked_for_before(tmp_path):
    def batches(seed):
        masking = make_masking("token", train_tokenizer(["some text"], 300))
        return Batches(numbered_blocks(tmp_path), masking, Pretraining(batch_size=4, seq_len=8, seed=seed))

    one, other = batches(0), batches(0)
    for step in range(5):
        one.of_step(step)
    (a,), (b,), (c,), (d,) = one.of_step(7), other.of_step(7), other.of_step(8), batches(1).of_step(7)
    assert torch.equal(a.input_ids, b.input_ids)
    assert torch.equal(a.labels, b.labels)
    assert not torch.equal(a.labels, c.labels)
    assert not torch.equal(a.labels, d.labels)


def test_processes_and_parts_share_the_sequences_of_a_step(tmp_path):
    blocks = numbered_blocks(tmp_path)
    whole = Batches(blocks, unmasked, Pretraining(batch_size=8, seq_len=8)).of_step(3)[0].input_ids
    settings = Pretraining(batch_size=8, seq_len=8, accumulate=2)
    shares = [Batches(blocks, unmasked, settings, process, 2).of_step(3) for process in range(2)]
    assert [len(part.input_ids) for share in shares for part in share] == [2, 2, 2, 2]
    assert torch.equal(torch.cat([part.input_ids for share in shares for part in share]), whole)
    with pytest.raises(InputError, match="3 processes with 2 parts each: make it a multiple of 6"):
        Batches(blocks, unmasked, settings, 0, 3)


SENTENCES = ["unbelievable stories are told of transformations and of words", "a b c of the"]


def word_rows(tokenizer, seed, rows=400, seq_len=64):
    """Random words in sequences that begin and end anywhere in a word."""
    words = [
        tokenizer.encode(f"{word}", add_special_tokens=False).ids for word in " ".join(SENTENCES).split()
    ]
    generator = np.random.default_rng(seed)
    stream = [
        token for number in generator.integers(len(words), size=rows * seq_len) for token in words[number]
    ]
    ids = torch.tensor(stream[: rows * (seq_len - 2)]).view(rows, -1)
    edge = torch.ones(rows, 1, dtype=torch.int64)
    return torch.cat([edge * CLS, ids, edge * SEP], dim=1)


@pytest.mark.parametrize("seed", range(3))
def test_words_are_hidden_whole_and_15_percent_of_tokens(seed):
    tokenizer = train_tokenizer(["a b of are"], 280)
    begins = word_beginnings(tokenizer)
    ids = word_rows(tokenizer, seed)
    vocab_size = tokenizer.get_vocab_size()
    batch = mask_words(ids, None, begins, vocab_size, torch.Generator().manual_seed(seed))
    hidden = batch.labels != IGNORED
    assert torch.equal(batch.labels[hidden], ids[hidden])
    assert torch.equal(batch.input_ids[~hidden], ids[~hidden])
    lengths = Counter()
    for row, marks in zip(ids.tolist(), hidden.tolist(), strict=True):
        word, there, taken = [], [], []
        for position, token in enumerate(row):
            special = token < len(SPECIAL_TOKENS)
            if word and (special or tokenizer.id_to_token(token).startswith("Ġ")):
                assert len({marks[p] for p in word}) == 1, f"seed {seed}: part of a word is hidden"
                there.append(len(word))
                taken += [len(word)] if marks[word[0]] else []
                word = []
            assert not (special and marks[position])
            if not special:
                word.append(position)
        assert any(marks)
        assert max(taken) <= 9 or min(there) > 9, f"seed {seed}: a word is hidden that is too long"
        lengths.update(taken)
    # 15 percent of 62 tokens is 9.3, rounded to 9; words of several pieces come as near as they can.
    assert hidden.float().sum(dim=1).mean() == pytest.approx(9, abs=0.3)
    assert any(lengths[pieces] for pieces in range(6, 10)), "long words are never hidden"
    kinds = batch.input_ids[hidden]
    # About 3,600 draws: the deviation of a share is below 0.7 percent.
    assert (kinds == MASK).float().mean() == pytest.approx(0.8, abs=0.03)
    assert (kinds == ids[hidden]).float().mean() == pytest.approx(0.1, abs=0.03)


def test_a_sequence_that_is_one_word_is_hidden_whole():
    ids = torch.full((1, 16), 40)
    batch = mask_words(ids, None, torch.zeros(50, dtype=torch.bool), 50, torch.Generator().manual_seed(0))
    assert (batch.labels == 40).all()
