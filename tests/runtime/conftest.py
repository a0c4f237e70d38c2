"""A small corpus and the options of a search that takes seconds."""

import random

import pytest

from evolution import SearchSpace
from runtime.proxy_config import ProxyConfig
from runtime.run_config import RunConfig

SUBJECTS = [
    "the graph",
    "a kernel",
    "the loop",
    "every node",
    "one layer",
    "the search",
    "a token",
    "the mask",
]
VERBS = ["reads", "writes", "keeps", "returns", "holds", "moves", "checks", "names"]
OBJECTS = [
    "its inputs",
    "a value",
    "the result",
    "two operands",
    "every row",
    "the padding",
    "a score",
    "the key",
]


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory):
    """About 60 KB of distinct paragraphs."""
    rng = random.Random(0)

    def sentence():
        return f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}".capitalize() + "."

    paragraphs = [f"{number}. " + " ".join(sentence() for _ in range(8)) for number in range(300)]
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_options(corpus_file):
    """Options of `opnas search` for the smallest search that is one."""
    sizes = {
        "corpus": corpus_file,
        "candidates": 7,
        "population": 3,
        "parents": 2,
        "layers": 2,
        "hidden-size": 16,
        "heads": 2,
        "ffn-size": 32,
        "vocab-size": 300,
        "seq-len": 32,
        "batch-size": 8,
        "held-out": 32,
        "warm-up-steps": 10,
        "candidate-steps": 2,
        "winner-steps": 4,
        "comparison-steps": 1,
        "probe-steps": 2,
        "executor": "local",  # processes take seconds to load PyTorch
    }
    return [part for name, value in sizes.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="session")
def tiny_config():
    """A search of the API that takes less than a second."""
    return RunConfig(
        candidates=2,
        strategy_settings={"population": 2, "parents": 1},
        space=SearchSpace(layers=1, hidden_size=16, heads=2, ffn_size=16),
        proxy=ProxyConfig(
            vocab_size=300,
            seq_len=16,
            batch_size=4,
            held_out_sequences=16,
            warm_up_steps=3,
            candidate_steps=2,
            probe_steps=2,
        ),
        winner_steps=2,
        comparison_steps=0,
        executor="local",
    )


@pytest.fixture(scope="session")
def transformers(tmp_path_factory):
    """The package, offline and with a cache of its own; it takes some seconds to import."""
    import os

    os.environ |= {
        "HF_HOME": str(tmp_path_factory.mktemp("huggingface")),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    import transformers
    import triton  # noqa: F401  # in its interpreter, whatever a test says of TRITON_INTERPRET later

    return transformers


@pytest.fixture
def opnas(monkeypatch, capsys):
    """Run the command line in this process: ``code, out, err = opnas("inspect", "bert/1")``."""
    from runtime.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["opnas", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, tiny_options):
    """The folder of a tiny search that was carried to its end; not to be written."""
    import contextlib
    import io
    import sys

    from runtime.cli import main

    folder = tmp_path_factory.mktemp("runs") / "finished"
    arguments = sys.argv
    sys.argv = ["opnas", "search", "--out", str(folder), *tiny_options]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.argv = arguments
    return folder
