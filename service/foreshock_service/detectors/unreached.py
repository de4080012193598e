"""Unreached: weights to which no gradient comes any more.

- `update_too_small`, a warning: a matrix that had a gradient on 24 rows has none, absent and not
  zero, on 6 rows on which others have theirs, and on three times as many as it or a sibling ever
  came back from, while its module still runs. It was frozen, or left out of the graph. Names the
  matrices.
- `vanishing_gradient`, a warning: the same of two matrices or more that are all that lies before
  them on the way from the input. The path is cut behind the last of them, which is named first.
- `vanishing_gradient`, critical: all gradients have been exactly zero on 6 rows, or on 24 if there
  were others on fewer than 24 rows before, and the loss is not zero. Names nobody.

What is frozen from the start has no gradient at all; a module that does not run, as an expert that
is not chosen or the head of another task, needs none; rows without any gradient say nothing, nor do
skipped steps.
Source: ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import ACTIVATION, GRADIENT, Indices, Layout
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.pauses import Pauses
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, all_of, any_of
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "unreached"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreachedThresholds(Thresholds):
    """The numbers of the rules above."""

    rows: int = threshold(6, "rows", "so long must a gradient be absent, or all of them zero")
    longest: float = threshold(
        3.0, "times", "and beyond the longest pause that it came back from", guard=True
    )
    had_rows: int = threshold(24, "rows", "on which the matrix had a gradient before", guard=True)
    path: int = threshold(2, "count", "matrices at the input that make a path which is cut")


class Unreached:
    """Watches for gradients that are not made any more."""

    name = NAME
    thresholds = UnreachedThresholds

    def __init__(self, limits: UnreachedThresholds | None = None) -> None:
        self._limits = limits or UnreachedThresholds()
        self._had = SeriesMemory("rows", "idle")
        self._absent = Pauses()
        self._output_of = PerLayout(_output_of)
        self._zero_rows, self._zero_since = 0, 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row = baselines.layout, baselines.row
        matrices = layout.matrices[GRADIENT]
        there = row.measured[matrices]
        if frame.skipped or not any_of(there):
            return []
        self._had.align(layout)
        had = np.fmax(self._had["rows"][matrices], 0.0)
        found = self._all_zero(frame, baselines, matrices[there], had)
        if not all_of(there) or self._absent.streaks.running:
            found += self._lost(frame, baselines, matrices, had)
        self._had["rows"][matrices] = had + (row.abs_max[matrices] > 0)
        return found

    def _all_zero(
        self, frame: Frame, baselines: Baselines, matrices: Indices, had: Floats
    ) -> list[Finding]:
        loss = frame.scalars.get("loss")
        if any_of(baselines.row.abs_max[matrices] > 0) or baselines.row.bad[matrices].any():
            self._zero_rows = 0
            return []
        if loss == 0:
            return []
        if self._zero_rows == 0:
            self._zero_since = frame.step
        self._zero_rows += 1
        limits = self._limits
        if self._zero_rows < (limits.rows if had.max() >= limits.had_rows else limits.had_rows):
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="vanishing_gradient",
                severity=Severity.CRITICAL,
                statistic="abs_max",
                value=0.0,
                onset_step=self._zero_since,
                evidence={"cause": "nought"},
            )
        ]

    def _lost(
        self, frame: Frame, baselines: Baselines, matrices: Indices, had: Floats
    ) -> list[Finding]:
        layout, limits = baselines.layout, self._limits
        absent, judged = np.zeros((2, layout.num_series), np.bool_)
        judged[matrices] = had >= limits.had_rows
        absent[matrices] = ~baselines.row.measured[matrices]
        self._absent.update(layout, pauses=absent & judged, measured=judged, step=frame.step)
        self._follow_modules(layout, baselines.row.measured)
        lost = self._absent.unusual(layout, rows=limits.rows, factor=limits.longest)
        lost[matrices] &= ~self._is_idle(layout, matrices)
        if not any_of(lost):
            return []
        reached = matrices[~absent[matrices]]
        is_path = (
            lost.sum() >= limits.path and layout.depth[lost].max() < layout.depth[reached].min()
        )
        return series_findings(
            frame,
            lost,
            order=layout.flow,
            detector=NAME,
            kind="vanishing_gradient" if is_path else "update_too_small",
            severity=Severity.WARNING,
            statistic="rms",
            value=np.zeros(layout.num_series),
            baseline=np.exp2(baselines.value("centre")),
            since=self._absent.streaks.since,
            evidence={"cause": "no gradient"},
        )

    def _follow_modules(self, layout: Layout, measured: Bools) -> None:
        """Which outputs were missing when outputs were measured last."""
        outputs = layout.indices[ACTIVATION]
        if any_of(measured[outputs]):
            self._had["idle"][outputs] = ~measured[outputs]

    def _is_idle(self, layout: Layout, matrices: Indices) -> Bools:
        """Whether the modules of matrices do not run [matrices]; those without an output do."""
        output = self._output_of.of(layout)[matrices]
        return np.asarray((output >= 0) & (self._had["idle"][output] == 1.0))

    def state(self) -> State:
        """The rows, the pauses, and since when all gradients have been zero."""
        return {
            "had": self._had.state(),
            "absent": self._absent.state(),
            "zero": [self._zero_rows, self._zero_since],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._had.restore(state["had"])
        self._absent.restore(state["absent"])
        self._zero_rows, self._zero_since = (int(n) for n in state["zero"])


def _output_of(layout: Layout) -> Indices:
    """The index of the output of each parameter's module [series], -1 where there is none."""
    outputs = {layout.keys[i][1]: int(i) for i in layout.indices[ACTIVATION]}
    return np.array([outputs.get(name.rpartition(".")[0], -1) for _, name in layout.keys], np.int64)
