"""Weights in files: safetensors, whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from graphir.files import write_whole


def save_weights(
    weights: Mapping[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, with the usual mode, so that ``path`` is never half-written.

    (The library's own ``save_file`` writes in place and for the owner alone, and its errors are not the system's.)

    Raises:
        OSError: where the file cannot be written.
    """
    tensors = {name: weight.detach().contiguous() for name, weight in weights.items()}
    write_whole(path, save(tensors, metadata=metadata))
