"""Autotuning, where somebody asks for it: the tiles that fit by the model, timed on the device at hand.

A kernel is timed inside its direction, all others as they are; the fastest stays. Results are kept on disk, by graph,
device, head dimension and type, and hold for all lengths.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.attention import BackendError, CompiledAttention
from codegen.cache import cache_folder, read_cached, write_cached
from codegen.kernel_text import KernelText
from codegen.tile_sizes import Tiles, block_of, candidates
from codegen.triton_program import TritonProgram

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

    program = attention.program
    if not isinstance(program, TritonProgram):
        raise BackendError("the PyTorch form has no tiles to tune: compile with backend='triton' on a GPU")
    tensors = {name: x for name, x in zip("QKV", (q, k, v), strict=True) if name in attention.graph.inputs}
    x = next(tensor for tensor in tensors.values() if tensor is not None)
    module = attention.function.__globals__
    block_d, size = block_of(x.shape[-1]), x.element_size()
    path = _cache_path(attention.source, _device_name(x), block_d, size)
    chosen = _measured_before(read_cached(path), [kernel.name for kernel in program.kernels])
    tuned = module["TUNED"]
    if chosen is None:
        machine = module["_machine"](x.device) if x.is_cuda else "sm_90"
        # Whatever mode the caller is in, the backward is measured too.
        with torch.inference_mode(False), torch.enable_grad():
            leaves = {n: t.detach().clone().requires_grad_() for n, t in tensors.items() if t is not None}
            mask = None if key_mask is None else key_mask.clone()
            out = attention.function(*(leaves.get(name) for name in "QKV"), mask)

            def forward() -> Any:
                with torch.no_grad():
                    return attention.function(*(leaves.get(name) for name in "QKV"), mask)

            def backward() -> Any:
                return torch.autograd.grad(out, list(leaves.values()), out.detach(), retain_graph=True)

            chosen = {}
            for kernel in program.kernels:
                run = forward if kernel in program.forward.kernels else backward
                tiles = candidates(kernel, machine, size, block_d)
                chosen[kernel.name] = _fastest(kernel, tiles, run, tuned, x, rounds)
        write_cached(path, json.dumps(chosen))
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


def _cache_path(source: str, device: str, block_d: int, size: int) -> Path | None:
    """A file of its own for each generated source, device, head dimension and type."""
    folder = cache_folder("tiles")
    key = hashlib.sha256(f"{source}\0{device}\0{block_d}\0{size}".encode()).hexdigest()[:32]
    return None if folder is None else folder / f"{key}.json"


def _measured_before(text: str | None, kernels: list[str]) -> dict[str, Tiles] | None:
    """What a file of the cache says; None where it is missing or not well-formed."""
    try:
        data = json.loads(text or "")
        found = {name: tuple(map(int, data[name])) for name in kernels}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(len(tiles) == 4 and all(0 < number <= 1024 for number in tiles) for tiles in found.values()):
        return None
    return {name: (own, loop, warps, stages) for name, (own, loop, warps, stages) in found.items()}
