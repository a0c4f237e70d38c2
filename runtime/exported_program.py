"""A model as a program of `torch.export`: it runs without its Python code."""

from __future__ import annotations

from pathlib import Path

import torch

from codegen import compile_backbone
from codegen.rendering import render
from graphir import OpnasError
from runtime.model_folder import TrainedModel

PROGRAM_FILE = "model.pt2"

_TOLERANCE = 1e-5
"""Of logits in float32: the program runs the operations of the model, some of them fused."""


class ProgramError(OpnasError, RuntimeError):
    """A program that does not give what its model gives."""


def add_program(model: TrainedModel, folder: Path) -> None:
    """Write ``model.pt2`` into an exported folder, and how it is used into its model card.

    The program takes ``input_ids``, int64 ``[B, S]``, and ``key_mask``, bool ``[B, S]`` (True = real token), and gives
    logits ``[B, S, vocabulary]``, in the PyTorch form. Batch and length are free, up to the positions of the model. The
    same model gives the same bytes.

    Raises:
        ProgramError: where what was written differs from the model, at any of two batches and two lengths.
    """
    module = compile_backbone(model.backbone, model.vocab_size, model.max_positions, backend="torch")
    module.load_state_dict(dict(model.weights))
    module.eval()
    free = {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("tokens", min=1, max=model.max_positions),
    }
    program = torch.export.export(
        module,
        _inputs(model, 2, min(8, model.max_positions)),
        dynamic_shapes={"input_ids": free, "key_mask": free},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where packages lie on this machine is nobody's business
    torch.export.save(program, folder / PROGRAM_FILE)
    _check(model, module, folder / PROGRAM_FILE)
    with (folder / "README.md").open("a", encoding="utf-8") as card:
        card.write("\n" + render("program_card.md.jinja", model=model, file=PROGRAM_FILE))


def _inputs(model: TrainedModel, batch: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, and a mask that hides the end of the first sequence."""
    ids = torch.arange(batch * tokens).reshape(batch, tokens) % model.vocab_size
    key_mask = torch.ones(batch, tokens, dtype=torch.bool)
    key_mask[0, (tokens + 1) // 2 :] = False
    return ids, key_mask


def _check(model: TrainedModel, module: torch.nn.Module, path: Path) -> None:
    written = torch.export.load(path).module()
    for batch in (1, 3):
        for tokens in (2, model.max_positions):
            ids, key_mask = _inputs(model, batch, tokens)
            with torch.no_grad():
                difference = (written(ids, key_mask) - module(ids, key_mask))[key_mask].abs().max().item()
            if not difference <= _TOLERANCE:  # NaN, too
                raise ProgramError(
                    f"{path.name} differs from the model by {difference:.2g} at batch {batch} and {tokens} tokens"
                )
