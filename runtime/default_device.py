"""Independence of ``torch.set_default_device``: it decides where a user's tensors are made, not where ours are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def made_on(device: torch.device | str) -> Iterator[None]:
    """Tensors that are made within stand on ``device`` where nothing else is said, whatever torch's default is.

    For code of others: parameters of a module, counters of an optimizer. Our own says where each tensor is made.
    """
    device = torch.device(device)
    if torch.get_default_device() == device:  # a context is not free: it sees every call
        yield
        return
    with device:
        yield
