"""One launch of a native kernel as text: its programs, what they read and write, and its body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from codegen.cpp.body import write_native
from codegen.expr import AXIS_SEQ, Expr, Input, LogSumExp
from codegen.index_notation import formulas
from codegen.schedule import Kernel


@dataclass(frozen=True)
class Printer:
    """Writes the kernels of one direction.

    Attributes:
        names: of all values that stand in memory.
        tensors: names of PyTorch's tensors, in the order of the arguments.
        strided: values that stand in such tensors.
        targets: for results the heads that they go to.
        kept: values that the forward keeps, which stand in memory too.
    """

    names: Mapping[Expr, str]
    tensors: Sequence[str]
    strided: set[Expr]
    targets: Mapping[Expr, Sequence[str]]
    kept: frozenset[Expr]

    def kernel(self, kernel: Kernel, memory: frozenset[Expr], swapped: Sequence[Expr] = ()) -> Iterator[str]:
        """A kernel's launch; ``swapped`` as of `codegen.cpp.body.write_native`."""
        names, ready = self.names, {node for node in kernel.computes if node in memory}
        targets: dict[Expr, list[str]] = {}
        for node in sorted(kernel.stores, key=lambda n: n.serial):
            places = [*self.targets.get(node, [])]
            if (node in self.kept or node not in self.targets) and node not in ready:
                places.append(f"{names[node]}_all")
            targets[node] = places
        strided = frozenset(self.strided - ready)
        body = write_native(kernel, names, memory, strided, targets, swapped)
        yield ""
        computed = {node: names[node] for node in (*kernel.computes, *swapped) if node not in ready}
        for line in formulas(computed, {node: names[node] for node in memory}):
            yield f"    // {line}"
        programs = "batch * heads" if body.owns_head else "batch * heads * blocks"
        yield "    floats = 64;"
        for take in body.takes:
            yield f"    floats += {take.split('take(scratch, ')[1].join(['floats_of(', ''])}"
        yield f"    done = done && run({programs}, threads, floats, [=](long program, float* scratch) {{"
        yield "        long head = program;" if body.owns_head else "        long head = program / blocks;"
        yield "        long count = counts[head / heads];"
        yield "        const int32_t* real = positions ? positions + head / heads * tokens : nullptr;"
        written = [target for places in targets.values() for target in places if target.endswith("_head")]
        in_tensors = {n for n in body.reads if isinstance(n, Input) or n in strided}
        heads = {*written, *(f"{names[node]}_head" for node in in_tensors)}
        for place, tensor in enumerate(self.tensors):
            if f"{tensor}_head" in heads:
                yield f"        Head {tensor}_head = head_of(tensors[{place}], head / heads, head % heads, real);"
        for node in dict.fromkeys((*body.reads, *targets, *swapped)):
            stored = node in swapped or f"{names[node]}_all" in targets.get(node, [])
            if stored or (node in body.reads and node not in in_tensors):
                yield f"        float* {names[node]}_all = {names[node]}_memory + head * ({size_of_head(node)});"
        if not body.owns_head:
            yield "        long first_own = program % blocks * OWN;"
        for target in written:
            when = "" if body.owns_head else "if (first_own == 0) "
            yield f"        {when}clear_padding({target}, tokens, count, head_dim);"
        if body.owns_head:
            yield from indented((*body.takes, *body.before), 2)
            yield "        for (long first_own = 0; first_own < count; first_own += OWN) {"
            yield "            long own = smaller(OWN, count - first_own);"
            yield from indented(body.block, 3)
            yield "        }"
            yield from indented(body.after, 2)
        else:
            yield "        if (first_own >= count) return;"
            yield "        long own = smaller(OWN, count - first_own);"
            yield from indented((*body.takes, *body.block), 2)
        yield "    });"


def size_of_head(node: Expr) -> str:
    """Source of the floats of one head of a stored value."""
    sizes = ["long_" if axis == AXIS_SEQ else "wide" for axis in node.axes] or ["16"]
    return " * ".join([*(["2"] if isinstance(node, LogSumExp) else []), *sizes])


def indented(lines: Iterable[str], depth: int = 1) -> Iterator[str]:
    """The lines, further in."""
    for line in lines:
        yield f"{'    ' * depth}{line}" if line else line
