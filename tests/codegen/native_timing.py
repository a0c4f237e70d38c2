"""Times of native kernels, by hand and generated, beside PyTorch's: ``python -m tests.codegen.native_timing``.

Forward, and forward with backward, of ``softsign(Q @ K.T) @ V`` and of plain attention; B = 2, H = 4, D = 64, float32.
Wall clock of a quiet machine, or with ``--cpu`` the processor time of one thread, which neighbours disturb less.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import torch

from codegen import compile_attention
from codegen.cpp.operators import native_attention
from graphir import AttentionGraph
from runtime.timing import time_interleaved
from tests.codegen.native_attention import program

F = torch.nn.functional


def generated(text: str) -> Callable[..., torch.Tensor]:
    """The native kernels that the compiler writes."""
    return compile_attention(AttentionGraph.from_expression(text), backend="cpp")


FORMS: dict[str, Callable[..., torch.Tensor]] = {
    "softsign, by hand": native_attention(program("softsign")),
    "softsign, generated": generated("softsign(Q @ K.T) @ V"),
    "softsign, eager": lambda q, k, v: F.softsign(q @ k.mT) @ v,
    "plain, by hand": native_attention(program("softmax")),
    "plain, generated": generated("softmax(scale(Q @ K.T)) @ V"),
    "plain, SDPA": F.scaled_dot_product_attention,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seq-len", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="processor time instead of the wall clock")
    parser.add_argument(
        "--memory", type=int, metavar="S", help="peak memory of softsign, one head, instead of times"
    )
    arguments = parser.parse_args()
    if arguments.memory:
        return print_memory(arguments.memory)
    clock = time.process_time if arguments.cpu else time.perf_counter
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for seq_len in arguments.seq_len:
            print_times(seq_len, arguments.rounds, clock, f"{threads} thread(s), {seq_len} tokens")
    return None


def print_times(seq_len: int, rounds: int, clock: Callable[[], float], title: str) -> None:
    """Medians in milliseconds of interleaved rounds."""
    *leaves, g = torch.randn(4, 2, 4, seq_len, 64, generator=torch.Generator().manual_seed(0)).unbind()
    leaves = [x.clone().requires_grad_() for x in leaves]

    def forward(form: Callable[..., torch.Tensor]) -> None:
        with torch.no_grad():
            form(*leaves)

    def both(form: Callable[..., torch.Tensor]) -> None:
        torch.autograd.grad(form(*leaves), leaves, g)

    print(title, "(ms: forward, forward + backward)")
    columns = [
        time_interleaved({name: partial(step, form) for name, form in FORMS.items()}, rounds, clock=clock)
        for step in (forward, both)
    ]
    for name in FORMS:
        print(f"  {name:20}", *(f"{column[name].median * 1e3:9.2f}" for column in columns))


def print_memory(seq_len: int) -> None:
    """What forward and backward of softsign take beyond what the process has, one head, D = 64."""
    for tokens in (64, seq_len):  # the first call loads what every call needs
        *leaves, g = (x.clone() for x in torch.randn(4, 1, 1, tokens, 64))
        leaves = [x.requires_grad_() for x in leaves]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        torch.autograd.grad(FORMS["softsign, generated"](*leaves), leaves, g)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"softsign, {seq_len} tokens, one head: {(peak - before) / 1024:.0f} MiB beyond the inputs")


if __name__ == "__main__":
    main()
