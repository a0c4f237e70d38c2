"""A pretraining that is killed and gone on with ends as one that never was, to the last bit."""

import json
import os
import random
import subprocess
import sys

# One process that has loaded everything and computed nothing forks those that train: each begins in no time.
DRIVER = """
import os, signal, sys
from pathlib import Path
import accelerate, torch, torch._dynamo, torch.utils.checkpoint
import matplotlib.backends.backend_agg, matplotlib.backends.backend_svg
from graphir import Backbone, ConvLayer, presets
from runtime.pretraining.pretrain import pretrain
from runtime.pretraining.reporter import Silent
from runtime.pretraining.settings import Pretraining

torch.set_num_threads(1)
folder, text, deaths = Path(sys.argv[1]), sys.argv[2], [int(step) for step in sys.argv[3:]]
backbone = Backbone((ConvLayer(3), presets.get("autobert-zero").layers[-1]), 16, 2, 32, name="tiny")
settings = Pretraining(
    steps=40, seq_len=32, batch_size=4, accumulate=2, learning_rate=1e-2, vocab_size=300, masking="word", device="cpu",
    checkpoint_every=5, evaluate_every=7, held_out_sequences=20, gradient_checkpointing=True,
)

class Death(Silent):
    def __init__(self, step):
        self.at = step
    def step(self, record):
        if record.step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

def die_in_a_checkpoint():
    from runtime.pretraining import checkpoint
    def save(weights, path):
        path.write_bytes(b"half of a file")
        os.kill(os.getpid(), signal.SIGKILL)
    checkpoint.save_weights = save

def run(name, death=0, in_checkpoint=False):
    child = os.fork()
    if child == 0:
        try:
            if in_checkpoint:
                die_in_a_checkpoint()
            pretrain(
                backbone, text, folder / name, settings, held_out=text, tokens=folder / "tokens", resume=True,
                reporter=Death(death), log=False,
            )
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert run("whole") == 0
for step in deaths:
    assert run("killed", step) == -signal.SIGKILL, step
assert run("killed", in_checkpoint=True) == -signal.SIGKILL
assert list((folder / "killed" / ".pretraining").glob(".checkpoint-*.tmp")), "nothing was left half-written"
assert run("killed") == 0
"""


def test_killed_at_three_random_steps_the_end_is_the_same_to_the_last_bit(tmp_path, corpus_file):
    seed = random.randrange(10**6)
    draws = random.Random(seed)
    # Increasing, so that each process gets so far; within one checkpoint of each other at times. The driver kills it
    # once more while it writes a checkpoint.
    deaths = sorted(draws.sample(range(1, 40), 3))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(corpus_file), *map(str, deaths)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    whole, killed = (
        json.loads((tmp_path / name / "pretraining.json").read_text()) for name in ("whole", "killed")
    )
    assert len(whole["losses"]) == 40
    assert killed["losses"] == whole["losses"], f"seed {seed}, killed at {deaths}"
    assert killed["evaluations"] == whole["evaluations"], f"seed {seed}, killed at {deaths}"
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1], f"seed {seed}, killed at {deaths}"
    assert not list((tmp_path / "killed").glob(".*")), "something to work with was left"
