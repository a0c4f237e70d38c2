"""Opening a graph is quick and loads nothing heavy."""

import subprocess
import sys

HEAVY = ("torch", "matplotlib", "triton", "transformers")


def test_importing_the_room_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, graphir; g = graphir.presets.get('autobert-zero/2'); "
        "g.summary(), g.equation('latex'), g.to_dot(), g.to_mermaid(), g.diff(g), g.canonical_hash(); "
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_importing_takes_well_under_a_second_of_processor_time() -> None:
    # Processor time, not wall-clock, so that a busy machine does not fail it; the best of three, so that a
    # cold disk does not either. It takes about 0.2 s, most of it NumPy and networkx.
    code = "import time; start = time.process_time(); import graphir; print(time.process_time() - start)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(runs) < 0.8
