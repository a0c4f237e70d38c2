"""Export: a folder that needs nothing of ours."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from codegen import backbone_source, compile_backbone, kernel_files
from codegen.rendering import render
from graphir import Backbone
from graphir.files import read_json, write_json
from runtime.run import Run, RunError, new_folder, refuse_existing
from runtime.targets import TargetError, resolve
from runtime.tokenizer import load_tokenizer, save_tokenizer

MODEL_FORMAT = "opnas.model/1"


@dataclass(frozen=True)
class TrainedModel:
    """A backbone with weights.

    Attributes:
        backbone: the architecture.
        weights: by parameter name, as the generated module names them.
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


def save_model(model: TrainedModel, folder: Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model into an existing, empty folder.

    The files: ``modeling_<name>.py`` (flat, imports only torch; ``load()`` also safetensors), ``kernels_<n>.py`` with
    the Triton kernels of each distinct graph, which it runs where it finds a GPU, ``model.safetensors``,
    ``config.json``, ``backbone.json``, ``backbone.svg``, ``backbone.png``, ``README.md`` and, where there is one,
    ``tokenizer.json``. A drawing that fails is a warning: it decorates what was trained.
    """
    backbone = model.backbone
    stem = f"modeling_{module_name(backbone.name)}"
    kernels = kernel_files(backbone)
    source = backbone_source(
        backbone, model.vocab_size, model.max_positions, dropout=0.1, loader=True, kernels="beside"
    )
    for name, text in {f"{stem}.py": source, **kernels}.items():
        (folder / name).write_text(text, encoding="utf-8")
    weights = {name: weight.detach().contiguous() for name, weight in model.weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # the library writes for the owner alone
    config = _config(model, stem)
    write_json(folder / "config.json", config)
    backbone.save(folder / "backbone.json")
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder / "tokenizer.json")
    card = render(
        "model_card.md.jinja",
        backbone=backbone,
        model=model,
        stem=stem,
        cost=backbone.cost(seq_len=model.max_positions),
        parameters=config["parameters"],
        has_tokenizer=tokenizer is not None,
        has_drawing=_draw(backbone, folder),
        kernels=", ".join(f"`{name}`" for name in kernels),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


def _draw(backbone: Backbone, folder: Path) -> bool:
    """Draw the architecture; whether that went well."""
    try:
        for suffix in ("svg", "png"):
            backbone.draw(folder / f"backbone.{suffix}")
    except (
        Exception
    ) as error:  # drawing libraries fail in many ways, and none of them is worth a trained model
        for path in folder.glob("backbone.[sp]*g"):
            path.unlink()
        warnings.warn(f"the architecture could not be drawn: {error}", stacklevel=3)
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


def export(target: str | Path | Backbone, out: str | Path, vocab_size: int = 30_522, seed: int = 0) -> Path:
    """Write a folder that needs nothing of ours: module, kernels, weights, configuration, graph, drawing, card.

    Args:
        target: the folder of a search, for its trained winner; or a backbone, or a name that `runtime.targets.resolve`
            knows, for a model with freshly drawn weights.
        out: the folder to make.
        vocab_size, seed: of a model with freshly drawn weights.

    Raises:
        RunError: where ``out`` exists, or the search has no finished model yet.
        TargetError: where ``target`` names no backbone.
    """
    if isinstance(target, str | Path) and (Path(target) / "config.json").is_file():
        return export_run(Run.open(target), out)
    backbone = target if isinstance(target, Backbone) else resolve(str(target))
    if not isinstance(backbone, Backbone):
        raise TargetError(f"{target} is a graph: a model is exported from a backbone or a search")
    return export_backbone(backbone, out, vocab_size, seed)


def export_run(run: Run, out: str | Path) -> Path:
    """Write the best model of a search into a new folder ``out``.

    Code is written anew from the architecture, never copied: a run may come from a stranger.

    Raises:
        RunError: where ``out`` exists, or the search has no finished model yet.
    """
    out = Path(out)
    refuse_existing(out)
    if not run.best_path.is_dir():
        raise RunError(
            f"the search in {run.folder} has no finished model yet: "
            f"finish it with 'opnas resume {run.folder}'"
        )
    model = load_model(run.best_path)
    with new_folder(out) as temporary:
        save_model(model, temporary, load_tokenizer(run.best_path / "tokenizer.json"))
    return out


def export_backbone(backbone: Backbone, out: str | Path, vocab_size: int = 30_522, seed: int = 0) -> Path:
    """Write an untrained model of ``backbone`` into a new folder ``out``; its weights are freshly drawn.

    Raises:
        RunError: where ``out`` exists.
    """
    import torch

    out = Path(out)
    refuse_existing(out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = compile_backbone(backbone, vocab_size, backend="torch")
    max_positions = module.get_parameter("embeddings.position.weight").shape[0]
    origin = f"The weights are untrained, drawn with seed {seed}."
    model = TrainedModel(backbone, module.state_dict(), vocab_size, max_positions, {}, origin)
    with new_folder(out) as temporary:
        save_model(model, temporary)
    return out


def module_name(name: str) -> str:
    """A name for a Python module: lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


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
        "parameters": sum(weight.numel() for weight in model.weights.values()),
        "metrics": dict(model.metrics),
        "origin": model.origin,
    }
