"""Steps as clipping rules see them, with as much as a rule reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from foreshock_service.clipping.protocol import Norms, Rule
from foreshock_service.clipping.registry import make_rule, values_of


def step(
    total: float | None = None,
    l2: Sequence[float | None] = (),
    *,
    abs_max: Sequence[float | None] | None = None,
    weights: Sequence[float] = (),
    last: Sequence[bool] = (),
    number: int = 0,
) -> Norms:
    """A step; None in `l2` or `abs_max` is a tensor without a gradient."""
    given = l2 if abs_max is None else abs_max
    present = np.array([value is not None for value in given], np.bool_)
    norms = np.array([math.nan if value is None else value for value in given], np.float64)
    return Norms(
        step=number,
        total=total,
        present=present,
        l2=norms,
        abs_max=norms,
        weights=np.array(weights or [math.nan] * len(norms), np.float64),
        last=np.array(last or [False] * len(norms), np.bool_),
    )


def rule(name: str, **given: float) -> Rule:
    """A fresh rule with its defaults but for those given."""
    return make_rule(name, values_of(name, given))
