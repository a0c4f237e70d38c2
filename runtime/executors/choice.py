"""Which executor a run asks for, with how many workers and which limits."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import psutil
import torch

from evolution import Evaluator, Executor
from runtime.executors.limits import GIGABYTE, Limits
from runtime.executors.local import LocalExecutor
from runtime.executors.processes import ProcessPool
from runtime.run_config import DEFAULT_LIMIT_SECONDS, RunConfig

PRELOAD = ("runtime.proxy",)
"""What workers import while the supernet is warmed up."""
_USED_SHARE = 0.8
"""Of the machine's memory, by all workers together."""


class SearchExecutor(Executor, AbstractContextManager["SearchExecutor"], Protocol):
    """An executor that can be started before its evaluator is known."""

    def start(self, count: int | None = None) -> None:
        """Begin to start workers, at most ``count``, and do not wait for them."""
        ...

    def serve(self, evaluator: Evaluator) -> None:
        """Say how to score."""
        ...


def make_executor(config: RunConfig, device: torch.device, log: Path | None = None) -> SearchExecutor:
    """The executor that ``config`` asks for; it holds nothing before it is entered or started.

    Args:
        config: names it, with workers and limits.
        device: what models are trained on. Where it is a GPU without a number given, each worker has one of its own.
        log: a file for what workers print.

    Raises:
        InputError: where it is "ray" and Ray is not installed.
    """
    if config.executor == "local":
        return LocalExecutor()
    if config.executor == "ray":
        from runtime.executors.ray_cluster import RayExecutor

        return RayExecutor(
            config.workers, Limits(_seconds(config), config.limit_memory), device.type == "cuda"
        )
    gpus = visible_gpus() if device.type == "cuda" and ":" not in config.proxy.device else []
    workers = config.workers or (len(gpus) if gpus else _default_workers(device))
    memory = config.limit_memory or _USED_SHARE * psutil.virtual_memory().total / GIGABYTE / workers
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}]
    return ProcessPool(workers, Limits(_seconds(config), memory), PRELOAD, environments, log)


def visible_gpus() -> list[str]:
    """How ``CUDA_VISIBLE_DEVICES`` names each GPU that this process sees."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(n) for n in range(torch.cuda.device_count())] if named is None else named.split(",")
    return [name.strip() for name in names[: torch.cuda.device_count()]]


def _default_workers(device: torch.device) -> int:
    """One a core; on a GPU that was named, one."""
    return 1 if device.type == "cuda" else len(os.sched_getaffinity(0))


def _seconds(config: RunConfig) -> float:
    return config.limit_seconds or DEFAULT_LIMIT_SECONDS
