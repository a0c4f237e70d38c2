"""Reports of fine-tuning."""

import json

import pytest

from graphir import InputError
from runtime.finetuning_config import FineTuning
from runtime.finetuning_report import FineTuningReport, SeedResult, seed_to_keep


def result(seed, accuracy, f1):
    return SeedResult(seed, {"accuracy": accuracy, "f1": f1, "other": -seed}, 0.5, 10, 1.0)


def test_the_seed_to_keep_is_the_best_or_the_median_of_the_mean_metric():
    results = [result(0, 0.5, 0.7), result(1, 0.9, 0.1), result(2, 0.6, 0.9), result(3, 0.8, 0.7)]
    # means: 0.6, 0.5, 0.75, 0.75
    assert seed_to_keep(results, ("accuracy", "f1"), "best") == 2
    assert seed_to_keep(results, ("accuracy", "f1"), "median") == 0
    assert seed_to_keep(results[:3], ("accuracy", "f1"), "median") == 0


def test_one_seed_has_no_deviation():
    report = FineTuningReport("X", FineTuning(), (result(0, 0.5, 0.7),), 0, (1, 1))
    assert report.deviation == {"accuracy": None, "f1": None, "other": None}
    assert json.loads(json.dumps(report.to_dict()))["deviation"]["f1"] is None
    assert report.table().splitlines()[1].split() == ["accuracy", "0.5000", "0.5000", "-"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("epochs", float("nan")),
        ("batch_size", 0),
        ("max_length", 7),
        ("warm_up", 1.0),
        ("precision", "float64"),
        ("keep", "worst"),
        ("seeds", ()),
        ("seeds", (1, 1)),
        ("seeds", (-1,)),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=field.removesuffix("s")):
        FineTuning(**{field: value})
