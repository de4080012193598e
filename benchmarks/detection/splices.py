"""Faults put into the recording of a healthy run, each at a known row and in a known tensor.

Only the statistics of the tensors in question change (and the gradient norm with gradients), as a
sensor would see a fault that nothing has answered yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from benchmarks.detection.ramps import RAMPS
from benchmarks.detection.recordings import Recording
from benchmarks.detection.splicing import (
    COLUMN,
    Splice,
    Spliced,
    measured_row,
    middle_of,
    only,
    progress_of,
    with_statistics,
)
from benchmarks.detection.transforms import of_kind, scaled, with_scalars

DRIFT_A_ROW: Final = 0.05
DEAD_ZEROS: Final = 0.97
DEAD_UNITS: Final = 0.9


def _in_one(kind: str, fault: str, change: Callable[[Recording, int, int], Recording]) -> Splice:
    def apply(run: Recording, first: int) -> Spliced | None:
        first = measured_row(run, kind, first)
        index = middle_of(run, kind, first)
        if index is None:
            return None
        return Spliced(
            recording=change(run, index, first),
            kind=fault,
            onset_step=int(run.steps[first]),
            layers=(run.schema.series[index].name,),
            pace="slow" if fault in ("vanishing_gradient", "dead_units") else "fast",
        )

    return apply


def _larger(factor: float) -> Callable[[Recording, int, int], Recording]:
    return lambda run, index, first: replace(
        run, stats=scaled(run, only(run, index), factor, first)
    )


def _larger_gradient(factor: float) -> Callable[[Recording, int, int], Recording]:
    return lambda run, index, first: with_statistics(
        run, scaled(run, only(run, index), factor, first)
    )


def _put(**values: float) -> Callable[[Recording, int, int], Recording]:
    def change(run: Recording, index: int, first: int) -> Recording:
        stats = run.stats.copy()
        for name, value in values.items():
            column = stats[first:, index, COLUMN[name]]
            stats[first:, index, COLUMN[name]] = np.where(np.isnan(column), column, value)
        return replace(run, stats=stats)

    return change


def _largest_element(factor: float) -> Callable[[Recording, int, int], Recording]:
    def change(run: Recording, index: int, first: int) -> Recording:
        stats = run.stats.copy()
        extremes = stats[first:, index][:, [COLUMN["min"], COLUMN["max"]]]
        stats[first:, index, COLUMN["max"]] = factor * np.abs(extremes).max(axis=1)
        return replace(run, stats=stats)

    return change


def _updates(factor: float) -> Splice:
    def apply(run: Recording, first: int) -> Spliced | None:
        first = measured_row(run, "update", first)
        which = of_kind(run, "update")
        if not which.any() or middle_of(run, "update", first) is None:
            return None
        return Spliced(
            recording=replace(run, stats=scaled(run, which, factor, first)),
            kind="update_too_large",
            onset_step=int(run.steps[first]),
            layers=(),
        )

    return apply


def _batch(factor: float, fault: str, *kinds: str) -> Splice:
    """One row on which all tensors of some kinds are larger, and the gradient norm with them."""

    def apply(run: Recording, first: int) -> Spliced | None:
        row, which = measured_row(run, kinds[0], first), of_kind(run, *kinds)
        if not which.any():
            return None
        here, stats = np.arange(run.num_rows) == row, run.stats.copy()
        stats[row] = scaled(run, which, factor, row)[row]
        scalars = with_scalars(run, "grad_norm", lambda x: np.where(here, factor * x, x))
        return Spliced(
            recording=replace(run, stats=stats, scalars=scalars),
            kind=fault,
            onset_step=int(run.steps[row]),
            layers=(),
        )

    return apply


def _loss_lost(run: Recording, first: int) -> Spliced | None:
    """The loss stands where it began, with its noise, for good."""
    progress = progress_of(run, first)
    if progress is None:
        return None
    loss = run.scalars["loss"].copy()
    loss[first:] += progress
    return Spliced(
        recording=replace(run, scalars={**run.scalars, "loss": loss}),
        kind="divergence",
        onset_step=int(run.steps[first]),
        layers=(),
    )


def _log_z(run: Recording, first: int) -> Spliced | None:
    if "log_z" not in run.scalars:
        return None
    values = run.scalars["log_z"].copy()
    values[first:] += DRIFT_A_ROW * np.arange(1, run.num_rows - first + 1)
    return Spliced(
        recording=replace(run, scalars={**run.scalars, "log_z": values}),
        kind="output_logit_drift",
        onset_step=int(run.steps[first]),
        layers=(),
        pace="slow",
    )


def _dead(run: Recording, index: int, first: int) -> Recording:
    """Few units still answer, so that the size goes with the root of their share."""
    smaller = scaled(run, only(run, index), float(np.sqrt(1 - DEAD_ZEROS)), first)
    return _put(zero_frac=DEAD_ZEROS, inactive_unit_frac=DEAD_UNITS)(
        replace(run, stats=smaller), index, first
    )


SPLICES: Final[dict[str, Splice]] = {
    "weight x 1.05": _in_one("weight", "weight_corruption", _larger(1.05)),
    "weight x 1.5": _in_one("weight", "weight_corruption", _larger(1.5)),
    "a weight's largest element x 3": _in_one("weight", "weight_corruption", _largest_element(3.0)),
    "gradient exactly zero": _in_one(
        "gradient",
        "vanishing_gradient",
        _put(mean=0.0, std=0.0, min=0.0, max=0.0, zero_frac=1.0),
    ),
    "NaN in one activation": _in_one("activation", "non_finite", _put(nan_count=1.0)),
    "updates x 4": _updates(4.0),
    "updates x 10": _updates(10.0),
    "one gradient x 30": _in_one("gradient", "gradient_spike", _larger_gradient(30.0)),
    "one gradient x 200": _in_one("gradient", "gradient_spike", _larger_gradient(200.0)),
    "update exactly zero": _in_one(
        "update",
        "update_too_small",
        _put(mean=0.0, std=0.0, min=0.0, max=0.0, zero_frac=1.0),
    ),
    "all gradients x 30 once": _batch(30.0, "gradient_spike", "gradient"),
    "a batch x 6 once": _batch(6.0, "bad_batch", "activation"),
    "loss back at its start": _loss_lost,
    "log Z drifts": _log_z,
    "an activation x 8": _in_one("activation", "explosion", _larger(8.0)),
    "zeroed units": _in_one("activation", "dead_units", _dead),
    **RAMPS,
}
