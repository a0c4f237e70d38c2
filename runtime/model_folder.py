"""A trained model as a folder in the form that needs torch alone; a search keeps its winner so."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from codegen import backbone_source, kernel_files
from codegen.model_files import module_name
from codegen.rendering import render
from graphir import AttentionLayer, Backbone
from graphir.files import read_json, write_json
from runtime.run import RunError
from runtime.tokenizer import save_tokenizer
from runtime.weights import save_weights

MODEL_FORMAT = "opnas.model/1"


@dataclass(frozen=True)
class TrainedModel:
    """A backbone with weights.

    Attributes:
        backbone: the architecture.
        weights: by parameter name, as the module that `codegen.backbone_source` writes names them.
        vocab_size: number of token ids.
        max_positions: longest sequence in tokens.
        metrics: what was measured of it, e.g. ``accuracy`` on held-out text.
        origin: one sentence on how the weights came about.
    """

    backbone: Backbone
    weights: Mapping[str, Tensor]
    vocab_size: int
    max_positions: int
    metrics: Mapping[str, float]
    origin: str

    @property
    def parameters(self) -> int:
        """How many there are; the decoder's are the token embedding's and count once."""
        return sum(weight.numel() for weight in self.weights.values())

    def parameters_by_part(self) -> dict[str, int]:
        """The same by part of the model, the largest first; parts that it does not have are left out."""
        counts: Counter[str] = Counter()
        for name, weight in self.weights.items():
            counts[self._part(name.split("."))] += weight.numel()
        return dict(counts.most_common())

    def _part(self, name: list[str]) -> str:
        match name:
            case ["embeddings", *_]:
                return "embeddings of tokens and positions, their norm"
            case ["head", *_]:
                return "head, without the token embedding"
            case ["layers", number, "mixer", *_]:
                attends = isinstance(self.backbone.layers[int(number)], AttentionLayer)
                return "attention projections" if attends else "convolutions"
            case ["layers", _, "ffn", *_]:
                return "feed-forward blocks"
        return "norms of the layers"


def save_model(model: TrainedModel, folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model into an existing, empty folder.

    The files: ``modeling_<name>.py`` (flat, imports only torch; ``load()`` also safetensors), ``kernels_*.py`` with
    the Triton kernels of each distinct graph and of the blocks, which run where it finds a GPU, ``model.safetensors``,
    ``config.json``, ``backbone.json``, ``backbone.svg``, ``backbone.png``, ``README.md`` and, where there is one,
    ``tokenizer.json``. A drawing that fails is a warning: it decorates what was trained.
    """
    stem = f"modeling_{module_name(model.backbone.name)}"
    kernels = kernel_files(model.backbone)
    source = backbone_source(
        model.backbone, model.vocab_size, model.max_positions, dropout=0.1, loader=True, kernels="beside"
    )
    for name, text in {f"{stem}.py": source, **kernels}.items():
        (folder / name).write_text(text, encoding="utf-8")
    save_weights(model.weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(model, stem))
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder / "tokenizer.json")
    write_description(model, folder, "torch", stem=stem, kernels=kernels, has_tokenizer=tokenizer is not None)


def write_description(model: TrainedModel, folder: Path, form: str, **values: Any) -> None:
    """Write ``backbone.json``, its drawings and the model card.

    Args:
        model: what is described.
        folder: where.
        form: whose template of a card is taken.
        values: what that template needs beside the model.
    """
    backbone = model.backbone
    backbone.save(folder / "backbone.json")
    card = render(
        f"{form}/model_card.md.jinja",
        backbone=backbone,
        model=model,
        cost=backbone.cost(seq_len=model.max_positions),
        has_drawing=_draw(backbone, folder),
        **values,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _draw(backbone: Backbone, folder: Path) -> bool:
    """Draw the architecture; whether that went well."""
    try:
        for suffix in ("svg", "png"):
            backbone.draw(folder / f"backbone.{suffix}")
    except Exception as error:  # drawing fails in many ways, and none of them is worth a trained model
        for path in folder.glob("backbone.[sp]*g"):
            path.unlink()
        warnings.warn(f"the architecture could not be drawn: {error}", stacklevel=4)
        return False
    return True


def load_model(folder: Path) -> TrainedModel:
    """Read what `save_model` wrote.

    Raises:
        RunError: where the folder holds no such model.
    """
    try:
        config = read_json(folder / "config.json")
        backbone = Backbone.load(folder / "backbone.json")
        weights = load_file(folder / "model.safetensors")
        if config.get("format") != MODEL_FORMAT:
            raise ValueError(f"unknown format {str(config.get('format'))[:60]!r}")
        return TrainedModel(
            backbone,
            weights,
            int(config["vocab_size"]),
            int(config["max_positions"]),
            {str(name): float(value) for name, value in config["metrics"].items()},
            str(config["origin"]),
        )
    except (OSError, ValueError, KeyError, AttributeError, safetensors.SafetensorError) as error:
        raise RunError(f"{folder} holds no model that can be read: {str(error)[:200]}") from None


def _config(model: TrainedModel, stem: str) -> dict[str, Any]:
    backbone = model.backbone
    return {
        "format": MODEL_FORMAT,
        "name": backbone.name,
        "module": f"{stem}.py",
        "hidden_size": backbone.hidden_size,
        "heads": backbone.heads,
        "ffn_size": backbone.ffn_size,
        "layers": len(backbone.layers),
        "vocab_size": model.vocab_size,
        "max_positions": model.max_positions,
        "parameters": model.parameters,
        "metrics": dict(model.metrics),
        "origin": model.origin,
    }
