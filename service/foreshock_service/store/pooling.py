"""Pools the columns of pieces, in order, into the columns of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foreshock_service.store.columns import FrameColumns
from foreshock_service.store.extent import Extent

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """The columns of an answer: shape [columns]; `width` is frames a column.

    `step`, `attempt` and `wall_time` are those of a column's first frame; a resumed run's steps go
    back.
    """

    width: int
    ord: Ints
    step: Ints
    attempt: Ints
    wall_time: Doubles


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where a piece's columns go: `source` columns in groups that begin at `starts`, each pooled
    into one column of `into`."""

    source: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    into: npt.NDArray[np.intp]


class Pool:
    """Minimum, maximum, mean and marks of `num_rows` rows in the columns of an extent."""

    def __init__(self, extent: Extent, num_rows: int) -> None:
        self._extent = extent
        columns = extent.num_columns
        self.low = np.full((num_rows, columns), np.nan)
        self.high = np.full((num_rows, columns), np.nan)
        self.nonfinite = np.zeros((num_rows, columns), bool)
        self._total = np.zeros((num_rows, columns))
        self._weight = np.zeros((num_rows, columns))
        self._step = np.full(columns, -1, np.int64)
        self._attempt = np.zeros(columns, np.int64)
        self._wall_time = np.full(columns, np.nan)

    def place(self, columns: FrameColumns) -> Target:
        """Where the columns of a piece go; a column wider than the answer's goes into several."""
        extent = self._extent
        first = np.maximum(columns.ord0, extent.from_ord) // extent.width - extent.first_column
        ends = np.minimum(columns.ord1, extent.to_ord) - 1
        last = np.maximum(ends // extent.width - extent.first_column, first)
        repeats = last - first + 1
        source = np.repeat(np.arange(len(columns)), repeats)
        offset = np.arange(len(source)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        goes_to = first[source] + offset
        starts = np.flatnonzero(np.diff(goes_to, prepend=-1))
        target = Target(source, starts, goes_to[starts])
        self._name(target, columns)
        return target

    def add(
        self,
        target: Target,
        rows: npt.NDArray[np.bool_],
        low: npt.NDArray[Any],
        high: npt.NDArray[Any],
        mean: npt.NDArray[Any],
        weights: npt.NDArray[Any],
        marked: npt.NDArray[np.bool_],
    ) -> None:
        """Pool [rows, columns of the piece] into the chosen rows; NaN is left out."""
        if not len(target.source):
            return
        at = np.ix_(np.flatnonzero(rows), target.into)
        starts, source = target.starts, target.source
        self.low[at] = np.fmin(self.low[at], np.fmin.reduceat(low[:, source], starts, axis=1))
        self.high[at] = np.fmax(self.high[at], np.fmax.reduceat(high[:, source], starts, axis=1))
        self.nonfinite[at] |= np.logical_or.reduceat(marked[:, source], starts, axis=1)
        # An infinite value is marked and pooled above; it would make every mean infinite.
        known = np.isfinite(mean)
        weight = np.where(known, weights, 0).astype(np.float64)
        total = np.where(known, mean, 0.0) * weight
        self._weight[at] += np.add.reduceat(weight[:, source], starts, axis=1)
        self._total[at] += np.add.reduceat(total[:, source], starts, axis=1)

    def mean(self) -> Doubles:
        """The mean over the frames of each column, NaN without any."""
        weight = self._weight
        mean: Doubles = self._total / np.where(weight > 0, weight, np.nan)
        return mean

    def axis(self) -> Axis:
        """The columns, named by their first frames."""
        return Axis(
            width=self._extent.width,
            ord=self._extent.ords(),
            step=self._step,
            attempt=self._attempt,
            wall_time=self._wall_time,
        )

    def _name(self, target: Target, columns: FrameColumns) -> None:
        new = self._step[target.into] < 0
        into, source = target.into[new], target.source[target.starts[new]]
        self._step[into] = columns.step0[source]
        self._attempt[into] = columns.attempt[source]
        self._wall_time[into] = columns.wall_time[source]
