"""`model_files`: a backbone as code for transformers, a configuration and a model with its task heads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from codegen.backbone import check_model_sizes, kernel_files
from codegen.block_kernels import BLOCKS_STEM
from codegen.model_layers import model_layers
from codegen.rendering import render
from graphir import Backbone

_TASKS = {
    "AutoModel": "Model",
    "AutoModelForMaskedLM": "ForMaskedLM",
    "AutoModelForSequenceClassification": "ForSequenceClassification",
    "AutoModelForTokenClassification": "ForTokenClassification",
    "AutoModelForQuestionAnswering": "ForQuestionAnswering",
}
"""What the class for each Auto class is called behind the name of the backbone."""


MAX_STEM = 24
"""Longest part of a backbone's name in the names of files and classes, in characters."""


@dataclass(frozen=True)
class ModelNames:
    """What the files and classes of a model are called.

    Attributes:
        modeling: the module of the models.
        configuration: the module of the configuration.
        prefix: what the names of all classes begin with.
        model_type: what transformers knows the architecture by; none of its own begins with ``opnas-``.
        auto_classes: the name of the class for each Auto class of models.
    """

    modeling: str
    configuration: str
    prefix: str
    model_type: str
    auto_classes: dict[str, str]

    @property
    def auto_map(self) -> dict[str, str]:
        """Where each Auto class finds its class, as ``config.json`` says it."""
        models = {auto: f"{self.modeling}.{name}" for auto, name in self.auto_classes.items()}
        return {"AutoConfig": f"{self.configuration}.{self.prefix}Config", **models}


def module_name(name: str) -> str:
    """A backbone's name as part of the name of a Python module: lower case letters, digits and underscores.

    Long names are cut, so that the lines of generated code stay short.
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower())[:MAX_STEM].strip("_")


def model_names(backbone: Backbone) -> ModelNames:
    """The names for a backbone, made from its own.

    Example:
        >>> from graphir import presets
        >>> model_names(presets.get("autobert-zero-small")).auto_map["AutoModel"]
        'modeling_autobert_zero_small.AutobertZeroSmallModel'
    """
    stem = module_name(backbone.name)
    prefix = "".join(part.capitalize() for part in stem.split("_"))
    prefix = prefix.replace("Tokenizer", "Tokens")  # transformers takes such a class for a tokenizer
    prefix = f"Opnas{prefix}" if prefix[0].isdigit() else prefix
    return ModelNames(
        modeling=f"modeling_{stem}",
        configuration=f"configuration_{stem}",
        prefix=prefix,
        model_type=f"opnas-{stem.replace('_', '-')}",
        auto_classes={auto: prefix + task for auto, task in _TASKS.items()},
    )


def model_files(
    backbone: Backbone, vocab_size: int = 30_522, max_positions: int = 512, dropout: float = 0.1
) -> dict[str, str]:
    """The text of each file of a model for transformers, by file name: configuration, models, kernels.

    They import torch, transformers and each other, and Triton where it is used. The kernels are those of
    `codegen.kernel_files`.

    Args:
        backbone, vocab_size, max_positions, dropout: as of `codegen.backbone_source`; the sizes are what the
            configuration begins with, and another one may be given to the model.

    Raises:
        InputError: for sizes below 1 or a probability outside [0, 1).
    """
    check_model_sizes(vocab_size, max_positions, dropout)
    names, kernels = model_names(backbone), kernel_files(backbone)
    values = {
        "backbone": backbone,
        "names": names,
        "layers": model_layers(backbone),
        "layer_lines": backbone.equation().splitlines(),
        "kernels": [name.removesuffix(".py") for name in kernels if name != f"{BLOCKS_STEM}.py"],
        "vocab_size": vocab_size,
        "max_positions": max_positions,
        "dropout": float(dropout),
    }
    return {
        f"{names.configuration}.py": render("transformers/configuration.py.jinja", **values),
        f"{names.modeling}.py": render("transformers/modeling.py.jinja", **values),
        **{name: _importable_without_triton(text) for name, text in kernels.items()},
    }


_TRITON_IMPORT = """\
import triton
import triton.language as tl
"""
_GUARDED_IMPORT = """\
try:  # transformers refuses a model where an import outside of such a block is missing, used or not
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("the kernels in this file need Triton") from error
"""


def _importable_without_triton(source: str) -> str:
    """Kernels that the check of transformers, which reads the imports of all files, lets pass without Triton."""
    before, found, after = source.partition(_TRITON_IMPORT)
    assert found, "kernels import Triton in two lines"
    return before + _GUARDED_IMPORT + after
