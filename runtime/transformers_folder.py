"""A model as a folder that the Auto classes of transformers load. Writing it needs no transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from codegen.model_files import ModelNames, model_files, model_names
from graphir.files import write_json
from runtime.model_folder import TrainedModel, write_description
from runtime.special_tokens import PAD, SPECIAL_TOKENS
from runtime.tokenizer import save_tokenizer
from runtime.weights import save_weights

DROPOUT = 0.1


def save_for_transformers(model: TrainedModel, folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model into an existing, empty folder.

    The files: ``configuration_<name>.py``, ``modeling_<name>.py`` and ``kernels_<n>.py`` (see `codegen.model_files`),
    ``config.json``, ``model.safetensors`` with the weights of the masked language model, ``backbone.json``,
    ``backbone.svg``, ``backbone.png``, ``README.md`` and, where there is a tokenizer, ``tokenizer.json`` and
    ``tokenizer_config.json``. A drawing that fails is a warning: it decorates what was trained.
    """
    names = model_names(model.backbone)
    files = model_files(model.backbone, model.vocab_size, model.max_positions, DROPOUT)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    weights = transformers_weights(model.weights)
    save_weights(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(model, names))
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder / "tokenizer.json")
        write_json(folder / "tokenizer_config.json", _tokenizer_config(model.max_positions))
    write_description(
        model,
        folder,
        "transformers",
        names=names,
        kernels=[name for name in files if name.startswith("kernels_")],
        has_tokenizer=tokenizer is not None,
    )


def transformers_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the torch form by the names of the masked language model for transformers.

    The decoder's weight is the token embedding; transformers ties them when it loads the model.
    """
    return {_transformers_name(name): weight for name, weight in weights.items()}


def torch_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way: weights of the masked language model for transformers by the names of the torch form.

    Example:
        >>> list(torch_weights({"backbone.embeddings.token.weight": None, "head.decoder.bias": None}))
        ['embeddings.token.weight', 'head.bias']
    """
    tied = (
        "head.decoder.weight"  # written by some versions of transformers, although it is the token embedding
    )
    return {_torch_name(name): weight for name, weight in weights.items() if name != tied}


def _torch_name(name: str) -> str:
    return "head.bias" if name == "head.decoder.bias" else name.removeprefix("backbone.")


def _transformers_name(name: str) -> str:
    if name == "head.bias":
        return "head.decoder.bias"
    return name if name.startswith("head.") else f"backbone.{name}"


def _config(model: TrainedModel, names: ModelNames) -> dict[str, Any]:
    backbone = model.backbone
    (dtype,) = {str(weight.dtype).removeprefix("torch.") for weight in model.weights.values()}
    return {
        "architectures": [names.auto_classes["AutoModelForMaskedLM"]],
        "auto_map": names.auto_map,
        "model_type": names.model_type,
        "dtype": dtype,
        "vocab_size": model.vocab_size,
        "hidden_size": backbone.hidden_size,
        "num_hidden_layers": len(backbone.layers),
        "num_attention_heads": backbone.heads,
        "intermediate_size": backbone.ffn_size,
        "max_position_embeddings": model.max_positions,
        "hidden_dropout_prob": DROPOUT,
        "attention_probs_dropout_prob": DROPOUT,
        "classifier_dropout": None,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "pad_token_id": PAD,
        "tie_word_embeddings": True,
    }


def _tokenizer_config(max_positions: int) -> dict[str, Any]:
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **dict(zip(names, SPECIAL_TOKENS, strict=True)),
    }
