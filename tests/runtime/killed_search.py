"""A search with a pool of processes, to be killed: ``python -m tests.runtime.killed_search STUDY CANDIDATES``.

Prints the number of each candidate after its commit.
"""

import sys
from pathlib import Path

from evolution import SearchSpace, Study, make_strategy, search
from runtime.executors.processes import ProcessPool
from tests.runtime.executor_evaluators import Scrambled


def main(path, candidates):
    space = SearchSpace(layers=3, hidden_size=16, heads=2, ffn_size=16)
    strategy = make_strategy("opnas", population=20, parents=3, children=4)
    with Study.open(path) if path.exists() else Study.create(path) as study, ProcessPool(2) as pool:
        pool.serve(Scrambled(0.01))
        search(
            study,
            space,
            strategy,
            pool,
            candidates=candidates,
            seed=0,
            budget=1,
            on_candidate=lambda candidate: print(candidate.index, flush=True),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
