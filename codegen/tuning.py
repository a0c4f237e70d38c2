"""Autotuning, where somebody asks for it: the tiles that fit by the model, timed on the device at hand.

A kernel is timed inside its direction, all others as they are; the fastest stays. Results are kept on disk, by graph,
device, head dimension and type, and hold for all lengths.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.attention import BackendError, CompiledAttention
from codegen.emit_triton import KernelText
from codegen.launch import Tiles, block_of, candidates
from codegen.triton_attention import triton_program

if TYPE_CHECKING:
    import torch

MAX_CANDIDATES = 5


def tune_attention(
    attention: CompiledAttention,
    q: torch.Tensor | None,
    k: torch.Tensor | None,
    v: torch.Tensor | None,
    key_mask: torch.Tensor | None = None,
    rounds: int = 10,
) -> dict[str, Tiles]:
    """Choose the tiles of every kernel by measuring, or read what was measured before.

    Args:
        attention: compiled with kernels; it uses the new tiles from now on, for this head dimension and type.
        q, k, v, key_mask: as for a call; their length should be a usual one.
        rounds: how often each candidate is timed.

    Returns:
        Own block, tile of a loop, warps and pipeline stages by kernel.

    Raises:
        BackendError: for the PyTorch form, which has no tiles.
    """
    import torch

    if attention.backend != "triton":
        raise BackendError("the PyTorch form has no tiles to tune: compile with backend='triton' on a GPU")
    tensors = {name: x for name, x in zip("QKV", (q, k, v), strict=True) if name in attention.graph.inputs}
    x = next(tensor for tensor in tensors.values() if tensor is not None)
    module = attention.function.__globals__
    block_d, size = block_of(x.shape[-1]), x.element_size()
    program = triton_program(attention.graph)
    path = _cache_path(attention.source, _device_name(x), block_d, size)
    chosen = _read(path, [kernel.name for kernel in program.kernels])
    tuned = module["TUNED"]
    if chosen is None:
        machine = module["_machine"](x.device) if x.is_cuda else "sm_90"
        leaves = {n: t.detach().requires_grad_() for n, t in tensors.items() if t is not None}
        out = attention.function(*(leaves.get(name) for name in "QKV"), key_mask)

        def forward() -> Any:
            return attention.function(*(tensors.get(name) for name in "QKV"), key_mask)

        def backward() -> Any:
            return torch.autograd.grad(out, list(leaves.values()), out.detach(), retain_graph=True)

        chosen = {}
        for kernel in program.kernels:
            run = forward if kernel.name.startswith("forward") else backward
            chosen[kernel.name] = _fastest(
                kernel, candidates(kernel, machine, size, block_d), run, tuned, x, rounds
            )
        _write(path, chosen)
    tuned.update({(name, block_d, size): tiles for name, tiles in chosen.items()})
    return chosen


def _fastest(
    kernel: KernelText,
    choices: list[Tiles],
    run: Callable[[], Any],
    tuned: dict[tuple[str, int, int], Tiles],
    x: torch.Tensor,
    rounds: int,
) -> Tiles:
    """The choice under which ``run`` takes the least time."""
    from triton.runtime.errors import OutOfResources

    key = kernel.name, block_of(x.shape[-1]), x.element_size()
    times: dict[Tiles, float] = {}
    for tiles in choices[:MAX_CANDIDATES]:
        tuned[key] = tiles
        try:
            times[tiles] = _median_seconds(run, x, rounds)
        except OutOfResources:  # the model was too hopeful: not a candidate here
            continue
    tuned[key] = min(times, key=lambda tiles: times[tiles]) if times else choices[-1]
    return tuned[key]


def _median_seconds(run: Callable[[], Any], x: torch.Tensor, rounds: int) -> float:
    """The median time of a call, after one that compiles."""
    import torch

    run()
    times = []
    for _ in range(rounds):
        if not x.is_cuda:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
            continue
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        torch.cuda.synchronize(x.device)
        times.append(first.elapsed_time(last) / 1e3)
    return statistics.median(times)


def _device_name(x: torch.Tensor) -> str:
    import torch

    return torch.cuda.get_device_name(x.device) if x.is_cuda else "interpreter"


def _cache_path(source: str, device: str, block_d: int, size: int) -> Path:
    """A file of its own for each generated source, device, head dimension and type."""
    root = (
        os.environ.get("OPNAS_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opnas"
    )
    key = hashlib.sha256(f"{source}\0{device}\0{block_d}\0{size}".encode()).hexdigest()[:32]
    return Path(root) / "tiles" / f"{key}.json"


def _read(path: Path, kernels: list[str]) -> dict[str, Tiles] | None:
    """What was measured before; None where that is missing or not well-formed."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = {name: tuple(map(int, data[name])) for name in kernels}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all(len(tiles) == 4 and all(0 < number <= 1024 for number in tiles) for tiles in found.values()):
        return None
    return {name: (own, loop, warps, stages) for name, (own, loop, warps, stages) in found.items()}


def _write(path: Path, chosen: dict[str, Tiles]) -> None:
    """Write the file whole or not at all: other processes may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8"
    ) as file:
        json.dump(chosen, file)
    os.replace(file.name, path)
