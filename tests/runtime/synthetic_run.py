"""The folder of a search that never ran: random backbones, mutations and scores, as many as a test asks for."""

import json
from dataclasses import replace
from random import Random

from evolution import Candidate, SearchSpace, Study, random_backbone
from evolution.candidate import Mutation
from evolution.loop import DUPLICATES
from evolution.mutation import mutate_backbone
from evolution.priority import OperationPriority
from evolution.rows import insert_row, to_row
from evolution.seal import Seal, write_seal
from runtime.proxy_config import ProxyConfig
from runtime.run import Run
from runtime.run_config import RunConfig

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=32, max_nodes=6)
"""Small, as the placing of large graphs takes most of a test's time."""
PROXY = ProxyConfig(seq_len=32, batch_size=8)


def synthetic_candidates(count, space=SPACE, seed=0, population=6):
    """``count`` candidates: a random start, then children of the better ones; every ninth fails."""
    rng = Random(seed)
    uniform = OperationPriority.uniform(space.operations)
    found, good = [], []
    for index in range(count):
        parent, mutation = None, None
        if index < population or not good:
            backbone = random_backbone(rng, space)
        else:
            parent = max(rng.sample(good, min(4, len(good))), key=lambda i: found[i].score)
            backbone, mutation = mutate_backbone(found[parent].backbone, rng, space, uniform)
        failed = index % 9 == 8
        score = None if failed else -5.0 + rng.gauss(0, 0.2) + (0 if parent is None else index / count)
        found.append(
            Candidate(
                index,
                replace(backbone, name=f"candidate-{index}"),
                f"hash {index}",
                f"fingerprint {index}",
                seed=index,
                parent=parent,
                mutation=mutation,
                status="failed" if failed else "ok",
                score=score,
                metrics={DUPLICATES: 1.0} | ({} if failed else {"accuracy": rng.random(), "loss": -score}),
                seconds=1.5,
                reason=("TrainingDiverged: the loss of step 3 is nan" if index % 2 else "it hung")
                if failed
                else None,
            )
        )
        if not failed:
            good.append(index)
    return found


def synthetic_run(folder, candidates, **changes):
    """A run whose study holds ``candidates``, all committed at once."""
    run = Run.create(folder, RunConfig(**({"candidates": 40, "space": SPACE, "proxy": PROXY} | changes)))
    with run.open_study() as study:
        fill(study, candidates)
    return run


def fill(study: Study, candidates):
    """Put candidates into an empty study by one transaction: ten thousand commits would take a minute."""
    connection, seal = study._connection, Seal()
    connection.execute("BEGIN IMMEDIATE")
    for candidate in candidates:
        row = to_row(candidate)
        seal = seal.after(row)
        insert_row(connection, study.version, row, seal.digest)
        operation = candidate.mutation and candidate.mutation.operation
        if operation is not None:
            connection.execute("INSERT INTO draws VALUES (?, ?)", (candidate.index, operation))
    write_seal(connection, seal)
    connection.execute("COMMIT")


def hostile_candidates(text):
    """Candidates with ``text`` wherever a study takes any text at all."""
    first, second, third, *_ = synthetic_candidates(9)
    mutation = Mutation(kind=text, description=text, operation=text, layer=1)
    return [
        replace(first, metrics={text: 0.5, "accuracy": 0.5}),
        replace(second, parent=0, mutation=mutation, score=0.0, metrics={"accuracy": 0.5, text: 0.25}),
        replace(third, status="failed", score=None, reason=text),
    ]


def write_winner(run, index, metrics):
    """What a search leaves of its winner beside the model."""
    run.best_path.mkdir()
    (run.best_path / "candidate.json").write_text(json.dumps({"index": index, "metrics": metrics}))
