"""What the text of a tile program needs: compile-time constants and small device functions."""

from __future__ import annotations

from codegen.schedule import LOOP
from codegen.tiles.program import (
    AddWeights,
    Cast,
    Combination,
    Dot,
    EndWeights,
    Load,
    Loop,
    Map,
    RandomField,
    SquaredDistances,
    Store,
    TileProgram,
    Weights,
    all_values,
    statements,
)
from codegen.triton_functions import TRITON_FUNCTIONS


def constants(program: TileProgram) -> tuple[str, ...]:
    """The constants that not every kernel takes, in the order of its arguments."""
    needed: set[str] = set()
    for statement in statements(program.body):
        match statement:
            case AddWeights(scale=scale):
                needed |= {"DTYPE", "SCALE"} if scale.scales else {"DTYPE"}
            case EndWeights() | Load(second=True):
                needed.add("DTYPE")
            case Loop(over=over) if over == LOOP:
                needed.add("BLOCK_LOOP")
    for value in all_values(program.body):
        match value:
            case Combination(terms=terms) if any(coefficient.scales for coefficient, _ in terms):
                needed.add("SCALE")
            case Weights(scale=scale):
                needed |= {"DTYPE", "SCALE"} if scale.scales else {"DTYPE"}
            case Cast(wide=False) | SquaredDistances():
                needed.add("DTYPE")
            case Dot():
                needed.add("PRECISION")
            case RandomField():
                needed.add("DROPOUT")
    return tuple(name for name in ("SCALE", "DTYPE", "PRECISION", "DROPOUT", "BLOCK_LOOP") if name in needed)


def device_functions(program: TileProgram) -> frozenset[str]:
    """The functions of ``templates/triton/functions`` that are called."""
    needed: set[str] = set()
    for statement in statements(program.body):
        match statement:
            case Load(second=True):
                needed.add("_load_rest")
            case Load(instances=(_, _)):
                needed.add("_load")
            case Store(instances=(_, _)):
                needed.add("_store")
            case AddWeights():
                needed.add("_add_weights")
            case EndWeights():
                needed.add("_logsumexp")
    for value in all_values(program.body):
        match value:
            case Map(function=function) if TRITON_FUNCTIONS[function].startswith("_"):
                needed.add(TRITON_FUNCTIONS[function].partition("(")[0])
            case Weights():
                needed.add("_weights")
            case RandomField():
                needed.add("_keep")
            case SquaredDistances():
                needed.add("_squared_distances")
    return frozenset(needed)
