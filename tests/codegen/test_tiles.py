"""Tile programs: the checker accepts what is built, and refuses each of many edits of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace

import pytest

from codegen.schedule import LOOP, OTHER, OWN
from codegen.tiles.check import TileError, check_tiles
from codegen.tiles.program import (
    Accumulate,
    AddWeights,
    Cast,
    Dot,
    FirstOther,
    Let,
    Load,
    Loop,
    Masked,
    Start,
    Store,
    Tile,
    TileProgram,
    Transpose,
)
from codegen.triton_program import triton_program
from graphir import AttentionGraph
from tests.codegen.faults import COSINE, PLAIN, SQUARES_AND_ROWS, STATE, UNMASKED_STATE
from tests.codegen.golden_kernels import graphs


def programs(text) -> list[TileProgram]:
    return [kernel.program for kernel in triton_program(AttentionGraph.from_expression(text)).kernels]


def edited(part, edit: Callable):
    """A program, or a part of one, with ``edit(part)`` in place of each part; what it gives None for is left out."""
    if isinstance(part, tuple):
        made = (edited(each, edit) for each in part)
        return tuple(each for each in made if each is not None)
    if not is_dataclass(part):
        return part
    changes = {f.name: edited(getattr(part, f.name), edit) for f in fields(part)}
    return edit(replace(part, **changes))


def only(kind, change):
    return lambda part: change(part) if isinstance(part, kind) else part


EDITS = {
    "a sum counts padded places": (UNMASKED_STATE, only(Masked, lambda x: x.value)),
    "a tile is masked along another axis": (UNMASKED_STATE, only(Masked, lambda x: replace(x, axis=OTHER))),
    "operands of a product are exchanged": (PLAIN, only(Dot, lambda x: Dot(x.right, x.left))),
    "an operand is read as it stands": (PLAIN, only(Transpose, lambda x: x.value)),
    "an operand stays in 32 bits": (PLAIN, only(Cast, lambda x: x.value)),
    "a sum is not repaired": (PLAIN, only(Accumulate, lambda x: replace(x, repair=None))),
    "a softmax begins anew with each tile": (PLAIN, only(AddWeights, lambda x: replace(x, running=False))),
    "a softmax is taken over rows": (PLAIN, only(AddWeights, lambda x: replace(x, dimension=0))),
    "a softmax masks another axis": (PLAIN, only(AddWeights, lambda x: replace(x, axis=OWN))),
    "a loop carries nothing": (PLAIN, only(Loop, lambda x: replace(x, carried=()))),
    "a loop begins its sums in each tile": (
        STATE,
        only(Loop, lambda x: replace(x, carried=(), body=(*x.carried, *x.body))),
    ),
    "a chunk is walked as a loop": (STATE, only(Loop, lambda x: replace(x, over=LOOP))),
    "nothing is added up": (PLAIN, only(Accumulate, lambda x: None)),
    "sums are added twice": (PLAIN, only(Loop, lambda x: replace(x, body=(*x.body, x.body[-1])))),
    "nothing is loaded": (PLAIN, only(Load, lambda x: None)),
    "what is loaded is another tile": (
        PLAIN,
        only(Load, lambda x: replace(x, tile=replace(x.tile, axes=x.tile.axes[::-1]))),
    ),
    "halves of a logsumexp are not stored": (PLAIN, only(Store, lambda x: None if x.second else x)),
    "a result is stored twice": (COSINE, lambda x: double_store(x)),
    "a result stands at the loop": (PLAIN, only(Store, lambda x: replace(x, instances=(LOOP,)))),
    "a tile is read after its loop": (PLAIN, lambda x: outside(x)),
    "tiles are taken for zero": (
        "Q @ (sigmoid(K).T @ sigmoid(V))",
        only(Tile, lambda x: replace(x, zeros=frozenset(range(len(x.axes))))),
    ),
    "tiles of a branch are read behind it": (
        SQUARES_AND_ROWS,
        lambda x: replace(x, body=behind_branches(x.body)) if isinstance(x, TileProgram) else x,
    ),
    "a running sum has another start": (PLAIN, only(Start, lambda x: replace(x, tile=renamed(x.tile)))),
    "a tile is known under another name": (PLAIN, only(Let, lambda x: replace(x, tile=renamed(x.tile)))),
}


def renamed(tile):
    return replace(tile, name=f"{tile.name}_other")


def double_store(part):
    if not isinstance(part, TileProgram):
        return part
    return replace(part, body=(*part.body, *(x for x in part.body if isinstance(x, Store))))


def outside(part):
    """The last loop's tiles, stored behind it in place of what was."""
    if not isinstance(part, TileProgram):
        return part
    inner = [x.tile for loop in part.body if isinstance(loop, Loop) for x in loop.body if isinstance(x, Let)]
    return edited(part, only(Store, lambda x: replace(x, value=inner[0]))) if inner else part


def behind_branches(body):
    made = []
    for statement in body:
        made.append(statement)
        if isinstance(statement, FirstOther):
            made += [x for x in statement.body if isinstance(x, Store)]
    return tuple(made)


@pytest.mark.parametrize("name", dict(graphs()))
def test_the_checker_accepts_what_is_built(name):
    for kernel in triton_program(dict(graphs())[name]).kernels:
        check_tiles(kernel.program)


@pytest.mark.parametrize("name", EDITS)
def test_the_checker_refuses_an_edit(name):
    text, edit = EDITS[name]
    refused = 0
    for program in programs(text):
        faulty = edited(program, edit)
        if faulty != program:
            with pytest.raises(TileError):
                check_tiles(faulty)
            refused += 1
    assert refused, "the edit changes nothing"
