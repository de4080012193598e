"""The values that a threshold may take in the search, and where the search begins.

The defaults were set by somebody who had seen labelled runs, so that the grid takes nothing of
them but their order of magnitude: its middle is the power of two nearest to the default (of the
odds, for a share), and around it lie a half, 0.7, 1.4 and twice that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.detectors.thresholds import Threshold

STEPS: Final = (-1.0, -0.5, 0.0, 0.5, 1.0)
"""In octaves around the middle."""
WHOLE: Final = ("rows", "steps", "count")
FORMATS: Final = frozenset(
    {("precision", "largest"), ("precision", "least_normal"), ("formats", "rounding")}
)
"""What a number format is, and not a choice."""

Values = tuple[tuple[str, float], ...]
"""Some thresholds of one detector by name, in the order of the grid."""
Point = dict[str, dict[str, float]]
"""Values by detector and threshold, as a configuration has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One threshold's candidates, ascending; `middle` is the one in which nothing was chosen."""

    detector: str
    name: str
    values: tuple[float, ...]
    middle: float


def axes(detectors: Iterable[str]) -> list[Axis]:
    """An axis for each threshold of these detectors."""
    return [
        axis_of(detector, item)
        for detector in detectors
        for item in DETECTORS[detector].thresholds.described()
        if (detector, item.name) not in FORMATS
    ]


def axis_of(detector: str, item: Threshold) -> Axis:
    """The candidates of one threshold."""
    odds = item.unit == "share" and 0 < item.default < 1
    size = item.default / (1 - item.default) if odds else item.default
    centre = round(math.log2(size)) if size > 0 else 0
    values = [_value(item, 2.0 ** (centre + step), odds=odds) for step in STEPS]
    return Axis(
        detector=detector,
        name=item.name,
        values=tuple(sorted(set(values))),
        middle=_value(item, 2.0**centre, odds=odds),
    )


def _value(item: Threshold, size: float, *, odds: bool) -> float:
    if item.unit in WHOLE:
        return max(1, round(size))
    if item.unit == "times":
        return max(1.0, size)
    return size / (1 + size) if odds else size


def middle(grid: Iterable[Axis]) -> Point:
    """The point from which every search begins."""
    return _point((axis, axis.middle) for axis in grid)


def anywhere(grid: Iterable[Axis], *, seed: int) -> Point:
    """A point drawn from the grid."""
    draw = np.random.default_rng(seed)
    return _point((axis, axis.values[draw.integers(len(axis.values))]) for axis in grid)


def _point(chosen: Iterable[tuple[Axis, float]]) -> Point:
    point: Point = {}
    for axis, value in chosen:
        point.setdefault(axis.detector, {})[axis.name] = value
    return point


def moved(point: Mapping[str, Mapping[str, float]], axis: Axis, value: float) -> Point:
    """The same point with one threshold elsewhere."""
    changed = {detector: dict(values) for detector, values in point.items()}
    changed.setdefault(axis.detector, {})[axis.name] = value
    return changed


def values_of(point: Mapping[str, Mapping[str, float]], detector: str) -> Values:
    """A detector's part of a point."""
    return tuple(point.get(detector, {}).items())


def document_of(point: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The point as the document of a configuration."""
    return {"thresholds": {detector: dict(values) for detector, values in point.items()}}
