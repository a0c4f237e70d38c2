"""Tile sizes: a small model of registers and shared memory chooses among a short list of candidates.

The model's constants were fitted to binaries (docs/compiler.md, "Tiles"): it only has to tell what fits from what
spills. Which of the fitting candidates is fastest on a device is for `codegen.autotune` to measure.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen.devices import SHARED_MEMORY
from codegen.kernel_text import KernelText

Tiles = tuple[int, int, int, int]
"""Own block, tile of a loop, warps, pipeline stages."""

HEAD_BLOCKS = (16, 32, 64, 128, 256)
"""Head dimensions are padded to one of these."""
ELEMENT_SIZES = (2, 4)


@dataclass(frozen=True)
class _Machine:
    """A kind of device.

    Attributes:
        shared_memory: bytes that a program may have.
        threads: of a warp.
        registers: that a thread may have; with 4 warps, and with 8.
        weight: registers that loops of products need, against those of sm_90, which reads operands from shared
            memory.
        row_weight: the same for kernels of rows without a loop.
        candidates: tiles to choose from for loops, the preferred ones first.
        row_candidates: the same for rows that are multiplied with a D x D value.
    """

    shared_memory: int
    threads: int
    registers: tuple[int, int]
    weight: float
    row_weight: float
    candidates: tuple[Tiles, ...]
    row_candidates: tuple[Tiles, ...]


_CUDA = ((128, 64, 8, 3), (128, 64, 8, 2), (64, 64, 4, 3), (64, 64, 4, 2), (64, 64, 8, 2))
_SMALLER = ((64, 32, 4, 2), (32, 64, 8, 2), (32, 32, 8, 2), (32, 32, 4, 1), (16, 32, 4, 1), (16, 16, 4, 1))
_HIP = ((128, 64, 4, 2), (64, 64, 4, 2), (64, 32, 4, 2), (32, 32, 4, 1), (16, 32, 4, 1), (16, 16, 4, 1))
_ROWS = ((64, 64, 4, 2), (64, 64, 8, 2), (32, 64, 4, 2), (32, 64, 8, 2), (16, 64, 8, 1), (16, 64, 4, 1))
# Before sm_90 operands of products are held in registers: eight warps share them.
_SHARED_ROWS = (
    (64, 64, 8, 2),
    (64, 64, 4, 2),
    (32, 64, 8, 2),
    (32, 64, 4, 2),
    (16, 64, 8, 1),
    (16, 64, 4, 1),
)

MACHINES = {
    "sm_90": _Machine(SHARED_MEMORY["sm_90"], 32, (245, 245), 1.0, 1.0, _CUDA + _SMALLER, _ROWS),
    "sm_80": _Machine(SHARED_MEMORY["sm_80"], 32, (245, 245), 1.35, 1.8, _CUDA[:4] + _SMALLER, _SHARED_ROWS),
    "sm_86": _Machine(99 * 1024, 32, (245, 245), 1.35, 1.8, _CUDA[:4] + _SMALLER, _SHARED_ROWS),
    "gfx942": _Machine(SHARED_MEMORY["gfx942"], 64, (475, 235), 3.4, 2.0, _HIP, _ROWS),
}
"""By name: ``sm_90`` stands for 9.0 and 10.0, ``sm_86`` for all with about 100 KB, ``gfx942`` for AMD's."""


def block_of(head_dim: int) -> int:
    """The head dimension padded to a power of two of at least 16."""
    return max(16, 1 << (head_dim - 1).bit_length())


def machine_of(target: str) -> str:
    """The key of `MACHINES` that stands for a target, e.g. ``sm_90`` for ``sm_100``."""
    return {"sm_100": "sm_90"}.get(target, target)


def candidates(kernel: KernelText, machine: str, element_size: int, block_d: int) -> list[Tiles]:
    """The tiles that fit a kernel by the model, the preferred ones first; the smallest where none does."""
    device = MACHINES[machine]
    work = kernel.work
    choices = device.candidates
    if not work.loops:
        choices = device.row_candidates if work.products else _ROWS
    fitting = [
        tiles
        for tiles in choices
        if _registers(kernel, device, tiles, block_d) <= device.registers[tiles[2] > 4]
        and _shared_memory(kernel, tiles, element_size, block_d) <= device.shared_memory
    ]
    return fitting or [choices[-1]]


def tiles_of(kernel: KernelText, target: str, element_size: int, block_d: int) -> Tiles:
    """The first choice for a kernel."""
    return candidates(kernel, machine_of(target), element_size, block_d)[0]


def tile_table(kernel: KernelText) -> dict[tuple[str, int], tuple[Tiles, ...]]:
    """The first choices by machine and bytes of an element, one for each of `HEAD_BLOCKS`."""
    return {
        (machine, size): tuple(candidates(kernel, machine, size, block)[0] for block in HEAD_BLOCKS)
        for machine in MACHINES
        for size in ELEMENT_SIZES
    }


def _registers(kernel: KernelText, device: _Machine, tiles: Tiles, block_d: int) -> float:
    """About how many registers a thread needs: in loops for sums and S x S tiles, outside for rows."""
    own, loop, warps, _ = tiles
    work = kernel.work
    threads = device.threads * warps
    row, square = own * block_d / threads, own * loop / threads
    outside = 16 + (0.55 if work.loops else 0.8) * row * work.row_tiles
    if work.products and not work.loops:
        # Products with a D x D value, which is an operand or a sum.
        outside = 16 + device.row_weight * (0.33 * row * work.row_tiles + block_d * block_d / threads)
    inside = 0.0
    if work.loops:
        inside = device.weight * (16 + 1.3 * row * work.sums + square * (1 + 0.8 * work.square_tiles))
    if device.weight > 1 and 32 < own < 16 * warps:
        inside, outside = 1.35 * inside, 1.35 * outside  # warps share rows: operands are held more than once
    return max(inside, outside)


def _shared_memory(kernel: KernelText, tiles: Tiles, element_size: int, block_d: int) -> int:
    """About how many bytes: a tile of each load of the loop for every stage, and the own block's operands."""
    own, loop, _, stages = tiles
    work = kernel.work
    held = own if work.loops else 0
    loads = stages * work.loop_tiles * loop * block_d
    states = 2 * block_d * block_d if work.products and not work.loops else 0
    return element_size * (loads + min(work.row_tiles, 3) * held * block_d + own * loop + states)
