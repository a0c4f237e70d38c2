"""Folders for transformers, loaded by its Auto classes: without a network, without noise, with errors for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphir import InputError


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Transformers without its warnings and progress bars; afterwards as it was."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_model_of(folder: str | Path, auto_class: str = "AutoModel", **options: Any) -> Any:
    """The model in a folder, in evaluation mode, by one of the Auto classes of transformers.

    The folder's own code runs: only give one that you trust. Weights are read from safetensors alone.

    Args:
        folder: what `opnas export` or ``save_pretrained`` wrote.
        auto_class: the name of the Auto class.
        options: further ones of its ``from_pretrained``.

    Raises:
        InputError: where the folder holds no such model.
    """
    return load_by(folder, auto_class, use_safetensors=True, **options).eval()


def load_tokenizer_of(folder: str | Path) -> Any:
    """The tokenizer in a folder.

    Raises:
        InputError: where it holds none.
    """
    if not any((Path(folder) / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(f"{folder} holds no tokenizer: it needs tokenizer.json and tokenizer_config.json")
    return load_by(folder, "AutoTokenizer")


def load_by(folder: str | Path, auto_class: str, **options: Any) -> Any:
    """What ``from_pretrained`` of an Auto class makes of a folder: a model, a tokenizer, a configuration.

    Raises:
        InputError: where it makes nothing of it.
    """
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"{folder} is no model for transformers: it holds no config.json")
    import transformers
    from safetensors import SafetensorError

    with quiet_transformers():
        try:
            return getattr(transformers, auto_class).from_pretrained(
                str(folder), trust_remote_code=True, local_files_only=True, **options
            )
        except (OSError, ValueError, KeyError, ImportError, AttributeError, SafetensorError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{folder} cannot be loaded with {auto_class}: {lines[0][:300]}") from error
