"""A study of as many candidates as a test asks for, made in seconds: rows of a few hundred real backbones, repeated."""

import sqlite3
import zlib
from contextlib import closing
from random import Random

from evolution import Candidate, Mutation, SearchSpace, Study, mutate_backbone, random_backbone
from evolution.priority import OperationPriority
from evolution.rows import COLUMNS, to_row
from evolution.seal import Seal, write_seal

SPACE = SearchSpace(layers=4, hidden_size=64, heads=4, ffn_size=128)
"""As large as that of a search by default."""
METRICS = {
    "accuracy": 0.1234567890123,
    "loss": 5.123456789,
    "parameters": 412345.0,
    "tokens_per_second": 51234.5678,
}
BACKBONES, MUTATIONS = 300, 30


def make_large_study(path, count, space=SPACE):
    """A study of ``count`` candidates with random scores; every tenth failed.

    Returns:
        The scores by index, None for those that failed.
    """
    rng = Random(1)
    uniform = OperationPriority.uniform(space.operations)
    rows = []
    for _ in range(BACKBONES):
        backbone = random_backbone(rng, space)
        for _ in range(MUTATIONS):  # graphs grow with mutations
            backbone, mutation = mutate_backbone(backbone, rng, space, uniform)
        mutation = Mutation("insert", mutation.description, "neg", mutation.layer)
        rows.append(
            to_row(Candidate(0, backbone, "0" * 32, "0" * 32, 0, 0, mutation, "ok", 0.5, METRICS, 1.5))
        )
    packed = [zlib.compress(row[2].encode()) for row in rows]
    scores = [None if index % 10 == 9 else rng.uniform(-6, -4) for index in range(count)]
    Study.create(path).close()
    seal, complete = Seal(), []
    for index, score in enumerate(scores):
        row = rows[index % BACKBONES]
        status, reason = (
            ("ok", None) if score is not None else ("failed", "TrainingDiverged: the loss is nan")
        )
        own = (index, f"candidate-{index}", row[2], f"{index:032x}", f"{index:032x}", index)
        made = (index // 2, row[7]) if index else (None, None)
        row = (*own, *made, status, score, row[10], 1.5, reason)
        seal = seal.after(row)
        complete.append((*row[:2], packed[index % BACKBONES], *row[3:], seal.digest))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        marks = ", ".join("?" for _ in range(len(COLUMNS) + 1))
        connection.executemany(f"INSERT INTO candidates VALUES ({marks})", complete)
        connection.executemany("INSERT INTO draws VALUES (?, 'neg')", [(i,) for i in range(1, count)])
        write_seal(connection, seal)
        connection.commit()
    return scores
