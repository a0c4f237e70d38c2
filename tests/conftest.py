"""What holds for every test: one thread for torch, so that parallel workers do not crowd each other, and Triton's
interpreter, which must be chosen before Triton is first imported."""

import os
import signal

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TRITON_INTERPRET"] = "1"

# A shell has what it starts in the background ignore interruptions, and nohup hangups; tests of signals need both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def fresh_seed():
    """Drawn anew in every run, or ``OPNAS_TEST_SEED``; printed where a test fails."""
    seed = int(os.environ.get("OPNAS_TEST_SEED") or int.from_bytes(os.urandom(4)))
    print(f"OPNAS_TEST_SEED={seed}")
    return seed
