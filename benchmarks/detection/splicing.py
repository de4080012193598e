"""A fault in the recording of a healthy run: what every one has, whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import STATISTICS
from foreshock_service.detectors.layout import layout_of
from foreshock_service.pipeline.session import DetectionSession

from benchmarks.detection.recordings import Recording
from benchmarks.detection.told import Alert, alerts_from
from benchmarks.detection.transforms import of_kind, with_scalars
from benchmarks.zoo.score import Outcome, Run, outcomes_of, score_run

LEAST_ROWS: Final = 150
FIRST_SHARE: Final = 0.6
"""Of the rows, before the fault begins: baselines have been learned by then."""
LEAST_PROGRESS: Final = 0.05
"""Of the first losses: a run that has gained less has nothing to lose."""
COLUMN: Final = {name: i for i, name in enumerate(STATISTICS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spliced:
    """A recording with its fault's label; `layers` is empty where no tensor is to blame."""

    recording: Recording
    kind: str
    onset_step: int
    layers: tuple[str, ...]
    pace: str = "fast"

    @property
    def event(self) -> dict[str, Any]:
        """The label, as the zoo writes it."""
        return {
            "kind": self.kind,
            "onset_step": self.onset_step,
            "valid_from": self.onset_step,
            "end_step": None,
            "visible_step": None,
            "pace": self.pace,
            "layers": list(self.layers),
            "accept_kinds": [],
        }

    def outcome(self, session: DetectionSession, first: int) -> Outcome:
        """What becomes of the fault, by the zoo's rules. The session has seen the rows before
        `first`, on which nothing differs; it is fed as far as the deadline."""
        run = Run(id=self.recording.id, steps=self.recording.steps, events=(self.event,))
        (outcome,) = outcomes_of(run)
        alerts: list[Alert] = []
        for frame in self.recording.frames(first):
            if frame.step > outcome.deadline:
                break
            alerts += alerts_from(self.recording.id, session.push(frame).changes)
        (outcome,) = score_run(run, alerts).outcomes
        return outcome


Splice = Callable[[Recording, int], Spliced | None]
"""From a healthy run and a row: the same run with a fault from that row on, None where the run has
nothing that could have it."""


def first_row(recording: Recording) -> int | None:
    """Where faults begin in a run; None if it is too short for a baseline and a deadline."""
    return int(FIRST_SHARE * recording.num_rows) if recording.num_rows >= LEAST_ROWS else None


def middle_of(run: Recording, kind: str, first: int) -> int | None:
    """The matrix of a kind halfway up the network that is alive before the row and at it."""
    layout = layout_of(run.schema)
    spread = run.stats[:, :, COLUMN["std"]]
    with np.errstate(invalid="ignore"):
        alive = ((spread[:first] > 0).sum(axis=0) >= 0.2 * first) & (spread[first] > 0)
    # The input's embedding and the output have rules of their own, so the inner ones come first.
    which = np.flatnonzero(of_kind(run, kind) & layout.is_matrix & alive & ~layout.is_output)
    if not which.size:
        return None
    return int(which[np.argsort(layout.depth[which], kind="stable")][len(which) // 2])


def measured_row(run: Recording, kind: str, first: int) -> int:
    """The first row from there on, on which the kind is measured: cadences leave rows out."""
    which = of_kind(run, kind)
    if not which.any():
        return first
    there = np.flatnonzero(~np.isnan(run.stats[first:, which, 1]).all(axis=1))
    return first + (int(there[0]) if there.size else 0)


def only(run: Recording, index: int) -> npt.NDArray[np.bool_]:
    """One series of all [N]."""
    return np.asarray(np.arange(len(run.schema.series)) == index)


def progress_of(run: Recording, first: int) -> float | None:
    """What a run's loss has gained before a row; None where that is next to nothing."""
    if "loss" not in run.scalars:
        return None
    before = run.scalars["loss"][:first]
    before = before[np.isfinite(before)]
    start = float(np.median(before[:10]))
    progress = start - float(np.median(before[-20:]))
    return progress if progress > LEAST_PROGRESS * abs(start) else None


def with_statistics(run: Recording, stats: npt.NDArray[np.float32]) -> Recording:
    """The recording with other statistics, and the gradient norm that they make; on a row without
    gradients it is as many times as large as on the row before."""
    gradients = of_kind(run, "gradient")

    def squares(table: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        mean, spread, count = (
            table[:, gradients, COLUMN[name]].astype(np.float64)
            for name in ("mean", "std", "count")
        )
        return np.asarray(np.nansum((mean**2 + spread**2) * count, axis=1))

    before, after = squares(run.stats), squares(stats)
    measured = np.flatnonzero(before > 0)
    ratio = np.ones(run.num_rows)
    if measured.size:
        newest = np.searchsorted(measured, np.arange(run.num_rows), side="right") - 1
        rows = measured[np.maximum(newest, 0)]
        ratio = np.where(newest >= 0, np.sqrt(after[rows] / before[rows]), 1.0)
    return replace(
        run, stats=stats, scalars=with_scalars(run, "grad_norm", lambda norm: norm * ratio)
    )
