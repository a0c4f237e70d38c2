"""Python in a new process that has none of our rooms in reach."""

from __future__ import annotations

import os
import subprocess
import sys

NO_ROOMS = """
import sys
from pathlib import Path
sys.path = [p for p in sys.path if not (Path(p or ".") / "graphir").exists()]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
for room in ("graphir", "codegen", "evolution", "runtime", "templates"):
    try:
        __import__(room)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{room} is in reach: this test would prove nothing")
"""


def run_without_rooms(code, *arguments, cwd, **environment):
    """What ``code`` prints, with ``arguments`` in ``sys.argv``; it fails the test where the code fails."""
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOMS + code, *map(str, arguments)],
        env={**os.environ, "TRITON_INTERPRET": "0", **environment},
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
