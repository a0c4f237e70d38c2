"""What holds for every test: one thread for torch, so that parallel workers do not crowd each other."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
