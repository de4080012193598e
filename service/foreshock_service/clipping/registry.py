"""Every clipping rule, one a line, and how a rule is made of the numbers that a user gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from foreshock_service.clipping.adagc import AdaGC
from foreshock_service.clipping.agc import Agc
from foreshock_service.clipping.autoclip import AutoClip
from foreshock_service.clipping.component_wise import ComponentWise
from foreshock_service.clipping.fira import Fira
from foreshock_service.clipping.fixed import Fixed
from foreshock_service.clipping.olmo import Olmo
from foreshock_service.clipping.protocol import Rule
from foreshock_service.clipping.stable_spam import StableSpam
from foreshock_service.clipping.zclip import ZClip

RULES: Final[dict[str, type[Rule]]] = {
    "fixed": Fixed,
    "zclip": ZClip,
    "autoclip": AutoClip,
    "adagc": AdaGC,
    "olmo": Olmo,
    "agc": Agc,
    "component_wise": ComponentWise,
    "stable_spam": StableSpam,
    "fira": Fira,
}


def values_of(name: str, given: Mapping[str, float]) -> dict[str, float]:
    """Every parameter of a rule: what is given, else its default.

    Raises:
        ValueError: there is no such rule or parameter, or a value is outside its range.
    """
    if name not in RULES:
        raise ValueError(f"no clipping rule is called {name[:64]!r}; there are {', '.join(RULES)}")
    parameters = RULES[name].parameters
    for key, value in given.items():
        if key not in parameters:
            raise ValueError(
                f"{name} has no parameter {key[:64]!r}; it has {', '.join(parameters)}"
            )
        parameter = parameters[key]
        if not math.isfinite(value) or not parameter.low <= value <= parameter.high:
            raise ValueError(
                f"{name}: {key} must be between {parameter.low:g} and {parameter.high:g}, "
                f"and is {value:g}"
            )
        if parameter.whole and value != int(value):
            raise ValueError(f"{name}: {key} must be a whole number, and is {value:g}")
    return {key: float(given.get(key, item.default)) for key, item in parameters.items()}


def make_rule(name: str, values: Mapping[str, float]) -> Rule:
    """A fresh rule of these values, as `values_of` gives them."""
    return RULES[name](values)
