"""Steady rises: gradients that are larger on each row than on the one before.

`explosion`, a warning: the gradient of a matrix has risen on 48 measured rows one after another (a
fall by less than 3 % counts as a rise) and is 8 times as large as on the first of them, not by one
leap, while the loss does not fall. Batches differ, and so do their gradients: what rises on each
row is summed up over the rows, or feeds itself. Of a rise along a straight line the sentence says
that the gradients add up, as those do that nobody clears; one that feeds itself becomes steeper.

What has become steeper since the first 8 rows leaves a saddle, as one batch of all data does, and
is quiet. Skipped steps say nothing. Names the matrices that rose the furthest, the first in the
flow of those that rose alike.
Source: ours. Sound runs, of one batch of all data too, reach 8 times within 30 rows of their start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import by_size_then_flow, series_findings
from foreshock_service.detectors.layout import GRADIENT
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, all_of, any_of
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "steady"


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyThresholds(Thresholds):
    """The numbers of the rule above."""

    rows: int = threshold(48, "rows", "on each of which the gradient rises")
    factor: float = threshold(8.0, "times", "the gradient on the first of them")
    first_rows: int = threshold(
        8, "rows", "of a run: what rises since then, and steeper, leaves a saddle", guard=True
    )
    each_half: float = threshold(
        1.2, "times", "in the first half of the rows and since: one leap is no rise", guard=True
    )
    kept: float = threshold(0.97, "share", "of the row before: less is a fall", guard=True)
    steepening: float = threshold(
        2.0,
        "times",
        "a row's rise in the first half: more since is no straight line",
        guard=True,
    )


class Steady:
    """Counts the rows on which each matrix' gradient rises."""

    name = NAME
    thresholds = SteadyThresholds

    def __init__(self, limits: SteadyThresholds | None = None) -> None:
        self._limits = limits or SteadyThresholds()
        self._rise = SeriesMemory("last", "rows", "first", "halfway", "since")

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, limits, rise = baselines.layout, baselines.row, self._limits, self._rise
        rise.align(layout)
        matrices = layout.matrices[GRADIENT]
        now, last = row.rms[matrices], rise["last"][matrices]
        there = now > 0
        if frame.skipped or not any_of(there):
            return []
        rises = there & (now > limits.kept * last)
        rows = np.where(rises, np.fmax(rise["rows"][matrices], 0.0) + 1.0, 0.0)
        seen = slice(None) if all_of(there) else there
        mine, begins, longest = matrices[seen], there & ~rises, np.maximum.reduce(rows)
        rise["last"][mine], rise["rows"][mine] = now[seen], rows[seen]
        if any_of(begins):
            begun = matrices[begins]
            rise["first"][begun], rise["since"][begun] = now[begins], frame.step
        if longest < limits.rows // 2:
            return []
        half = rows == limits.rows // 2
        if any_of(half):
            rise["halfway"][matrices[half]] = now[half]
        if longest < limits.rows or baselines.progress.falls:
            return []
        first = rise["first"][matrices]
        steady = there & (rows >= limits.rows) & (now > limits.factor * first)
        if not any_of(steady):
            return []
        halfway = rise["halfway"][matrices]
        steady &= (halfway > limits.each_half * first) & (now > limits.each_half * halfway)
        # What gets steeper from the first rows on leaves a saddle, of one batch of all data.
        begins = baselines.value("seen")[matrices] - rows < limits.first_rows
        steady &= ~begins | self._is_line(now, first, halfway, rows)
        if not any_of(steady):
            return []
        told = np.zeros(layout.num_series, np.bool_)
        told[matrices] = steady
        octaves = np.log2(row.rms / rise["first"])
        order = by_size_then_flow(told, octaves, layout.flow)
        foremost = int(np.argmin(np.where(told, order, np.inf)))
        is_line = self._is_line(row.rms, rise["first"], rise["halfway"], rise["rows"])
        return series_findings(
            frame,
            told,
            order=order,
            detector=NAME,
            kind="explosion",
            severity=Severity.WARNING,
            statistic="steady",
            value=row.rms,
            baseline=rise["first"],
            score=octaves,
            since=np.nan_to_num(rise["since"]).astype(np.int64),
            evidence={
                "rows": int(rise["rows"][foremost]),
                "cause": "adds up" if is_line[foremost] else "rises",
            },
        )

    def _is_line(self, now: Floats, first: Floats, halfway: Floats, rows: Floats) -> Bools:
        """Whether gradients since the first half rose no more than in it, row for row."""
        half = self._limits.rows // 2
        before = (halfway - first) / half
        return np.asarray((now - halfway) / (rows - half) < self._limits.steepening * before)

    def state(self) -> State:
        """The rises."""
        return {"rise": self._rise.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._rise.restore(state["rise"])
