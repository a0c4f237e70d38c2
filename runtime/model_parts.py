"""Where the time of a model goes: forward and backward of a training step by part of the model.

Hooks on modules switch a clock, so that each moment is charged to the innermost part that is at work.
"""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

REST = "sums of residuals, loss, the rest"
OPTIMIZER = "optimizer"

_PARTS = {
    "Embeddings": "embeddings",
    "BertEmbeddings": "embeddings",
    "Attention": "attention",
    "BertSelfAttention": "attention",
    "BertSelfOutput": "attention projections",
    "LightConv": "convolution and gate",
    "FeedForward": "feed-forward",
    "BertIntermediate": "feed-forward",
    "BertOutput": "feed-forward",
    "Head": "head",
    "BertOnlyMLMHead": "head",
    "LayerNorm": "LayerNorm",
    "Dropout": "dropout",
}
"""The part that a module belongs to, by the name of its class, in generated models and in BERT."""

_PROJECTIONS = {"attention": "attention projections", "convolution and gate": "convolution projections"}
"""The part of linear maps within a part; elsewhere they belong to what they stand in."""

ORDER = tuple(dict.fromkeys([*_PARTS.values(), *_PROJECTIONS.values(), REST, OPTIMIZER]))
"""All parts."""


@dataclass(frozen=True)
class PartTimes:
    """Seconds of one training step by part, medians of several; parts that are not there are left out.

    Attributes:
        forward: of the loss; the optimizer is not in it.
        backward: of the gradients; and of the optimizer's step, under `OPTIMIZER`.
    """

    forward: dict[str, float]
    backward: dict[str, float]

    def of(self, part: str) -> float:
        """Seconds of a part, forward and backward."""
        return self.forward.get(part, 0.0) + self.backward.get(part, 0.0)

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.forward.values()) + sum(self.backward.values())


def parts_of(model: nn.Module) -> dict[nn.Module, str]:
    """The modules that make up a part, each with its part's name.

    Example:
        >>> from torch.nn import LayerNorm, Sequential
        >>> list(parts_of(Sequential(LayerNorm(4), LayerNorm(4))).values())
        ['LayerNorm', 'LayerNorm']
    """
    found: dict[nn.Module, str] = {}

    def walk(module: nn.Module, within: str) -> None:
        part = _PARTS.get(type(module).__name__)
        if part is None and isinstance(module, nn.Linear):
            part = _PROJECTIONS.get(within)
        if part is not None:
            found[module] = part
        for child in module.children():
            walk(child, part or within)

    walk(model, "")
    return found


def time_parts(
    model: nn.Module,
    loss: Callable[[], Tensor],
    update: Callable[[], Any],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> PartTimes:
    """Time the parts of training steps on a CPU, where a call returns when it is done.

    Args:
        model: whose modules take the hooks; they are removed again.
        loss: runs the model, once.
        update: the optimizer's step, and its ``zero_grad``.
        rounds: how many steps are timed, after one that is not.
        clock: gives seconds.
    """
    forward: list[Mapping[str, float]] = []
    backward: list[Mapping[str, float]] = []
    watch = _Watch(clock)
    with _hooked(model, watch), warnings.catch_warnings():
        # Embeddings take whole numbers, which have no gradient: their part ends where it begins, which is right.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        for number in range(rounds + 1):
            watch.restart()
            value = loss()
            spent = watch.stop()
            watch.restart()
            value.backward()
            watch.enter(OPTIMIZER)
            update()
            if number > 0:
                forward.append(spent)
                backward.append(watch.stop())
    return PartTimes(_medians(forward), _medians(backward))


class _Watch:
    """Charges the time since the last change to the part on top of a stack."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.restart()

    def restart(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stack = [REST]
        self.last = self.clock()

    def enter(self, part: str) -> None:
        self._charge()
        self.stack.append(part)

    def leave(self) -> None:
        self._charge()
        if len(self.stack) > 1:
            self.stack.pop()

    def stop(self) -> Mapping[str, float]:
        self._charge()
        return self.seconds

    def _charge(self) -> None:
        now = self.clock()
        self.seconds[self.stack[-1]] += now - self.last
        self.last = now


@contextmanager
def _hooked(model: nn.Module, watch: _Watch) -> Iterator[None]:
    handles: list[RemovableHandle] = []
    for module, part in parts_of(model).items():
        handles += [
            module.register_forward_pre_hook(lambda *_, part=part: watch.enter(part)),
            module.register_forward_hook(lambda *_: watch.leave()),
            module.register_full_backward_pre_hook(lambda *_, part=part: watch.enter(part)),
            module.register_full_backward_hook(lambda *_: watch.leave()),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _medians(rounds: list[Mapping[str, float]]) -> dict[str, float]:
    parts = [part for part in ORDER if any(part in found for found in rounds)]
    return {part: median(found.get(part, 0.0) for found in rounds) for part in parts}
