"""Which machine and which versions something ran on. Nothing heavy is loaded to find out."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("opnas", "torch", "triton", "numpy", "networkx", "jinja2", "tokenizers", "transformers", "plotly")
"""What a search and its report depend on."""


def describe_machine() -> dict[str, str]:
    """Processor, cores and system."""
    return {
        "processor": processor(),
        "cores": str(os.cpu_count() or "unknown"),
        "system": platform.platform(),
    }


def installed_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of Python and of ``packages``, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
