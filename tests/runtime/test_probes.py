"""The probe tasks: each can be solved by who reads, and by nobody who guesses."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from graphir import InputError
from runtime.calibration.backbones import known_backbones
from runtime.masking import IGNORED
from runtime.mixed_proxy import mixed_score
from runtime.probe_training import ProbeTraining, fresh_model, train_on_probe
from runtime.probes import BLANK, BRACKET_KINDS, FIRST, PROBES, probe
from runtime.proxy_config import PROXY_SPACE, TASKS, ProxyConfig
from runtime.run_config import RunConfig
from runtime.special_tokens import MASK

BATCH = 64


def drawn(name, seed=0):
    return next(probe(name).batches(BATCH, seed))


def look_up(row):
    """Recall by hand: the value that stands behind the same key where it is not hidden."""
    shown = {row[i]: row[i + 1] for i in range(0, len(row), 3) if row[i + 1] != MASK}
    return {i + 1: shown[row[i]] for i in range(0, len(row), 3) if row[i + 1] == MASK}


def copy(row):
    tokens = [token for token in row if token not in (BLANK, MASK)]
    return dict(zip((i for i, token in enumerate(row) if token == MASK), tokens, strict=True))


SOLVERS = {"recall": look_up, "noisy-recall": look_up, "copying": copy}


@pytest.mark.parametrize("name", SOLVERS)
def test_who_reads_solves_it(name):
    batch = drawn(name)
    for row, labels in zip(batch.input_ids.tolist(), batch.labels.tolist(), strict=True):
        hidden = {place: label for place, label in enumerate(labels) if label != IGNORED}
        assert SOLVERS[name](row) == hidden


def test_a_text_of_brackets_is_balanced_and_no_pair_is_hidden_whole():
    batch = drawn("brackets")
    whole = torch.where(batch.labels != IGNORED, batch.labels, batch.input_ids).tolist()
    for row, labels in zip(whole, batch.labels.tolist(), strict=True):
        stack, widths, hidden_widths = [], [], []
        for place, token in enumerate(row):
            if token < FIRST + BRACKET_KINDS:
                stack.append((place, token))
                continue
            opened, kind = stack.pop()
            hidden = (labels[opened] != IGNORED) + (labels[place] != IGNORED)
            assert kind + BRACKET_KINDS == token
            assert hidden < 2
            widths.append(place - opened)
            hidden_widths += [place - opened] * hidden
        assert not stack
        assert hidden_widths
        assert min(hidden_widths) > 1 or max(widths) == 1  # a bracket beside its partner is not asked for


@pytest.mark.parametrize("name", PROBES)
def test_the_same_seed_gives_the_same_batches_and_another_seed_others(name):
    first, again, other = drawn(name), drawn(name), drawn(name, seed=1)
    assert torch.equal(first.input_ids, again.input_ids)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.input_ids, other.input_ids)


@pytest.mark.parametrize("name", PROBES)
def test_batches_have_the_shape_and_the_tokens_that_the_probe_says(name):
    task, batch = PROBES[name], drawn(name)
    assert batch.input_ids.shape == (BATCH, task.seq_len)
    assert int(batch.labels.max()) < task.vocab_size
    assert int(batch.input_ids.max()) < task.vocab_size
    assert torch.equal(batch.input_ids == MASK, batch.labels != IGNORED)


@pytest.mark.parametrize("name", ["recall", "noisy-recall", "copying"])
def test_no_answer_is_commoner_than_another(name):
    counts = Counter()
    batches = probe(name).batches(256, seed=3)
    for _ in range(4):
        labels = next(batches).labels
        counts.update(labels[labels != IGNORED].tolist())
    total = sum(counts.values())
    assert len(counts) == PROBES[name].answers
    # Values repeat within a sequence, so that a count varies like one of total / 2 draws; five deviations.
    share = 1 / PROBES[name].answers
    assert max(abs(count / total - share) for count in counts.values()) < 5 * (2 * share / total) ** 0.5


def test_an_unknown_probe_is_told_with_the_nearest_one():
    with pytest.raises(InputError, match="recall"):
        probe("recal")
    with pytest.raises(InputError, match="the proxy must be mlm"):
        ProxyConfig(task="recal")


def test_every_task_of_a_proxy_is_a_probe_or_a_mix_or_language():
    assert set(TASKS) - set(PROBES) == {"mlm", "mix"}


def test_a_search_from_before_there_were_probes_goes_on_with_language_alone():
    written = RunConfig().to_dict()
    older = {n: v for n, v in written["proxy"].items() if not n.startswith(("task", "probe"))}
    assert RunConfig.from_dict({**written, "proxy": older}).proxy.task == "mlm"
    assert RunConfig.from_dict(written).proxy.task == "mix"


def test_a_score_is_the_mean_of_losses_as_parts_of_ignorance():
    ignorance = {"mlm": math.log(512), "recall": PROBES["recall"].guess_loss}
    assert mixed_score(ignorance, vocab_size=512) == pytest.approx(-1.0)
    assert mixed_score({**ignorance, "mlm": 0.0}, vocab_size=512) == pytest.approx(-0.5)
    assert mixed_score({"recall": 0.0}, vocab_size=512) == 0.0


def test_a_loss_that_is_worse_than_guessing_counts_as_guessing():
    assert mixed_score({"recall": 5.0}, 512) == mixed_score({"recall": 3.0}, 512) == -1.0


def test_a_guess_knows_how_often_each_answer_is_shown():
    losses = []
    for row, labels in zip(
        *(t.tolist() for t in (drawn("recall").input_ids, drawn("recall").labels)), strict=True
    ):
        shown = Counter(row[i + 1] for i in range(0, len(row), 3) if row[i + 1] != MASK)
        losses += [-math.log(shown[label] / shown.total()) for label in labels if label != IGNORED]
    # 64 sequences of 7 hidden values, whose losses deviate by 0.35 and are alike within a sequence: 0.05 at most.
    assert PROBES["recall"].guess_loss == pytest.approx(sum(losses) / len(losses), abs=0.15)


def test_where_an_answer_need_not_be_shown_a_guess_knows_nothing():
    assert PROBES["brackets"].guess_loss == pytest.approx(math.log(4))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_training_on_a_probe_is_the_same_twice_and_leaves_the_global_generator(one_thread):
    backbone = known_backbones(PROXY_SPACE)["short-convolutions"]
    state = torch.random.get_rng_state()
    training = ProbeTraining(steps=3, held_out_batches=1)
    found = [train_on_probe(backbone, PROBES["recall"], 5, training)[0] for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(state, torch.random.get_rng_state())


def test_fresh_weights_have_the_deviation_that_is_said():
    model = fresh_model(known_backbones(PROXY_SPACE)["bert"], PROBES["recall"], 0)
    deviations = {
        name: float(weight.detach().std()) for name, weight in model.named_parameters() if weight.ndim == 2
    }
    for name, deviation in deviations.items():
        assert deviation == pytest.approx(0.02 if "position" in name else 0.125, rel=0.1), name


@pytest.mark.long
def test_attention_behind_a_convolution_solves_recall_and_convolutions_do_not(one_thread):
    found = {
        name: train_on_probe(known_backbones(PROXY_SPACE)[name], PROBES["recall"], 0)[0]["accuracy"]
        for name in ("plain-behind-convolution", "convolutions", "bert")
    }
    assert found["plain-behind-convolution"] > 0.9
    assert max(found["convolutions"], found["bert"]) < 0.6
