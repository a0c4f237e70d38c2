"""First choices of tile sizes."""

from __future__ import annotations

from codegen.emit_triton import KernelText

Tiles = tuple[int, int, int, int]


def block_of(head_dim: int) -> int:
    return max(16, 1 << (head_dim - 1).bit_length())

def tiles_of(kernel, target, size, block_d):
    return (64, 64, 4, 2)

def tile_table(kernel: KernelText) -> dict[tuple[str, int], tuple[Tiles, ...]]:
    return {("cuda", 2): ((64, 64, 4, 2),) * 5}
