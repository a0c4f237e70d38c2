"""A graph as native kernels: the schedule that Triton kernels have, printed as C++."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from codegen.cpp.body import NativeBody, write_native
from codegen.cpp.program import Kept, NativeProgram
from codegen.expr import AXIS_SEQ, Expr, Input, LogSumExp
from codegen.index_notation import formulas
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
    bool done = positions || !mask;"""


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


def _size(node: Expr) -> str:
    """Source of the floats of one head of a stored value."""
    sizes = ["long_" if axis == AXIS_SEQ else "wide" for axis in node.axes] or ["16"]
    return " * ".join([*(["2"] if isinstance(node, LogSumExp) else []), *sizes])


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
    for node in own:
        yield f"    float* {names[node]}_memory = new_floats(batch * heads * ({_size(node)}), done);"
    for number, kernel in enumerate(schedule.kernels, 1):
        places = {
            n: [*targets.get(n, []), *([f"{names[n]}_all"] if n in kept or n not in targets else [])]
            for n in kernel.stores
        }
        body = write_native(kernel, names, frozenset(memory), frozenset(strided), places)
        yield from _kernel(number, kernel, body, names, tensors, memory, strided, places)
        memory |= kernel.stores
    for node in own:
        yield f"    free({names[node]}_memory);"
    yield "    free(positions);"
    yield "    free(counts);"
    yield "    return done ? 0 : 1;"
    yield "}"


def _kernel(
    number: int,
    kernel: Kernel,
    body: NativeBody,
    names: Mapping[Expr, str],
    tensors: Sequence[str],
    memory: set[Expr],
    strided: set[Expr],
    targets: Mapping[Expr, Sequence[str]],
) -> Iterator[str]:
    """One launch."""
    yield ""
    known = {node: names[node] for node in memory}
    for line in formulas({node: names[node] for node in kernel.computes}, known):
        yield f"    // {line}"
    yield f"    size_t floats_{number} = {body.floats};"
    programs = "batch * heads" if body.owns_head else "batch * heads * blocks"
    yield f"    done = done && run({programs}, threads, floats_{number}, [=](long program, float* scratch) {{"
    if body.owns_head:
        yield "        long head = program;"
    else:
        yield "        long head = program / blocks, first_own = program % blocks * OWN;"
    yield "        long count = counts[head / heads];"
    yield "        const int32_t* real = positions ? positions + head / heads * tokens : nullptr;"
    written = [target for places in targets.values() for target in places]
    in_tensors = {n for n in body.reads if isinstance(n, Input) or n in strided}
    heads = {target for target in written if target.endswith("_head")} | {
        f"{names[n]}_head" for n in in_tensors
    }
    for place, tensor in enumerate(tensors):
        if f"{tensor}_head" in heads:
            yield f"        Head {tensor}_head = head_of(tensors[{place}], head / heads, head % heads, real);"
    for node in dict.fromkeys((*body.reads, *targets)):
        if node not in in_tensors and (node not in targets or f"{names[node]}_all" in targets[node]):
            yield f"        float* {names[node]}_all = {names[node]}_memory + head * ({_size(node)});"
    for target in written:
        if target.endswith("_head"):
            when = "" if body.owns_head else "if (first_own == 0) "
            yield f"        {when}clear_padding({target}, tokens, count, head_dim);"
    if not body.owns_head:
        yield "        if (first_own >= count) return;"
        yield "        long own = smaller(OWN, count - first_own);"
        yield from (f"        {line}" for line in (*body.takes, *body.block))
    else:
        yield from (f"        {line}" for line in (*body.takes, *body.before))
        yield "        for (long first_own = 0; first_own < count; first_own += OWN) {"
        yield "            long own = smaller(OWN, count - first_own);"
        yield from (f"            {line}" for line in body.block)
        yield "        }"
        yield from (f"        {line}" for line in body.after)
    yield "    });"
