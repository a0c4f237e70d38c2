"""The tokenizer and the encoding of text as sequences."""

import random

import pytest
import torch

from runtime.tokenizer import (
    CLS,
    MASK,
    MIN_VOCAB_SIZE,
    PAD,
    SEP,
    SPECIAL_TOKENS,
    TokenizerError,
    encode_sequences,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)

WORDS = ("river", "stone", "quick", "lantern", "green", "whisper", "copper", "orbit")


def random_texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 30))) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(random_texts(0, 100), 300)


def test_special_tokens_have_the_first_ids(tokenizer):
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


def test_training_twice_gives_the_same_tokenizer():
    # Hash maps inside the trainer are seeded by process, so a large vocabulary is what would differ.
    texts = random_texts(1, 300)
    assert train_tokenizer(texts, 400).to_str() == train_tokenizer(texts, 400).to_str()


@pytest.mark.parametrize("text", ["naïve café", "日本語", "a\tb", "🙂", "[MASK] and [PAD] are words here"])
def test_any_text_survives_encoding_and_decoding(tokenizer, text):
    sequences = encode_sequences(tokenizer, [text], 256)
    ids = sequences.ids[sequences.key_mask].tolist()
    assert ids[0] == CLS
    assert ids[-1] == SEP
    assert tokenizer.decode(ids[1:-1], skip_special_tokens=False).strip() == text


def test_the_name_of_a_special_token_in_the_text_is_not_that_token(tokenizer):
    ids = encode_sequences(tokenizer, ["say [MASK] and [PAD] and [UNK]"], 128).ids
    assert MASK not in ids
    assert tokenizer.token_to_id("[UNK]") not in ids


@pytest.mark.parametrize("seed", range(4))
def test_rows_joined_are_the_paragraphs_in_order(tokenizer, seed):
    texts = random_texts(seed, 40)
    seq_len = random.Random(seed).randint(3, 40)
    sequences = encode_sequences(tokenizer, texts, seq_len)
    assert sequences.ids.shape == sequences.key_mask.shape == (len(sequences), seq_len)
    assert sequences.ids.dtype == torch.int64
    assert sequences.key_mask.dtype == torch.bool
    assert (sequences.ids[:, 0] == CLS).all()
    assert sequences.key_mask[:-1].all(), f"seed {seed}: only the last row may be padded"
    assert torch.equal(sequences.key_mask, sequences.ids != PAD)

    stream = sequences.ids[:, 1:][sequences.key_mask[:, 1:]].tolist()
    paragraphs, paragraph = [], []
    for token in stream:
        if token == SEP:
            paragraphs.append(tokenizer.decode(paragraph).strip())
            paragraph = []
        else:
            paragraph.append(token)
    assert paragraphs == texts, f"seed {seed}"


def test_a_saved_tokenizer_reads_the_same(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    texts = [*random_texts(7, 20), "[MASK] is text"]
    assert torch.equal(encode_sequences(again, texts, 32).ids, encode_sequences(tokenizer, texts, 32).ids)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04pickled", b'{"version": "1.0", "model": null}'])
def test_a_file_that_is_no_tokenizer_is_refused(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(path)


def test_a_tokenizer_with_other_special_tokens_is_refused(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_str().replace("[MASK]", "<mask>"), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"\[MASK\] under the id 4"):
        load_tokenizer(path)


def test_sizes_without_room_are_refused(tokenizer):
    with pytest.raises(TokenizerError, match=f"{MIN_VOCAB_SIZE} hold"):
        train_tokenizer(["text"], MIN_VOCAB_SIZE - 1)
    with pytest.raises(ValueError, match="seq_len 2 is too short"):
        encode_sequences(tokenizer, ["text"], 2)
    with pytest.raises(ValueError, match="no text"):
        encode_sequences(tokenizer, [], 8)
