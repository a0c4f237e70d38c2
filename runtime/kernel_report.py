"""Kernels as text: what a plan says with the source, and what an ahead-of-time build tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from codegen import BlockSizes, KernelBuild, build_ahead, build_blocks, kernel_program, plan_kernels
from graphir import AttentionGraph
from graphir.cost import quantity


def describe_kernels(graphs: Iterable[AttentionGraph]) -> Iterator[str]:
    """For each graph its formula, the plan of its kernels with roofline times, and their source."""
    for graph in graphs:
        program = kernel_program(graph)
        plan = plan_kernels(program)
        yield f"{graph.name}: {graph.equation()}\n\nplan: {plan}\n\n{plan.roofline()}\n\n{program.source}"


def build_table(
    graphs: Iterable[AttentionGraph],
    targets: Iterable[str],
    head_dim: int,
    dtype: str,
    masked: bool,
    dropout: bool,
    blocks: BlockSizes | None = None,
) -> Iterator[str]:
    """Build all kernels for each target; a line each, as they are done. With ``blocks``, those beside attention too.

    Yields:
        Lines of a table; the last says how many spill or do not fit.
    """
    variant = ", ".join([dtype, *(["masked"] if masked else []), *(["dropout"] if dropout else [])])
    yield (
        f"built ahead of time, head dimension {head_dim}, {variant}; "
        "tiles: own x loop, warps, stages; loop: instructions of the hottest one"
    )
    yield (
        f"{'graph or block':24} {'kernel':12} {'target':7} {'tiles':>14} {'registers':>9} {'spilled':>8} {'shared':>9} "
        f"{'limit':>9} {'loop':>6} {'seconds':>7}"
    )
    builds: list[KernelBuild] = []
    targets = tuple(targets)
    for graph in graphs:
        for target in targets:
            for build in build_ahead(graph, target, head_dim, dtype, masked, dropout):
                builds.append(build)
                yield _line(graph.name, target, build)
    for target in targets if blocks else ():
        for name, build in build_blocks(blocks or BlockSizes(), target, dtype, masked, dropout):
            builds.append(build)
            yield _line(name, target, build)
    spilled, unfit = sum(build.spilled > 0 for build in builds), sum(not build.fits for build in builds)
    yield f"{len(builds)} kernels: {spilled} spill registers, {unfit} exceed the device's shared memory"


def _line(name: str, target: str, build: KernelBuild) -> str:
    own, loop, warps, stages = build.tiles
    return (
        f"{name:24.24} {build.kernel:12} {target:7} {f'{own}x{loop}, {warps}, {stages}':>14} {build.registers:>9} "
        f"{quantity(build.spilled, 'B'):>8} {quantity(build.shared_memory, 'B'):>9} "
        f"{quantity(build.shared_limit, 'B'):>9} {build.loop or '-':>6} {build.seconds:>7.1f}"
    )
