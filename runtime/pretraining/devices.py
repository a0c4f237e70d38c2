"""The accelerator of a pretraining: which device, how many processes, which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from graphir import InputError
from runtime.pretraining.settings import Precision, Pretraining

if TYPE_CHECKING:
    from accelerate import Accelerator

_LONGEST_WAIT = timedelta(hours=12)
"""How long the other processes wait for the one that tokenises the text."""

_MIXED: dict[Precision, str] = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@contextmanager
def open_accelerator(settings: Pretraining) -> Iterator[Accelerator]:
    """The `accelerate.Accelerator` of this process: one of several where ``accelerate launch`` started it.

    Raises:
        InputError: for a precision that the device does not have.
    """
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    with _state_of_its_own():
        try:
            accelerator = Accelerator(
                mixed_precision=_MIXED[settings.precision],
                cpu=settings.device == "cpu",
                kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
            )
        except ValueError as error:
            reason = str(error)[:200]
            raise InputError(
                f"precision {settings.precision} cannot be had on this device: {reason}"
            ) from None
        try:
            if settings.precision == "float16" and accelerator.device.type == "cpu":
                # accelerate would ignore it
                raise InputError("precision float16 needs a GPU: a CPU has float32 and bfloat16")
            # Ours are parts of a step; the environment may say otherwise.
            accelerator.gradient_accumulation_steps = 1
            yield accelerator
            accelerator.end_training()
        finally:
            accelerator.free_memory()


@contextmanager
def _state_of_its_own() -> Iterator[None]:
    """Puts the state that all accelerators of a process share aside, and back in the end.

    It has device and precision, is made by the first (a fine-tuning's, say), and cannot be changed by public means.
    With several processes it stays, since it has their connection.
    """
    from accelerate.state import AcceleratorState, GradientState, PartialState

    states = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in states]
    if before[0].get("num_processes", 1) > 1:
        yield
        return
    for state in states:
        state.clear()
    try:
        yield
    finally:
        if states[0].get("num_processes", 1) == 1:
            for state, old in zip(states, before, strict=True):
                state.clear()
                state.update(old)
