"""Inputs: what the first layer is given becomes larger or smaller, and stays so.

A linear layer's output is as large as its weight and its input together, so that output over weight
is the size of the input, as the layer sees it. `bad_batch`, a warning that names the first layer:
that size has moved by 2 octaves from its level of about 128 measured rows, on 3 of them, while the
weight itself is within an octave of its own. A scale that changed, a sensor that drifts, statistics
that are no longer divided by.

The first 24 rows are not looked at, nor does a row move the level that is an octave away. Says
nothing of look-up tables: their rows are the input. A single batch is `spike`'s.
Source: ours; in 273 sound trainings the size stays within 1.8 octaves, for filters come to fit
their data by less than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import ACTIVATION, Layout, weights_of_modules
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "inputs"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputsThresholds(Thresholds):
    """The numbers of the rule above."""

    octaves: float = threshold(2.0, "octaves", "output over weight away from its level")
    rows: int = threshold(3, "rows", "so long must it be")
    weight_octaves: float = threshold(
        1.0, "octaves", "the weight away from its own: then it is not the input", guard=True
    )
    young_rows: int = threshold(24, "rows", "of the run, on which filters find their shape")
    first_rows: int = threshold(6, "rows", "that make a level")
    level_rows: int = threshold(128, "rows", "that it is an average over")
    learn_octaves: float = threshold(
        1.0, "octaves", "what lies further from the level does not move it", guard=True
    )


class Inputs:
    """Watches the output of the first linear layer over its weight."""

    name = NAME
    thresholds = InputsThresholds

    def __init__(self, limits: InputsThresholds | None = None) -> None:
        self._limits = limits or InputsThresholds()
        self._first = PerLayout(_first_layer)
        self._of: tuple[str, str] | None = None
        self._level, self._num_rows = 0.0, 0
        self._away, self._since = 0, 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, limits = baselines.layout, self._limits
        output, weight = self._first.of(layout)
        if output < 0 or baselines.num_rows < limits.young_rows:
            return []
        if layout.keys[output] != self._of:
            self._of, self._num_rows, self._away = layout.keys[output], 0, 0
        logs = baselines.logs()
        size = float(logs[output] - logs[weight])
        if not math.isfinite(size):
            return []
        off = size - self._level if self._num_rows else 0.0
        if abs(off) < limits.learn_octaves:
            self._num_rows = min(self._num_rows + 1, limits.level_rows)
            self._level = size - off + off / self._num_rows
        grown = abs(float(baselines.growth()[weight]))
        known = self._num_rows >= limits.first_rows and grown < limits.weight_octaves
        # Once above and once below are two odd batches, and no other input.
        same_side = self._away == 0 or (off > 0) == (self._away > 0)
        if not known or abs(off) <= limits.octaves or not same_side:
            self._away = 0
            return []
        if self._away == 0:
            self._since = frame.step
        self._away += 1 if off > 0 else -1
        if abs(self._away) < limits.rows:
            return []
        which = np.zeros(layout.num_series, np.bool_)
        which[output] = True
        return series_findings(
            frame,
            which,
            order=layout.depth,
            detector=NAME,
            kind="bad_batch",
            severity=Severity.WARNING,
            statistic="input_size",
            value=np.full(which.size, 2.0**size),
            baseline=np.full(which.size, 2.0**self._level),
            score=np.full(which.size, abs(off)),
            since=np.full(which.size, self._since),
        )

    def state(self) -> State:
        """The level, whose it is, and how long it has been left."""
        return {
            "of": list(self._of or ()),
            "level": [self._level, self._num_rows],
            "away": [self._away, self._since],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        kind_and_name: list[Any] = list(state["of"])
        self._of = (str(kind_and_name[0]), str(kind_and_name[1])) if kind_and_name else None
        self._level, self._num_rows = float(state["level"][0]), int(state["level"][1])
        self._away, self._since = (int(n) for n in state["away"])


def _first_layer(layout: Layout) -> tuple[int, int]:
    """The shallowest activation and its module's weight, or -1 where that is no matrix."""
    activations = layout.indices[ACTIVATION]
    if not activations.size:
        return -1, -1
    output = int(activations[np.argmin(layout.depth[activations])])
    weight = int(weights_of_modules(layout)[output])
    linear = weight >= 0 and layout.is_matrix[weight] and not layout.is_look_up[output]
    return (output, weight) if linear else (-1, -1)
