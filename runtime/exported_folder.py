"""Reading an exported folder back: the architecture, and the weights of its masked language model."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file

from codegen import compile_backbone
from graphir import Backbone, OpnasError
from graphir.files import read_json
from runtime.model_folder import MODEL_FORMAT, TrainedModel, load_model
from runtime.run import RunError
from runtime.transformers_folder import torch_weights

ORIGIN = "The weights are those of the exported folder that it was made from."


def load_exported_model(folder: Path) -> TrainedModel:
    """The model that `opnas export` wrote, in either form; nothing of the folder's code runs.

    Raises:
        RunError: where the folder holds no masked language model of its ``backbone.json``.
    """
    try:
        config = read_json(folder / "config.json")
        if config.get("format") == MODEL_FORMAT:
            return load_model(folder)
        backbone = Backbone.load(folder / "backbone.json")
        vocab_size, positions = int(config["vocab_size"]), int(config["max_position_embeddings"])
        weights = torch_weights(load_file(folder / "model.safetensors"))
        with torch.device("meta"):
            expected = compile_backbone(backbone, vocab_size, positions, backend="torch").state_dict()
        _compare(
            {name: tuple(weight.shape) for name, weight in weights.items()},
            {name: tuple(weight.shape) for name, weight in expected.items()},
        )
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OpnasError) as error:
        raise RunError(
            f"{folder} holds no masked language model that can be read: {str(error)[:200]}"
        ) from None
    except safetensors.SafetensorError as error:
        raise RunError(f"{folder / 'model.safetensors'} cannot be read: {str(error)[:200]}") from None
    return TrainedModel(backbone, weights, vocab_size, positions, {}, ORIGIN)


def _compare(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        what = f"it lacks {missing[0]}" if missing else f"it has {unknown[0][:80]}, which the model has not"
        raise ValueError(f"model.safetensors does not fit backbone.json: {what}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise ValueError(f"{name} in model.safetensors is {found[name]}, and should be {shape}")
