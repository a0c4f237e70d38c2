"""Settings of a pretraining: bounds, and the course of the learning rate."""

import math

import pytest
import torch

from graphir import InputError
from runtime.pretraining.settings import Pretraining
from runtime.training import Recipe, Updater


@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.5, 1.0])
def test_linear_decay_is_that_of_a_search(warm_up):
    settings = Pretraining(steps=17, learning_rate=0.03, warm_up=warm_up)
    updater = Updater([torch.zeros(2, requires_grad=True)], 17, Recipe(learning_rate=0.03, warm_up=warm_up))
    for step in range(17):
        (expected,) = {group["lr"] for group in updater.optimizer.param_groups}
        assert settings.learning_rate_at(step) == pytest.approx(expected, rel=1e-12)
        updater.optimizer.step()
        updater.schedule.step()


def test_cosine_decay_falls_along_half_a_wave():
    settings = Pretraining(steps=50, learning_rate=0.5, warm_up=0.2, decay="cosine")
    rates = [settings.learning_rate_at(step) for step in range(50)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert rates[10:] == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 40)) for step in range(40)])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("seq_len", 2),
        ("batch_size", 1.5),
        ("accumulate", 5),  # does not divide 32
        ("learning_rate", math.nan),
        ("warm_up", 1.1),
        ("decay", "sudden"),
        ("masking", "sentence"),
        ("precision", "float8"),
        ("dropout", 1.0),
        ("beta2", 1.0),
        ("max_positions", 64),  # below seq_len
        ("device", "cuda:1"),
        ("gradient_checkpointing", "yes"),
    ],
)
def test_what_is_out_of_bounds_is_named(field, value):
    with pytest.raises(InputError, match=field):
        Pretraining(**{field: value})


def test_settings_survive_json():
    settings = Pretraining(steps=3, masking="word", max_positions=512)
    assert Pretraining.from_dict(settings.to_dict()) == settings
    with pytest.raises(InputError, match=r"unknown field 'step'.*steps"):
        Pretraining.from_dict({"step": 3})
