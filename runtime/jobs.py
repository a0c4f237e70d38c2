"""Jobs that are done once, several at a time: each leaves one JSON file, and what has its file is not done again."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphir.files import write_json

Work = Callable[..., dict[str, Any]]
"""``(folder, **arguments) -> result``, ready for JSON; ``folder`` is the job's own and does not exist yet."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        key: its name, a relative path; ``<key>.json`` is its result, and ``<key>/`` what it makes.
        work: a function at the top of a module.
        arguments: keyword arguments that can be pickled.
    """

    key: str
    work: Work
    arguments: dict[str, Any]


def carry_out(jobs: Sequence[Job], out: Path, workers: int, tell: Tell) -> dict[str, dict[str, Any]]:
    """The results of all jobs by key. Each has a process and one thread: two cores do two jobs at a time.

    Args:
        jobs: in any order; none needs another.
        out: where results and folders are put.
        workers: processes; 0 works in this one.
        tell: told of each result.

    Raises:
        Exception: the first that a job raised, once those that had begun are over.
    """
    results = {}
    missing = []
    for job in jobs:
        file = out / f"{job.key}.json"
        if file.is_file():
            results[job.key] = json.loads(file.read_text(encoding="utf-8"))
        else:
            missing.append(job)
    if workers == 0:
        for job in missing:
            results[job.key] = _do(job, out)
            tell(f"{job.key}: {results[job.key]['seconds']:.0f} s")
        return results
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        futures = {pool.submit(_do, job, out): job.key for job in missing}
        try:
            for future in as_completed(futures):
                key = futures[future]
                results[key] = future.result()
                tell(f"{key}: {results[key]['seconds']:.0f} s")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results


def _begin() -> None:
    """What a process does before its first job: one thread, and its own place for the code of folders.

    Transformers copies such code into a cache that all processes share, and another could read half of it.
    """
    modules = tempfile.mkdtemp(prefix="opnas-modules-")
    atexit.register(shutil.rmtree, modules, ignore_errors=True)
    os.environ["HF_MODULES_CACHE"] = modules  # read when transformers is imported, which nothing did yet

    import torch

    torch.set_num_threads(1)


def _do(job: Job, out: Path) -> dict[str, Any]:
    begun = time.process_time()
    folder = out / job.key
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)  # what was stopped before it had a result begins again
    result = job.work(folder, **job.arguments)
    result["seconds"] = time.process_time() - begun
    write_json(out / f"{job.key}.json", result)
    return result
