"""Priorities of every family of choices, in every form, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from evolution import (
    Candidate,
    Mutation,
    Priorities,
    PriorityForm,
    SearchSpace,
    mutate_backbone,
    random_backbone,
)
from evolution.backbone_choices import BackboneChoices
from evolution.priority import ranks
from graphir import AttentionGraph, AttentionLayer, Backbone, ConvLayer
from tests.evolution.additive_space import AdditiveSpace

SPACE = SearchSpace(layers=2, hidden_size=16, heads=2, ffn_size=16, kernel_sizes=(3, 5, 7))


def layer(what: int | str):
    return ConvLayer(what) if isinstance(what, int) else AttentionLayer(AttentionGraph.from_expression(what))


def candidate(index: int, first: int | str, second: int | str, score: float | None, drawn=()) -> Candidate:
    backbone = Backbone((layer(first), layer(second)), 16, 2, 16)
    mutation = Mutation("kind", "a test", drawn=drawn) if drawn else None
    status = "failed" if score is None else "ok"
    return Candidate(index, backbone, str(index), str(index), 0, None, mutation, status, score)


HISTORY = [
    candidate(0, 3, "softmax(Q)", 0.2),
    candidate(1, 5, 3, 0.4, (("kernel_size", "3"),)),
    candidate(2, "-K", "softmax(-K)", 0.9, (("kind", "attention"),)),
    candidate(3, 5, 5, None, (("kind", "conv"), ("kernel_size", "5"))),
]


def test_kinds_and_kernel_sizes_have_priorities_as_operations_do():
    form = PriorityForm(alpha=0.5, scores="raw")
    plain = Priorities.from_history(HISTORY, BackboneChoices(SPACE), form).plain
    bonus = 0.5 * math.sqrt(2 * math.log(2))  # two draws in each family, each choice drawn once or not at all
    assert plain["kind"].values == pytest.approx({"attention": 1.1 / 2 + bonus, "conv": 0.6 / 2 + bonus})
    # 7 was never seen: it has the largest mean of the others.
    assert plain["kernel_size"].values == pytest.approx(
        {"3": 0.3 + bonus, "5": 0.4 + bonus, "7": 0.4 + bonus}
    )
    assert plain["operation"].values["softmax"] == pytest.approx(1.1 / 2)
    assert plain["operation"].values["neg"] == pytest.approx(0.9)


def test_counting_candidates_gives_the_bonus_by_how_many_contain_a_choice():
    form = PriorityForm(alpha=1.0, scores="raw", counts="candidates")
    values = Priorities.from_history(HISTORY, BackboneChoices(SPACE), form).plain["kernel_size"].values
    # Of those that succeeded, 3 is in two, 5 in one, 7 in none, which counts as one.
    log_total = math.log(3)
    assert values["3"] == pytest.approx(0.3 + math.sqrt(2 * log_total / 2))
    assert values["5"] == pytest.approx(0.4 + math.sqrt(2 * log_total))
    assert values["7"] == pytest.approx(0.4 + math.sqrt(2 * log_total))


def test_a_position_has_its_own_means_drawn_towards_those_anywhere():
    form = PriorityForm(alpha=0.0, scores="raw", context="position", shrinkage=2.0)
    priorities = Priorities.from_history(HISTORY, BackboneChoices(SPACE), form)
    first, second = (priorities.of("kernel_size", position) for position in (0, 1))
    # 3 has the mean 0.3 anywhere; at the first layer once 0.2, at the second once 0.4. 5 is at the first layer alone.
    assert first.values["3"] == pytest.approx((0.2 + 2 * 0.3) / 3)
    assert second.values["3"] == pytest.approx((0.4 + 2 * 0.3) / 3)
    assert second.values["5"] == pytest.approx(0.4)
    assert priorities.of("kernel_size", 9) == priorities.plain["kernel_size"]


def test_beside_a_neighbour_a_choice_has_its_own_mean():
    form = PriorityForm(alpha=0.0, scores="raw", context="neighbour", shrinkage=0.0)
    priorities = Priorities.from_history(HISTORY, BackboneChoices(SPACE), form)
    # The kind after a convolution: attention once (0.2), a convolution once (0.4); after attention: attention (0.9).
    assert priorities.of("kind", neighbour="conv").values == pytest.approx({"attention": 0.2, "conv": 0.4})
    assert priorities.of("kind", neighbour="attention").values["attention"] == pytest.approx(0.9)
    # neg feeds softmax in candidate 2, and is the output in its first layer.
    assert priorities.of("operation", neighbour="softmax").values["neg"] == pytest.approx(0.9)
    assert priorities.of("operation", neighbour="output").values["softmax"] == pytest.approx(1.1 / 2)


def test_decay_weighs_the_young():
    form = PriorityForm(alpha=0.0, scores="raw", decay=0.5)
    history = HISTORY[:3]
    values = Priorities.from_history(history, BackboneChoices(SPACE), form).plain["kind"].values
    # Weights 1/4, 1/2, 1 of candidates 0, 1, 2.
    assert values["attention"] == pytest.approx((0.25 * 0.2 + 0.9) / 1.25)
    assert values["conv"] == pytest.approx((0.25 * 0.2 + 0.5 * 0.4) / 0.75)


def test_ranks_do_not_mind_how_bad_the_worst_is():
    assert ranks([3.0, 1.0, 3.0, -1e300]) == [2.5, 1.0, 2.5, 0.0]
    assert ranks([]) == []
    form = PriorityForm(scores="ranked")
    first = Priorities.from_history(HISTORY, BackboneChoices(SPACE), form)
    worse = [replace(HISTORY[0], score=-1e6), *HISTORY[1:]]
    assert Priorities.from_history(worse, BackboneChoices(SPACE), form).plain == first.plain


@pytest.mark.parametrize("context", ["none", "position", "neighbour"])
@pytest.mark.parametrize(
    # By uniform draws: a kernel of 7 is put where it does not stand, in two cases of three, one time of two.
    ("family", "loved", "chance"),
    [("kernel_size", "7", 1 / 3), ("kind", "conv", 1 / 2), ("operation", "softsign", 1 / 10)],
)
def test_every_mutation_records_what_was_drawn_and_draws_it_by_priority(family, loved, chance, context):
    rng, space = Random(2), replace(SPACE, layer_mutation_probability=0.7)
    choices = BackboneChoices(space)
    history = []
    for index in range(80):
        backbone = random_backbone(rng, space)
        names = [c.name for c in choices.choices(backbone) if c.family == family]
        score = names.count(loved) / max(1, len(names))
        history.append(Candidate(index, backbone, str(index), "", 0, status="ok", score=score))
    form = PriorityForm(alpha=0.0, temperature=0.02, context=context)
    priorities = Priorities.from_history(history, choices, form)
    drawn = []
    for seed in range(300):
        parent = random_backbone(Random(seed), space)
        child, mutation = mutate_backbone(parent, Random(f"mutation {seed}"), space, priorities)
        assert (mutation.kind in ("kind", "kernel_size")) == (mutation.drawn != ())
        assert set(mutation.draws) <= {(c.family, c.name) for c in choices.choices(child)}
        drawn += [name for which, name in mutation.draws if which == family]
    # By priority nearly always where it can be: twice the chance of a size, and 3/4 of the kinds, since where both
    # layers are convolutions, one can only become attention. With 50 draws 1.25 is what a standard error leaves.
    assert drawn.count(loved) / len(drawn) > 1.25 * chance, len(drawn)


def test_without_a_history_every_draw_is_uniform():
    space = AdditiveSpace(0)
    priorities = Priorities.from_history([], space, PriorityForm(context="position"))
    assert set(priorities.of("option", 3).probabilities().values()) == {1 / 5}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"counts": "all"}, "counts must be draws or candidates, not 'all'"),
        ({"context": "layer"}, "context must be none, position or neighbour, not 'layer'"),
        ({"decay": 0.0}, "decay must be a number above 0 and at most 1, not 0.0"),
        ({"decay": 1.5}, "decay must be a number above 0 and at most 1, not 1.5"),
        ({"shrinkage": -1}, "shrinkage must be a number of at least 0, not -1"),
    ],
)
def test_a_form_out_of_bounds_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PriorityForm(**fields)


def test_a_mutation_is_written_as_before_where_it_has_nothing_new_and_read_either_way():
    old = {"kind": "insert", "description": "neg inserted", "operation": "neg", "layer": 2}
    mutation = Mutation("insert", "neg inserted", "neg", 2)
    assert mutation.to_dict() == old
    assert Mutation.from_dict(old) == mutation
    new = Mutation("crossover", "of both", drawn=(("kernel_size", "5"),), mate=3)
    assert Mutation.from_dict(new.to_dict()) == new
    assert new.draws == (("kernel_size", "5"),)
    assert mutation.draws == (("operation", "neg"),)


@pytest.mark.parametrize("drawn", [3, [["a"]], [["a", 1]], "ab", None, {"a": "b"}])
def test_what_was_drawn_is_checked_when_it_is_read(drawn):
    data = {"kind": "a", "description": "b", "operation": None, "layer": None, "drawn": drawn}
    with pytest.raises(ValueError, match="drawn"):
        Mutation.from_dict(data)
