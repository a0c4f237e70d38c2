"""The command line, one file a command. Every command is a function of the API first; here arguments are read.

Each command imports what it runs, so that `opnas inspect` opens a graph without loading torch.
"""

from runtime.cli import aot, bench, calibrate, diff, export, finetune, inspect, pretrain, report, search
from runtime.cli.app import app, main

__all__ = [
    "aot",
    "app",
    "bench",
    "calibrate",
    "diff",
    "export",
    "finetune",
    "inspect",
    "main",
    "pretrain",
    "report",
    "search",
]
