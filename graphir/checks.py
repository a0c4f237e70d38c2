"""Checks of single values: numbers within bounds, or an error that names the value, the bounds and what came."""

from __future__ import annotations

import math
from typing import Any

from graphir.errors import InputError, OpnasError


def check_whole(
    value: Any, name: str, low: int = 1, high: int | None = None, error: type[OpnasError] = InputError
) -> None:
    """Refuse anything but a whole number from ``low`` to ``high``, both included; None for no upper bound.

    Raises:
        OpnasError: of the kind ``error``.

    Example:
        >>> check_whole(True, "heads", high=64)
        Traceback (most recent call last):
        graphir.errors.InputError: heads must be a whole number from 1 to 64, not True
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise error(f"{name} must be a whole number {bounds}, not {excerpt(value)}")


def check_number(
    value: Any, name: str, low: float = 0.0, high: float | None = None, above: bool = False
) -> None:
    """Refuse anything but a finite number from ``low`` to ``high``; with ``above``, ``low`` itself is refused too.

    Raises:
        InputError: naming the value.

    Example:
        >>> check_number(0, "rate", high=1, above=True)
        Traceback (most recent call last):
        graphir.errors.InputError: rate must be a number above 0 and at most 1, not 0
    """
    number = isinstance(value, int) and not isinstance(value, bool)
    number = number or (isinstance(value, float) and math.isfinite(value))
    if not number or value < low or (above and value == low) or (high is not None and value > high):
        if above:
            bounds = f"above {low:g}" + ("" if high is None else f" and at most {high:g}")
        else:
            bounds = f"of at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise InputError(f"{name} must be a number {bounds}, not {excerpt(value)}")


def excerpt(value: Any, limit: int = 60) -> str:
    """A value of unknown origin for an error message: short whatever it is."""
    if isinstance(value, str):
        return repr(value if len(value) <= limit else value[: limit - 3] + "...")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**18:
        return "a huge number"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    return {"list": "a list", "dict": "an object"}.get(type(value).__name__, type(value).__name__)
