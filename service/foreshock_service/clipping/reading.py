"""Frames as the norms that clipping rules read, and what is known against taking them for such."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import FrameFlag, SeriesSchema, measured_flag

from foreshock_service.clipping.protocol import Floats, Mask, Need, Norms, grown
from foreshock_service.domain.frames import Frame

NORM: Final = "grad_norm"
PARTIAL: Final = "grad_norm/watched"
"""What the client calls the norm of a part of the gradients: it is not the model's."""
MEASURED: Final = measured_flag("gradient")
SAME: Final = 0.01
"""Norms of different origin, one logged and one of statistics, are equal within 1 %."""
CEILING_SHARE: Final = 0.2
"""So many steps at the largest norm of the run are a limit, not chance."""

_STATISTICS: Final = ("count", "mean", "std", "min", "max", "nan_count", "inf_count")

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Where a schema's gradients and weights are in its table, and their tensors' places."""

    gradients: Indices
    gradient_places: Indices
    weights: Indices
    weight_places: Indices
    columns: dict[str, int]


class NormReader:
    """Turns a run's frames into norms, tensors keeping their places over changes of schema."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.num_frames = self.num_skipped = self.num_unmeasured = self.num_resumed = 0
        self.num_total = self.num_summed = self.num_larger = self.num_at_top = 0
        self.saw_partial = False
        self._places: dict[str, int] = {}
        self._last: Mask = np.zeros(0, np.bool_)
        self._weights: Floats = np.zeros(0)
        self._schema: SeriesSchema | None = None
        self._rows: _Rows | None = None
        self._attempt: int | None = None
        self._top = 0.0

    def read(self, frame: Frame) -> Norms | None:
        """The norms of a step; None for one that loss scaling skipped, or without any gradient."""
        self.num_frames += 1
        if self._attempt is not None and frame.attempt != self._attempt:
            self.num_resumed += 1
        self._attempt = frame.attempt
        rows = self._take_schema(frame.schema)
        present, l2, abs_max = self._tensors(frame, rows)
        self._keep_weights(frame, rows)
        if frame.flags & FrameFlag.SKIPPED:
            self.num_skipped += 1
            return None
        total = self._total(frame, present, l2)
        if not present.any():
            self.num_unmeasured += 1
            if total is None:
                return None
        return Norms(
            step=frame.step,
            total=total,
            present=present,
            l2=l2,
            abs_max=abs_max,
            weights=self._weights,
            last=self._last,
        )

    def caveats(self, needs: Collection[Need]) -> list[str]:
        """What is known against these norms, for a rule that needs them, as sentences."""
        found = []
        of_total, of_tensors = Need.TOTAL in needs, set(needs) != {Need.TOTAL}
        read = self.num_frames - self.num_skipped
        if self.num_skipped:
            found.append(
                f"{_steps(self.num_skipped)} that loss scaling skipped were left out: no update "
                "was made of them"
            )
        if self.num_unmeasured and of_tensors:
            found.append(
                f"{_steps(self.num_unmeasured)} of {read} have no gradient statistics: rules that "
                "judge tensors have not seen them"
            )
        if self.num_resumed:
            found.append(
                f"the run was resumed {_times(self.num_resumed)}: each rule goes on with what it "
                "knew, as if it had been saved with the checkpoint"
            )
        if self.num_larger and of_tensors:
            found.append(
                f"on {_steps(self.num_larger)} of {self.num_total} the logged {NORM} is larger "
                "than the gradients add up to: they were measured after clipping, or not all of "
                "them were, so that rules that judge tensors see less than there was; call "
                "watch.grads_ready() before clipping"
            )
        if self.num_summed and of_total:
            found.append(
                f"on {_steps(self.num_summed)} no {NORM} was logged: it was taken from the "
                "gradients that are measured"
            )
        if self.num_total >= 20 and self.num_at_top >= CEILING_SHARE * self.num_total:
            found.append(
                f"{_steps(self.num_at_top)} of {self.num_total} have the same largest norm, "
                f"{self._top:.4g}: it looks clipped already; call watch.grads_ready() before "
                "clipping, or log what clip_grad_norm_ returns as grad_norm"
            )
        return found

    def _take_schema(self, schema: SeriesSchema) -> _Rows:
        if self._rows is not None and schema is self._schema:
            return self._rows
        gradients = [i for i, s in enumerate(schema.series) if s.kind == "gradient"]
        for i in gradients:
            name = schema.series[i].name
            if name not in self._places:
                self._places[name] = len(self.names)
                self.names.append(name)
        self._weights = grown(self._weights, len(self.names), math.nan)
        deepest = max((schema.series[i].depth for i in gradients), default=-1)
        last = np.zeros(len(self.names), np.bool_)
        for i in gradients:
            last[self._places[schema.series[i].name]] = schema.series[i].depth == deepest
        self._last = last
        weights = [
            i for i, s in enumerate(schema.series) if s.kind == "weight" and s.name in self._places
        ]
        self._rows = _Rows(
            gradients=np.array(gradients, np.intp),
            gradient_places=self._of(schema, gradients),
            weights=np.array(weights, np.intp),
            weight_places=self._of(schema, weights),
            columns={name: i for i, name in enumerate(schema.statistics)},
        )
        self._schema = schema
        return self._rows

    def _of(self, schema: SeriesSchema, rows: list[int]) -> Indices:
        return np.array([self._places[schema.series[i].name] for i in rows], np.intp)

    def _tensors(self, frame: Frame, rows: _Rows) -> tuple[Mask, Floats, Floats]:
        present = np.zeros(len(self.names), np.bool_)
        l2, abs_max = np.full((2, len(self.names)), math.nan)
        if rows.gradients.size and set(_STATISTICS) <= rows.columns.keys():
            table = frame.stats[rows.gradients].astype(np.float64)
            there, norms, largest = _norms(table, rows.columns)
            present[rows.gradient_places] = there
            l2[rows.gradient_places] = norms
            abs_max[rows.gradient_places] = largest
        return present, l2, abs_max

    def _keep_weights(self, frame: Frame, rows: _Rows) -> None:
        if not rows.weights.size or not set(_STATISTICS) <= rows.columns.keys():
            return
        table = frame.stats[rows.weights].astype(np.float64)
        there, norms, _ = _norms(table, rows.columns)
        self._weights = self._weights.copy()
        self._weights[rows.weight_places[there]] = norms[there]

    def _total(self, frame: Frame, present: Mask, l2: Floats) -> float | None:
        self.saw_partial |= PARTIAL in frame.scalars
        total = frame.scalars.get(NORM)
        if total is not None and total < 0:
            total = None  # no norm at all
        known = present.any()
        summed = float(np.sqrt((l2[present] ** 2).sum())) if known else math.nan
        if total is None:
            if not known or PARTIAL in frame.scalars:
                return None
            self.num_summed += 1
            total = summed
        elif known and math.isfinite(total) and math.isfinite(summed):
            self.num_larger += total > summed * (1.0 + SAME)
        self.num_total += 1
        if math.isfinite(total) and total > 0:
            if total > self._top * 1.001:
                self._top, self.num_at_top = total, 0
            self.num_at_top += total >= self._top * 0.999
        return total


def _norms(table: Floats, column: dict[str, int]) -> tuple[Mask, Floats, Floats]:
    """Of rows [tensors, statistics]: which were measured, their l2 norms and largest elements."""
    nan, inf = table[:, column["nan_count"]], table[:, column["inf_count"]]
    there = ~np.isnan(nan)
    finite = np.maximum(table[:, column["count"]] - nan - inf, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        rms = np.hypot(table[:, column["mean"]], table[:, column["std"]])
        l2 = np.where(finite > 0, rms, 0.0) * np.sqrt(finite)
        ends = np.maximum(np.abs(table[:, column["min"]]), np.abs(table[:, column["max"]]))
        abs_max = np.where(finite > 0, ends, 0.0)
    for values in (l2, abs_max):
        values[there & (inf > 0)] = math.inf
        values[~there | (nan > 0)] = math.nan
    return there, l2, abs_max


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
