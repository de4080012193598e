"""Numbers as people's files hold them, and what is no number."""

from __future__ import annotations

import math
from typing import Any, Final

from foreshock_service.errors import Unreadable

MAX_STEP: Final = (1 << 63) - 1
_NOT_LOGGED: Final = frozenset({"", "none", "null", "n/a", "na", "-"})
_MAX_DIGITS: Final = 400
"""Longer numbers are beyond float64 in any notation, and slow to read."""


def number(value: Any) -> float | None:
    """A logged value; None where nothing was logged. `nan` and `inf` are values, and a number
    beyond float64 is infinite.

    Raises:
        ValueError: it is no number.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        raise ValueError("a truth value")
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _NOT_LOGGED:
            return None
        if len(text) > _MAX_DIGITS or "_" in text:
            raise ValueError("no number")
        return float(text)
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return math.copysign(math.inf, value)
    raise ValueError(f"of type {type(value).__name__}")


def whole_step(value: Any, where: str) -> int | None:
    """A step as logged; None where there is none.

    Raises:
        Unreadable: it is no whole number from 0 up.
    """
    if type(value) is int and 0 <= value <= MAX_STEP:
        return value
    try:
        found = int(value) if isinstance(value, str) and value.strip().isdigit() else number(value)
    except ValueError:
        found = math.nan
    if found is None:
        return None
    if not math.isfinite(found) or found != int(found) or not 0 <= found <= MAX_STEP:
        raise Unreadable(f"{where}: step {str(value)[:40]!r} is no whole number from 0 up")
    return int(found)
