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
    from accelerate.state import AcceleratorState, GradientState, is_initialized
    from accelerate.utils import InitProcessGroupKwargs

    shared = is_initialized()
    accelerator = None
    try:
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
        if settings.precision == "float16" and accelerator.device.type == "cpu":  # accelerate would ignore it
            raise InputError("precision float16 needs a GPU: a CPU has float32 and bfloat16")
        accelerator.gradient_accumulation_steps = (
            1  # ours are parts of a step; the environment may say otherwise
        )
        yield accelerator
        accelerator.end_training()
    finally:
        alone = accelerator is None or accelerator.num_processes == 1
        if accelerator is not None:
            accelerator.free_memory()
        if alone and not shared:
            # Device and precision are decided once a process, for all accelerators; the next pretraining in this
            # process may want others. There is no public way to say so.
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
