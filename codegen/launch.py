"""First choices of tile sizes."""

from __future__ import annotations

from codegen.emit_triton import KernelText

Tiles = tuple[int, int, int, int]


def tile_table(kernel: KernelText) -> dict[tuple[str, int], tuple[Tiles, ...]]:
    return {("cuda", 2): ((64, 64, 4, 2),) * 5}
