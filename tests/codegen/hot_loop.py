"""Instructions of the hottest loop of plain attention: generated kernels beside those written by hand.

``python -m tests.codegen.hot_loop`` builds both with the same tiles and prints the table of docs/compiler.md. It needs
no GPU; nothing can be built where the environment has TRITON_INTERPRET=1.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from itertools import product

from codegen.aot import build_ahead, build_function
from graphir import presets

BY_HAND = {"forward": "forward_1", "grad_q": "backward_2", "grad_kv": "backward_3"}
"""The generated kernel of ``bert/1`` that does what each one of `tests.codegen.plain_attention_kernels` does."""
TARGETS = ("sm_80", "sm_90")
HEAD_DIMS = (64, 128)


@dataclass(frozen=True)
class Comparison:
    """Instructions in the hottest loop of two kernels that do the same with the same tiles.

    Attributes:
        kernel: a key of `BY_HAND`.
        target, head_dim, tiles: what both were built for.
        generated, by_hand: the counts.
    """

    kernel: str
    target: str
    head_dim: int
    tiles: str
    generated: int
    by_hand: int

    @property
    def ratio(self) -> float:
        return self.generated / self.by_hand


def compare(target: str, head_dim: int) -> list[Comparison]:
    """Build all kernels for a target and a head dimension, in bfloat16."""
    from tests.codegen import plain_attention_kernels

    generated = {build.kernel: build for build in build_ahead(presets.get("bert/1"), target, head_dim)}
    found = []
    for name, twin in BY_HAND.items():
        function = getattr(plain_attention_kernels, f"{name}_kernel")
        own, loop, warps, stages = tiles = generated[twin].tiles
        constants = {"SCALE": head_dim**-0.5, "D": head_dim, "BLOCK_OWN": own, "BLOCK_LOOP": loop}
        types = dict.fromkeys(function.arg_names, "i32")
        types |= {argument: "*bf16" for argument in types if argument.endswith("_ptr")}
        types |= {"lse_ptr": "*fp32", "delta_ptr": "*fp32"}
        variable = {argument: kind for argument, kind in types.items() if argument not in constants}
        by_hand = build_function(function, variable, constants, target, tiles)
        text = f"{own} x {loop}, {warps}, {stages}"
        found.append(Comparison(name, target, head_dim, text, generated[twin].loop, by_hand.loop))
    return found


def main() -> None:
    """Print a table, or the comparisons of ``TARGET HEAD_DIM`` as JSON where those are given."""
    if len(sys.argv) == 3:
        print(json.dumps([asdict(each) for each in compare(sys.argv[1], int(sys.argv[2]))]))
        return
    print(
        "| kernel | target | D | tiles, warps, stages | by hand | generated | ratio |\n|---|---|---|---|---|---|---|"
    )
    for target, head_dim in product(TARGETS, HEAD_DIMS):
        for each in compare(target, head_dim):
            cells = (each.kernel, target, head_dim, each.tiles, each.by_hand, each.generated)
            print(f"| {' | '.join(map(str, cells))} | {each.ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
