"""Stops of a real training: the scores at the rungs, and that judging changes nothing."""

import math
import random

import pytest
import torch

from evolution import SearchSpace, Stop, random_backbone
from graphir import InputError
from runtime.corpus import split_corpus
from runtime.proxy import MaskedLanguageModelEvaluator, ProxyConfig, prepare
from runtime.run_config import RunConfig
from runtime.supernet import Supernet

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=32, kernel_sizes=(3, 5), max_nodes=8)
CONFIG = ProxyConfig(vocab_size=300, seq_len=16, batch_size=8, held_out_sequences=24, device="cpu")
BACKBONE = random_backbone(random.Random(0), SPACE)


@pytest.fixture(scope="module")
def evaluator():
    torch.set_num_threads(1)
    words = ("river", "stone", "quick", "lantern", "green", "whisper", "copper", "orbit")
    rng = random.Random(0)
    data = prepare(split_corpus("words", [" ".join(rng.choices(words, k=30)) for _ in range(120)], 0), CONFIG)
    supernet = Supernet.create(SPACE, data.vocab_size, CONFIG.seq_len, seed=0)
    return MaskedLanguageModelEvaluator(supernet, data, CONFIG)


def test_a_candidate_that_is_not_stopped_has_the_score_that_it_has_without_stops(evaluator):
    plain = evaluator.evaluate(BACKBONE, 1, 6)
    judged = evaluator.evaluate(BACKBONE, 1, 6, (Stop(2, -math.inf), Stop(4, -math.inf)))
    assert judged.score == plain.score
    assert judged.metrics["accuracy"] == plain.metrics["accuracy"]
    assert set(judged.metrics) - set(plain.metrics) == {"score_at_2", "score_at_4"}
    assert judged.metrics["score_at_2"] < judged.metrics["score_at_4"] < judged.score  # it learns


def test_a_candidate_is_stopped_only_below_the_score_of_a_stop(evaluator):
    free = evaluator.evaluate(BACKBONE, 1, 6, (Stop(2, -math.inf), Stop(4, -math.inf))).metrics
    equal = evaluator.evaluate(BACKBONE, 1, 6, (Stop(2, free["score_at_2"]), Stop(4, free["score_at_4"])))
    assert "stopped_at" not in equal.metrics
    above = math.nextafter(free["score_at_4"], 0.0)
    stopped = evaluator.evaluate(BACKBONE, 1, 6, (Stop(2, -math.inf), Stop(4, above)))
    assert stopped.metrics["stopped_at"] == 4.0
    assert stopped.score == stopped.metrics["score_at_4"] == free["score_at_4"] == -stopped.metrics["loss"]


def test_the_configuration_of_a_run_keeps_its_rungs_and_older_ones_have_none():
    config = RunConfig(rungs=(10, 20), eta=4)
    assert RunConfig.from_dict(config.to_dict()) == config
    older = RunConfig().to_dict()
    del older["rungs"], older["eta"]
    assert RunConfig.from_dict(older) == RunConfig()
    with pytest.raises(InputError, match="the rung 30 must be below the 30 steps"):
        RunConfig(rungs=(10, 30))
