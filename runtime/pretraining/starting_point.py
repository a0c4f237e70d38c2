"""What a pretraining begins with: a backbone with new weights, or a model that goes on learning."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import nn

from codegen import compile_backbone
from graphir import Backbone, InputError
from runtime.default_device import made_on
from runtime.exported_folder import load_exported_model
from runtime.model_folder import TrainedModel
from runtime.pretraining.settings import Pretraining
from runtime.pretraining.tokenised_text import tokenizer_digest
from runtime.targets import TargetError, resolve
from runtime.tokenizer import load_tokenizer

FreshOrTrained = str | Path | Backbone | TrainedModel


@dataclass(frozen=True)
class StartingPoint:
    """A backbone, and what there is of a model of it.

    Attributes:
        backbone: the architecture.
        model: its weights; None for new ones.
        tokenizer: what the weights were trained with; None for new ones.
    """

    backbone: Backbone
    model: TrainedModel | None = None
    tokenizer: Tokenizer | None = None

    @property
    def digest(self) -> str:
        """Equal for equal weights; ``"new"`` for new ones."""
        if self.model is None:
            return "new"
        return hashlib.blake2b(save(dict(self.model.weights)), digest_size=16).hexdigest()

    @property
    def origin(self) -> str:
        """One sentence on where the weights came from."""
        return "New weights" if self.model is None else f"{self.model.origin.rstrip('.')}; these weights"


def find_start(target: FreshOrTrained, size: str | None = None) -> StartingPoint:
    """What ``target`` names.

    Args:
        target: a folder that `opnas export`, `opnas pretrain` or a search (its ``best/``) wrote, to go on from its
            weights; a backbone, or a name of one that `runtime.targets.resolve` knows, for new weights.
        size: ``"small"``, ``"base"`` or ``"large"``, for a backbone in another size than its own.

    Raises:
        TargetError: where ``target`` is no backbone, or a model together with a size.
        RunError: where a folder holds no model that can be read.
        GraphError: for an unknown size.
    """
    start = _start(target)
    if size is None:
        return start
    if start.model is not None:
        raise TargetError(f"{target} has weights of its own size: pretrain it without a size")
    return StartingPoint(start.backbone.resized(size))


def _start(target: FreshOrTrained) -> StartingPoint:
    if isinstance(target, Backbone):
        return StartingPoint(target)
    if isinstance(target, TrainedModel):
        return StartingPoint(target.backbone, target)
    folder = Path(target)
    if (folder / "backbone.json").is_file() and (folder / "config.json").is_file():
        model = load_exported_model(folder)
        path = folder / "tokenizer.json"
        return StartingPoint(model.backbone, model, load_tokenizer(path) if path.is_file() else None)
    found = resolve(str(target))
    if not isinstance(found, Backbone):
        raise TargetError(
            f"{target} is a graph: a model is pretrained from a backbone, a search or its own folder"
        )
    return StartingPoint(found)


def choose_tokenizer(
    start: StartingPoint, given: str | Path | Tokenizer | None, vocab_size: int
) -> Tokenizer | int:
    """The tokenizer to use, or the size of the vocabulary of one that is yet to be trained.

    Args:
        start: its tokenizer goes before all others, since its weights know no other.
        given: a tokenizer, its file, or a folder with a ``tokenizer.json``.
        vocab_size: where there is none.

    Raises:
        InputError: where ``given`` is not the one that the weights were trained with.
        TokenizerError: where it cannot be read.
    """
    if given is None:
        if start.tokenizer is not None:
            return start.tokenizer
        return vocab_size if start.model is None else min(vocab_size, start.model.vocab_size)
    if isinstance(given, str | Path):
        path = Path(given)
        path = path / "tokenizer.json" if path.is_dir() else path
        if not path.is_file():
            raise InputError(
                f"there is no tokenizer {path}: name a tokenizer.json or the folder that holds it"
            )
        given = load_tokenizer(path)
    if start.tokenizer is not None and tokenizer_digest(given) != tokenizer_digest(start.tokenizer):
        raise InputError("the model was trained with another tokenizer than the one given: leave it out")
    return given


def make_model(start: StartingPoint, settings: Pretraining, vocab_size: int) -> nn.Module:
    """The model to train, on the CPU; new weights are drawn from ``settings.seed``.

    Raises:
        InputError: where the weights at hand have too few positions or tokens.
    """
    trained = start.model
    if trained is None:
        max_positions = settings.max_positions or settings.seq_len
    else:
        max_positions, tokens = trained.max_positions, vocab_size
        vocab_size = trained.vocab_size
        if settings.seq_len > max_positions:
            raise InputError(
                f"seq_len {settings.seq_len} is too long: this model has {max_positions} positions"
            )
        if settings.max_positions not in (None, max_positions):
            raise InputError(f"max_positions cannot be changed: this model has {max_positions}")
        if tokens > vocab_size:
            raise InputError(f"the tokenizer has {tokens:,} tokens, and the model knows {vocab_size:,}")
    with torch.random.fork_rng(devices=[]), made_on("cpu"):
        torch.manual_seed(settings.seed)
        model = compile_backbone(start.backbone, vocab_size, max_positions, settings.dropout)
    if trained is not None:
        try:
            model.load_state_dict({name: weight.float() for name, weight in trained.weights.items()})
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise TargetError(
                f"the weights do not fit the backbone {start.backbone.name}: {reason[:300]}"
            ) from None
    return model


def trained_model(
    start: StartingPoint, model: nn.Module, metrics: dict[str, float], origin: str
) -> TrainedModel:
    """The model after training, ready to be written; its weights on the CPU."""
    weights = {name: weight.detach().to("cpu") for name, weight in model.state_dict().items()}
    vocab_size = weights["embeddings.token.weight"].shape[0]
    max_positions = weights["embeddings.position.weight"].shape[0]
    return TrainedModel(start.backbone, weights, vocab_size, max_positions, metrics, origin)
