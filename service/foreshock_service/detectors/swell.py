"""Swells: the gradient norm comes to a level above all that it was.

`gradient_spike`, a warning: the median of the newest 8 norms is 1.74 times the largest of the 100
before them. A spike has to stand out among norms that differ by an order of magnitude; a level need
not. Learning takes gradients up and down again more slowly, so that their largest goes along.

Names the gradients that have grown by an octave more than the median one, and nobody where all did.
Quiet while the loss falls, and once less than a hundredth of the first losses is left, where one
hard batch after another is nothing; on skipped steps; on rows that lie further apart than those
before. Begins anew where layers thaw, which makes it a norm of more tensors.
Source: ours; 2 of 400 sound runs came so far, both where somebody changed the task without a word.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import by_size_then_flow, run_finding, series_findings
from foreshock_service.detectors.layout import GRADIENT
from foreshock_service.detectors.membership import Membership
from foreshock_service.detectors.norms import gradient_norm, num_gradients
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import middle
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window, median
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "swell"


@dataclass(frozen=True, slots=True, kw_only=True)
class SwellThresholds(Thresholds):
    """The numbers of the rule above."""

    octaves: float = threshold(0.8, "octaves", "the new level above the largest norm before")
    rows: int = threshold(8, "rows", "that make the level")
    before_rows: int = threshold(100, "rows", "that the largest is of")
    alone_octaves: float = threshold(
        1.0,
        "octaves",
        "a gradient above the median one, as both have grown, to be named",
        guard=True,
    )
    first_rows: int = threshold(100, "rows", "before there is one")


class Swell:
    """Watches the level of the gradient norm."""

    name = NAME
    thresholds = SwellThresholds

    def __init__(self, limits: SwellThresholds | None = None) -> None:
        self._limits = limits or SwellThresholds()
        self._members = Membership()
        self._clear()

    def _clear(self) -> None:
        self._norms = Window(self._limits.rows + self._limits.before_rows)
        self._steps = Window(self._limits.rows + self._limits.before_rows)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row."""
        norm, limits = gradient_norm(frame, baselines), self._limits
        if norm is None or frame.skipped:
            return []
        if self._members.grows(num_gradients(baselines)):
            self._clear()
        self._norms.add(norm)
        self._steps.add(frame.step)
        norms, factor = self._norms.values(), 2.0**limits.octaves
        newest, before = norms[-limits.rows :], norms[: -limits.rows]
        # The largest of the newest must stand above each before: most rows are done with one.
        if len(before) < limits.first_rows or max(newest) <= factor * before[-1]:
            return []
        level, largest = median(newest), max(before)
        if level <= factor * largest or self._is_explained(baselines):
            return []
        first = next(i for i, value in enumerate(newest, len(before)) if value > largest)
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="gradient_spike",
                severity=Severity.WARNING,
                statistic="grad_norm",
                value=level,
                baseline=largest,
                score=math.log2(level / largest),
                onset_step=int(self._steps[first]),
            ),
            *self._leading(frame, baselines, int(self._steps[first])),
        ]

    def _leading(self, frame: Frame, baselines: Baselines, since: int) -> list[Finding]:
        """The gradients that rose, if the others did not: what all do, nobody did."""
        layout, growth = baselines.layout, baselines.growth()
        matrices = layout.matrices[GRADIENT]
        known = growth[matrices]
        known = known[np.isfinite(known)]
        if known.size < 2:
            return []
        others = middle(known) + self._limits.alone_octaves
        leading = layout.kind_masks[GRADIENT] & layout.is_matrix & (growth > others)
        return series_findings(
            frame,
            leading,
            order=by_size_then_flow(leading, growth, layout.flow),
            detector=NAME,
            kind="gradient_spike",
            severity=Severity.WARNING,
            statistic="rms",
            value=baselines.row.rms,
            baseline=np.exp2(baselines.value("slow")),
            score=growth,
            since=np.full(layout.num_series, since),
        )

    def _is_explained(self, baselines: Baselines) -> bool:
        """By learning, by what is next to nothing, or by rows that lie further apart."""
        progress, steps = baselines.progress, self._steps.values()
        apart = steps[-1] - steps[-self._limits.rows] > steps[-self._limits.rows] - steps[0]
        return apart or progress.needs_nothing

    def state(self) -> State:
        """The windows."""
        return {
            "norms": self._norms.state(),
            "steps": self._steps.state(),
            "members": self._members.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._norms.restore(state["norms"])
        self._steps.restore(state["steps"])
        self._members.restore(state["members"])
