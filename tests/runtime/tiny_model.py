"""A model so small that it is trained within a second, exported for transformers with a tokenizer of its own."""

from __future__ import annotations

import torch

from codegen import compile_backbone
from graphir import AttentionLayer, Backbone, ConvLayer, presets
from runtime.model_folder import TrainedModel
from runtime.tokenizer import train_tokenizer
from runtime.transformers_folder import save_for_transformers

MAX_POSITIONS = 64


def export_tiny(folder, texts, seed=0, name="tiny"):
    """A convolution and an attention of width 16 with fresh weights; the tokenizer is trained on ``texts``."""
    backbone = Backbone((ConvLayer(3), AttentionLayer(presets.get("bert/1"))), 16, 2, 32, name=name)
    tokenizer = train_tokenizer(texts, 400)
    size = tokenizer.get_vocab_size()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = compile_backbone(backbone, size, MAX_POSITIONS, backend="torch")
    folder.mkdir()
    save_for_transformers(
        TrainedModel(backbone, model.state_dict(), size, MAX_POSITIONS, {}, "Untrained."), folder, tokenizer
    )
    return folder
