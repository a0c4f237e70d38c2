"""What stands in a built kernel: the instructions of its loops, counted in the disassembly.

Loops are found as in any compiler: a jump back to a place through which all ways to the jump lead closes a loop, and
the loop is everything from that place to the jump (natural loops: Aho et al., "Compilers", section 9.6). So what a
compiler puts behind the end of a kernel, such as waiting for a barrier, belongs to the loop that jumps there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SASS = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);", re.MULTILINE)
_SASS_JUMPS = ("BRA", "CALL", "JMP")
_SASS_ENDS = ("EXIT", "RET", "BRX", "JMX")
_SHORTEST_LOOP = 8  # shorter ones wait at a barrier


@dataclass(frozen=True)
class Instruction:
    """One instruction, as far as counting needs it.

    Attributes:
        is_matrix: whether it multiplies matrices.
        target: the place of the instruction that it may jump to.
        continues: whether the next one may follow.
    """

    is_matrix: bool = False
    target: int | None = None
    continues: bool = True


def hottest_loop(code: list[Instruction]) -> int:
    """How many instructions the loop has that multiplies most matrices; 0 where there is no loop.

    Of loops with equally many such instructions, one inside another, it is the inner one. Where a loop is pipelined,
    it is the steady part: what the compiler peeled off before and behind it is not counted. Instructions stand once,
    however many times an inner loop or a branch runs them.
    """
    loops = [loop for loop in _loops(code) if len(loop) >= _SHORTEST_LOOP]
    return -max(((sum(code[n].is_matrix for n in loop), -len(loop)) for loop in loops), default=(0, 0))[1]


def read_sass(text: str) -> list[Instruction]:
    """The instructions of what ``cuobjdump -sass`` prints for one kernel, without ``NOP``.

    All others count as one, those under a predicate too.
    """
    places: dict[int, int] = {}
    found: list[tuple[str, str, str]] = []
    for address, predicate, name, operands in _SASS.findall(text):
        places[int(address, 16)] = len(found)
        if name != "NOP":
            found.append((predicate, name, operands))
    code = []
    for predicate, name, operands in found:
        stem = name.partition(".")[0]
        goal = re.search(r"0x([0-9a-f]+)$", operands.strip()) if stem in _SASS_JUMPS else None
        # A branch has its condition before it, or among its operands: BRA.U UP0, 0x190.
        always = not predicate and "," not in operands
        stops = stem in (*_SASS_JUMPS, *_SASS_ENDS) and always and stem != "CALL"
        code.append(
            Instruction(stem.endswith("MMA"), places.get(int(goal[1], 16)) if goal else None, not stops)
        )
    return code


def read_amdgcn(text: str) -> list[Instruction]:
    """The instructions of a kernel's assembly for AMD, without ``s_nop``."""
    labels: dict[str, int] = {}
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if label := re.match(r"(\.\w+):", line):
            labels[label[1]] = len(found)
        elif (statement := re.match(r"\s+([a-z]\w*)\s*([^;]*)", line)) and statement[1] != "s_nop":
            found.append((statement[1], statement[2].strip()))
    return [
        Instruction(
            name.startswith(("v_mfma", "v_smfma", "v_wmma")),
            labels.get(operands) if name.startswith(("s_branch", "s_cbranch")) else None,
            name not in ("s_branch", "s_endpgm", "s_setpc_b64"),
        )
        for name, operands in found
    ]


def _loops(code: list[Instruction]) -> Iterator[set[int]]:
    """The places of each loop's instructions."""
    predecessors: list[list[int]] = [[] for _ in code]
    for place in range(len(code)):
        for successor in _successors(code, place):
            predecessors[successor].append(place)
    for header, before in enumerate(predecessors):
        if len(before) > 1 or header == 0:
            bodies = [_ways_back(place, header, predecessors) for place in before]
            # Where a way from the first instruction leads past the header, the jump closes no loop.
            closed = [body for body in bodies if header == 0 or 0 not in body]
            if closed:
                yield set().union(*closed)


def _successors(code: list[Instruction], place: int) -> Iterator[int]:
    if code[place].continues and place + 1 < len(code):
        yield place + 1
    target = code[place].target
    if target is not None and target < len(code):
        yield target


def _ways_back(place: int, header: int, predecessors: list[list[int]]) -> set[int]:
    """The header, and everything from which the place is reached without passing it."""
    body, waiting = {header}, [place]
    while waiting:
        reached = waiting.pop()
        if reached not in body:
            body.add(reached)
            waiting += predecessors[reached]
    return body
