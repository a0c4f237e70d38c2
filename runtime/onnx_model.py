"""A model in ONNX: it runs in onnxruntime, without PyTorch and without its Python code."""

from __future__ import annotations

import importlib.util
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from codegen import compile_backbone
from codegen.rendering import render
from graphir import InputError, OpnasError
from runtime.model_folder import TrainedModel

if TYPE_CHECKING:
    from torch.export import ExportedProgram

ONNX_FILE = "model.onnx"
PACKAGES = ("onnx", "onnxruntime", "onnxscript")

_TOLERANCE = 1e-5
"""Of logits in float32, relative to the largest where that is above 1: onnxruntime sums in another order."""

_COLUMNS = 8
"""So many columns of two matrices are subtracted at once for distances: more would take much memory."""


class OnnxError(OpnasError, RuntimeError):
    """An ONNX model that does not give what its model gives."""


def require_onnx() -> None:
    """Refuse to begin where a package for ONNX is missing.

    Raises:
        InputError: saying which, and how they are installed.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"--onnx needs {', '.join(missing)}: install them with pip install 'opnas[onnx]'")


def add_onnx(model: TrainedModel, folder: Path) -> None:
    """Write ``model.onnx`` into an exported folder, and how it is used into its model card.

    It takes ``input_ids`` and ``attention_mask``, int64 ``[B, S]``, and gives ``logits`` ``[B, S, vocabulary]``, in the
    PyTorch form. Batch and length are free, up to the positions of the model. The same model gives the same bytes.

    Raises:
        InputError: where a package is missing.
        OnnxError: where what was written differs from the model.
    """
    require_onnx()
    module = compile_backbone(model.backbone, model.vocab_size, model.max_positions, backend="torch")
    module.load_state_dict(dict(model.weights))
    module.eval()
    path = folder / ONNX_FILE
    _write(_program(model, module), path)
    difference = check_onnx(model, module, path)
    with (folder / "README.md").open("a", encoding="utf-8") as card:
        card.write(
            "\n"
            + render("onnx_card.md.jinja", model=model, file=ONNX_FILE, bound=_next_power_of_ten(difference))
        )


class _MaskedModel(nn.Module):
    """The model with a mask of numbers, as tokenizers give it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids, attention_mask != 0)
        return logits


def _program(model: TrainedModel, module: nn.Module) -> ExportedProgram:
    free = {
        0: torch.export.Dim("batch", min=1),
        1: torch.export.Dim("tokens", min=1, max=model.max_positions),
    }
    return torch.export.export(
        _MaskedModel(module),
        _inputs(model, 2, min(8, model.max_positions)),
        dynamic_shapes={"input_ids": free, "attention_mask": free},
    )


def _write(program: ExportedProgram, path: Path) -> None:
    with _quiet("torch.onnx", "onnxscript"), warnings.catch_warnings(action="ignore"):
        written = torch.onnx.export(
            program,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamo=True,
            verbose=False,
            custom_translation_table={torch.ops.aten.cdist.default: _distances()},
        )
    assert written is not None, "torch.onnx.export gives a program with dynamo=True"
    for node in written.model.graph:  # where packages lie on this machine is nobody's business
        node.metadata_props.clear()
    written.save(path, external_data=False)


def check_onnx(model: TrainedModel, module: nn.Module, path: Path) -> float:
    """Compare an ONNX file with its model, at two batches and two lengths, with padding.

    Returns:
        The largest difference of a logit of a real token.

    Raises:
        OnnxError: where that is too large, or onnxruntime cannot run the file.
    """
    import onnxruntime

    largest = 0.0
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for batch in (1, 3):
            for tokens in (2, model.max_positions):
                ids, mask = _inputs(model, batch, tokens)
                found = session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
                with torch.no_grad():
                    expected = module(ids, mask != 0)[mask != 0]
                difference = (torch.from_numpy(found[0])[mask != 0] - expected).abs().max().item()
                if not difference <= _TOLERANCE * max(1.0, expected.abs().max().item()):  # NaN, too
                    raise OnnxError(
                        f"{path.name} differs from the model by {difference:.2g} at batch {batch} and {tokens} tokens"
                    )
                largest = max(largest, difference)
    except OpnasError:
        raise
    except Exception as error:  # onnxruntime's errors have no common base but this
        raise OnnxError(f"{path.name} does not run in onnxruntime: {str(error)[:300]}") from error
    return largest


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Loggers of libraries at the level of errors; afterwards as they were."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _next_power_of_ten(difference: float) -> float:
    """A bound that does not change with the last digits of a difference, which are the machine's."""
    return 10.0 ** math.ceil(math.log10(max(difference, 1e-9)))


def _inputs(model: TrainedModel, batch: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Ids, and a mask that hides the end of the first sequence."""
    ids = torch.arange(batch * tokens).reshape(batch, tokens) % model.vocab_size
    mask = torch.ones(batch, tokens, dtype=torch.int64)
    mask[0, (tokens + 1) // 2 :] = 0
    return ids, mask


def _distances() -> Any:
    """`torch.cdist` by ordinary operations: sums of squares of differences, so that near rows keep their digits."""
    import onnxscript

    op: Any = onnxscript.opset18  # its types are narrower than what it takes

    def distances(x: Any, y: Any, p: float = 2.0, compute_mode: int | None = None) -> Any:
        width, total = x.shape[-1], None
        for start in range(0, width, _COLUMNS):
            ends = op.Constant(value_ints=[start]), op.Constant(value_ints=[min(start + _COLUMNS, width)])
            last = op.Constant(value_ints=[-1])
            rows = op.Unsqueeze(op.Slice(x, *ends, last), op.Constant(value_ints=[-2]))
            columns = op.Unsqueeze(op.Slice(y, *ends, last), op.Constant(value_ints=[-3]))
            squares = op.ReduceSumSquare(op.Sub(rows, columns), last, keepdims=0)
            total = squares if total is None else op.Add(total, squares)
        return op.Sqrt(total)

    return distances
