"""Numbers within bounds, and what is said of others."""

import math

import pytest

from graphir import GraphError, InputError
from graphir.checks import check_number, check_whole, excerpt


@pytest.mark.parametrize("value", [1, 7, 64])
def test_a_whole_number_within_bounds_is_taken(value):
    check_whole(value, "size", high=64)


@pytest.mark.parametrize("value", [0, 65, -1, 2.0, True, "3", None, math.nan, [1], 10**400])
def test_anything_else_is_refused_with_name_bounds_and_value(value):
    with pytest.raises(InputError, match="size must be a whole number from 1 to 64, not ") as caught:
        check_whole(value, "size", high=64)
    assert len(str(caught.value)) < 120


def test_the_kind_of_error_can_be_chosen():
    with pytest.raises(GraphError, match="of at least 3"):
        check_whole(2, "size", low=3, error=GraphError)


@pytest.mark.parametrize("value", [0, 0.5, 1, 10**17, 10**400])
def test_a_finite_number_is_taken(value):
    check_number(value, "rate")


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, True, "1", None])
def test_what_is_no_finite_number_within_bounds_is_refused(value):
    with pytest.raises(InputError, match="rate must be a number of at least 0, not "):
        check_number(value, "rate")


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        ({"above": True}, 0, "above 0, not 0"),
        ({"above": True, "high": 1}, 1.5, "above 0 and at most 1, not 1.5"),
        ({"high": 1}, -0.5, "from 0 to 1, not -0.5"),
    ],
)
def test_the_bounds_are_said_as_they_are(bounds, value, message):
    with pytest.raises(InputError, match=message):
        check_number(value, "rate", **bounds)


@pytest.mark.parametrize("value", ["x" * 10_000, 10**400, list(range(10_000)), {"a": "b" * 1000}, object()])
def test_an_excerpt_is_short_whatever_it_is_of(value):
    assert len(excerpt(value)) <= 62
