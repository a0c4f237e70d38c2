"""The tokens that are no text. Known without loading a tokenizer."""

from __future__ import annotations

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Their ids are their positions here."""

PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL_TOKENS))

MIN_VOCAB_SIZE = len(SPECIAL_TOKENS) + 256
"""The special tokens and one token a byte."""
