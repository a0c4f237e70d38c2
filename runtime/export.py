"""Export: a folder that needs nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from tokenizers import Tokenizer

from codegen import compile_backbone
from graphir import Backbone, InputError
from runtime.exported_folder import load_exported_model
from runtime.exported_program import add_program
from runtime.model_folder import TrainedModel, load_model, save_model
from runtime.onnx_model import add_onnx, require_onnx
from runtime.run import Run, RunError, new_folder, refuse_existing
from runtime.targets import TargetError, folder_kind, folder_named, resolve
from runtime.tokenizer import load_tokenizer
from runtime.transformers_folder import save_for_transformers

Form = Literal["transformers", "torch"]
"""What the folder is for: the Auto classes of transformers, or a Python that has torch alone."""

_WRITERS: dict[Form, Callable[[TrainedModel, Path, Tokenizer | None], None]] = {
    "transformers": save_for_transformers,
    "torch": save_model,
}


def export(
    target: str | Path | Backbone,
    out: str | Path,
    vocab_size: int = 30_522,
    seed: int = 0,
    form: Form = "transformers",
    size: str | None = None,
    pt2: bool = False,
    onnx: bool = False,
) -> Path:
    """Write a folder that needs nothing of ours: modules, kernels, weights, configuration, graph, drawing, card.

    The same model gives the same bytes, whenever and wherever it is written.

    Args:
        target: the folder of a search, for its trained winner; an exported folder, for its model; or a backbone, or a
            name that `runtime.targets.resolve` knows, for a model with freshly drawn weights.
        out: the folder to make.
        vocab_size, seed: of a model with freshly drawn weights.
        form: ``"transformers"`` for `runtime.transformers_folder.save_for_transformers`, ``"torch"`` for
            `runtime.model_folder.save_model`.
        size: ``"small"``, ``"base"`` or ``"large"``, for a backbone in another size than its own.
        pt2: also write `runtime.exported_program`'s ``model.pt2``.
        onnx: also write `runtime.onnx_model`'s ``model.onnx``.

    Raises:
        RunError: where ``out`` exists, the search has no finished model yet, or the folder's model cannot be read.
        TargetError: where ``target`` names no backbone, or a trained one together with a size.
        InputError: for an unknown form.
        GraphError: for an unknown size.
    """
    if form not in _WRITERS:
        raise InputError(f"form must be one of {', '.join(_WRITERS)}, not {str(form)[:40]!r}")
    folder = None if isinstance(target, Backbone) else folder_named(str(target))
    if folder is not None:
        kind = folder_kind(folder)
        if size is not None:
            whose = "the winner" if kind == "search" else "the model"
            raise TargetError(f"{whose} in {target} was trained in its own size: export it without a size")
        if kind == "search":
            return export_run(Run.open(folder), out, form, pt2, onnx)
        return export_folder(folder, out, form, pt2, onnx)
    backbone = target if isinstance(target, Backbone) else resolve(str(target))
    if not isinstance(backbone, Backbone):
        raise TargetError(f"{target} is a graph: a model is exported from a backbone or a search")
    if size is not None:
        backbone = backbone.resized(size)
    return export_backbone(backbone, out, vocab_size, seed, form, pt2, onnx)


def export_run(
    run: Run, out: str | Path, form: Form = "transformers", pt2: bool = False, onnx: bool = False
) -> Path:
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
    _write(load_model(run.best_path), load_tokenizer(run.best_path / "tokenizer.json"), out, form, pt2, onnx)
    return out


def export_folder(
    folder: str | Path, out: str | Path, form: Form = "transformers", pt2: bool = False, onnx: bool = False
) -> Path:
    """Write the model of an exported folder anew into a folder ``out``, in any form; its code does not run.

    Raises:
        RunError: where ``out`` exists, or the folder holds no masked language model.
    """
    folder, out = Path(folder), Path(out)
    refuse_existing(out)
    model = load_exported_model(folder)
    tokenizer = folder / "tokenizer.json"
    _write(model, load_tokenizer(tokenizer) if tokenizer.is_file() else None, out, form, pt2, onnx)
    return out


def export_backbone(
    backbone: Backbone,
    out: str | Path,
    vocab_size: int = 30_522,
    seed: int = 0,
    form: Form = "transformers",
    pt2: bool = False,
    onnx: bool = False,
) -> Path:
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
    _write(model, None, out, form, pt2, onnx)
    return out


def _write(
    model: TrainedModel, tokenizer: Tokenizer | None, out: Path, form: Form, pt2: bool, onnx: bool
) -> None:
    if onnx:
        require_onnx()
    with new_folder(out) as temporary:
        _WRITERS[form](model, temporary, tokenizer)
        if pt2:
            add_program(model, temporary)
        if onnx:
            add_onnx(model, temporary)
