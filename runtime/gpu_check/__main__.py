"""The command ``python -m runtime.gpu_check``; see ``--help``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

SECONDS = 450.0
MOST_WORKERS = 16
"""Each holds half a gigabyte of the device for its context."""


def main(arguments: list[str] | None = None) -> int:
    """Run a check, print its table, write its JSON.

    Returns:
        0 where everything generated that was reached is right, 1 where something is not, 2 without a GPU.
    """
    parser = argparse.ArgumentParser(
        prog="python -m runtime.gpu_check",
        description="Build, check and time what the compiler writes, on one GPU.",
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it may take (%(default).0f)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--corpus", type=Path, help="file of more graphs to check (opnas.corpus/1)")
    parser.add_argument(
        "--backend", choices=("triton", "torch"), default="triton", help="of the generated form"
    )
    parser.add_argument("--workers", type=int, help="processes that check at a time, by default one a core")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes in Triton's interpreter, on a CPU")
    parser.add_argument("--quiet", action="store_true", help="no line for each cell while it runs")
    options = parser.parse_args(arguments)
    if options.tiny:
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

    import torch

    from graphir.files import write_json
    from runtime.gpu_check.blocks import check_blocks, format_blocks
    from runtime.gpu_check.cases import all_graphs
    from runtime.gpu_check.forms import Place
    from runtime.gpu_check.run import run
    from runtime.gpu_check.table import format_report
    from runtime.gpu_check.work import full_work, tiny_work

    if not options.tiny and not torch.cuda.is_available():
        print("no GPU can be reached: --tiny runs through everything on a CPU", file=sys.stderr)
        return 2
    if not options.tiny:
        os.environ.pop("TRITON_INTERPRET", None)  # kernels are to be built, in every process
    workers = options.workers
    if workers is None:
        workers = 0 if options.tiny else min(MOST_WORKERS, os.cpu_count() or 1)
    graphs = all_graphs(options.corpus)
    work = tiny_work(graphs) if options.tiny else full_work(graphs)
    place = Place("cpu" if options.tiny else "cuda", options.backend)
    tell = None if options.quiet else lambda line: print(line, flush=True)
    start = time.monotonic()
    blocks = check_blocks(place.device, options.tiny, tell or (lambda line: None))
    report = run(work, place, options.seconds - (time.monotonic() - start), workers, tell)
    if options.out:
        write_json(options.out, report.to_dict() | {"blocks": [cell.to_dict() for cell in blocks]})
    print(format_blocks(blocks) + "\n\n" + format_report(report))
    return 1 if report.broken or any(cell.broken for cell in blocks) else 0


if __name__ == "__main__":
    raise SystemExit(main())
