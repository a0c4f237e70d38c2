"""A graph as native kernels: the schedule that Triton kernels have, printed as C++."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from codegen.cpp.launch import Printer, indented, size_of_head
from codegen.cpp.merge import OnePass, one_pass
from codegen.cpp.program import Kept, NativeProgram
from codegen.expr import AXIS_SEQ, Expr, Input, LogSumExp
from codegen.schedule import Kernel, Schedule
from codegen.triton_program import TritonProgram

OWN_TOKENS = LOOP_TOKENS = 64
"""Tokens of an own block, and of a tile of a loop."""
_PARAMETERS = """\
    const Tensor* tensors, float* const* kept, const uint8_t* mask, const Shape* shape, const Dropout* dropout,
    int threads
) {
    long batch = shape->batch, heads = shape->heads, tokens = shape->tokens, head_dim = shape->head_dim;
    long blocks = (tokens + OWN - 1) / OWN, long_ = padded(tokens, 16), wide = padded(head_dim, 16);
    float scale = 1.0f / __builtin_sqrtf((float)head_dim);
    int32_t* counts = (int32_t*)malloc(sizeof(int32_t) * (batch + 1));
    if (!counts) return 1;
    int32_t* positions = real_tokens(mask, batch, tokens, counts);
    bool done = positions || !mask;
    size_t floats;"""


def native_program(program: TritonProgram) -> NativeProgram:
    """Native kernels of both directions, from the schedules of a graph's Triton kernels.

    Raises:
        ScheduleError: where a value has no native form yet: one of tokens x tokens that must be stored.
    """
    forward, backward, names = program.forward_schedule, program.backward_schedule, program.names
    out = forward.roots["out"].node
    kept = [node for node in sorted(backward.given, key=lambda n: n.serial) if not isinstance(node, Input)]
    residuals = [node for node in kept if node is not out]
    inputs = program.inputs
    reads_out = any(node is out for node in kept)
    tensors = [*inputs, "out"]
    text = [
        f"// {program.equation}",
        "",
        f"constexpr long OWN = {OWN_TOKENS}, LOOP = {LOOP_TOKENS};",
        "",
        *_direction("forward", forward, names, tensors, residuals, {out}, {out: ["out_head"]}),
    ]
    targets: dict[Expr, list[str]] = {}
    for name in inputs:
        if name in backward.roots:
            targets.setdefault(backward.roots[name].node, []).append(f"grad_{name}_head")
    tensors = [*inputs, *(["out"] if reads_out else []), "g", *(f"grad_{name}" for name in inputs)]
    text += ["", *_direction("backward", backward, names, tensors, residuals, {out, *targets}, targets)]
    return NativeProgram(
        program.equation,
        inputs,
        "\n".join([*text, ""]),
        tuple(Kept(names[n], _axes(n), 2 if isinstance(n, LogSumExp) else 1) for n in residuals),
        reads_out,
        program.dropout,
        tuple(name for name in inputs if name not in backward.roots),
    )


def _axes(node: Expr) -> tuple[str, ...]:
    return tuple(sorted(node.axes, key=lambda axis: axis != AXIS_SEQ))


def _direction(
    name: str,
    schedule: Schedule,
    names: Mapping[Expr, str],
    tensors: Sequence[str],
    kept: Sequence[Expr],
    strided: set[Expr],
    targets: Mapping[Expr, list[str]],
) -> Iterator[str]:
    """The function of one direction."""
    yield f"// tensors: {', '.join(tensors)}" + (
        f"; kept: {', '.join(names[n] for n in kept)}" if kept else ""
    )
    yield f"EXPORTED int {name}("
    yield _PARAMETERS
    for place, node in enumerate(kept):
        yield f"    float* {names[node]}_memory = kept[{place}];"
    memory = set(schedule.given)
    own = [
        n for kernel in schedule.kernels for n in kernel.computes if n in kernel.stores and n not in targets
    ]
    own = [node for node in own if node not in kept]
    launches = list(_launches(schedule, frozenset(targets)))
    own += [node for _, merged in launches if merged for node in (*merged.swapped, *merged.kept)]
    own = [node for node in dict.fromkeys(own) if node not in kept]
    for node in own:
        yield f"    float* {names[node]}_memory = new_floats(batch * heads * ({size_of_head(node)}), done);"
    printer = Printer(names, tensors, strided, targets, frozenset(kept))
    for kernels, merged in launches:
        before = frozenset(memory)
        apart: list[str] = []
        for kernel in kernels:
            apart += printer.kernel(kernel, frozenset(memory))
            memory |= kernel.stores
        if merged is None:
            yield from apart
            continue
        yield ""
        yield "    if (batch * heads >= threads) {"
        yield from indented(printer.kernel(merged.first, before, merged.swapped))
        yield from indented(printer.kernel(merged.then, before | {*merged.swapped, *merged.kept}))
        yield "    } else {"
        yield from indented(apart)
        yield "    }"
    for node in own:
        yield f"    free({names[node]}_memory);"
    yield "    free(positions);"
    yield "    free(counts);"
    yield "    return done ? 0 : 1;"
    yield "}"


def _launches(schedule: Schedule, roots: frozenset[Expr]) -> Iterator[tuple[list[Kernel], OnePass | None]]:
    """The kernels, two together where they can be one pass."""
    memory, place, kernels = set(schedule.given), 0, schedule.kernels
    while place < len(kernels):
        for count in (2, 1):
            taken = list(kernels[place : place + count])
            merged = one_pass(taken, frozenset(memory), roots) if len(taken) == count else None
            if merged:
                break
        yield taken, merged
        for kernel in taken:
            memory |= kernel.stores
        place += len(taken)
