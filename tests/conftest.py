"""What holds for every test: one thread for torch, so that parallel workers do not crowd each other, and Triton's
interpreter, which must be chosen before Triton is first imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TRITON_INTERPRET"] = "1"
