"""Thresholds: every number of a rule, with its unit, so that it can be listed, set and scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final, Literal, Self

Unit = Literal["octaves", "sigmas", "times", "share", "rows", "steps", "count", "value"]


class Sensitivity(StrEnum):
    """How far something must leave its normal before it is told."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


STRETCH: Final = {Sensitivity.LOW: 1.5, Sensitivity.NORMAL: 1.0, Sensitivity.HIGH: 0.75}
"""By how much distances grow: octaves and multiples of a spread, and the logarithm of factors.

Shares, levels of a number format and numbers of rows stay as they are: they are what a thing is,
not how far it has gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One number of a rule; `sentence` says what it bounds, `guard` that it keeps a rule quiet."""

    name: str
    default: float
    unit: Unit
    sentence: str
    guard: bool


def threshold(default: float, unit: Unit, sentence: str, *, guard: bool = False) -> Any:
    """A field of a detector's thresholds. Sensitivity leaves a `guard` alone."""
    return field(default=default, metadata={"unit": unit, "sentence": sentence, "guard": guard})


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """The numbers of one detector; every field is made by `threshold`."""

    @classmethod
    def described(cls) -> tuple[Threshold, ...]:
        """All of them, in the order of the rule."""
        defaults = cls()
        return tuple(
            Threshold(
                name=item.name,
                default=getattr(defaults, item.name),
                unit=item.metadata["unit"],
                sentence=item.metadata["sentence"],
                guard=item.metadata["guard"],
            )
            for item in fields(cls)
        )

    def at(self, sensitivity: Sensitivity) -> Self:
        """The same rule, further from the normal or nearer to it."""
        stretch = STRETCH[sensitivity]
        return replace(
            self, **{f.name: _stretched(f, getattr(self, f.name), stretch) for f in fields(self)}
        )

    def changed(self, values: Mapping[str, Any]) -> Self:
        """With some of them replaced.

        Raises:
            ValueError: an unknown name, or a value of the wrong kind.
        """
        known = {f.name: f for f in fields(self)}
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"no threshold is called {name}; there are {', '.join(known)}")
            checked[name] = _checked(known[name], value)
        return replace(self, **checked)


def _stretched(item: Field[Any], value: float, stretch: float) -> float:
    unit, guard = item.metadata["unit"], item.metadata["guard"]
    if guard or stretch == 1.0:
        return value
    if unit in ("octaves", "sigmas"):
        return value * stretch
    return float(value**stretch) if unit == "times" else value


def _checked(item: Field[Any], value: Any) -> float:
    unit = item.metadata["unit"]
    whole = unit in ("rows", "steps", "count")
    wanted = "a whole number" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{item.name} must be {wanted}, not {value!r}")
    # A window of no rows or a streak of none would be no rule at all.
    smallest, largest = float(unit == "rows"), 1.0 if unit == "share" else 1e6
    if not smallest <= value <= largest:
        raise ValueError(
            f"{item.name} must lie between {smallest:g} and {largest:g}, not {value!r}"
        )
    if whole and value != int(value):
        raise ValueError(f"{item.name} must be {wanted}, not {value!r}")
    return int(value) if whole else float(value)
