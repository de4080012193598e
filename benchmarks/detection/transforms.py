"""Healthy runs made odd in ways that are no fault: what is quiet must stay so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import STATISTICS, SeriesSchema

from benchmarks.detection.recordings import Recording

Transform = Callable[[Recording], Recording]

SIZES: Final = ("mean", "std", "min", "max")
"""Statistics that scale with a tensor; the others are shares and counts."""
_COLUMNS: Final = [STATISTICS.index(name) for name in SIZES]
_KEPT: Final = frozenset({"weight", "bias", "gain", "scale"})
_TELLING: Final = ("attn", "attention", "logit", "score", "rank")
"""Words that rules may read: what a tensor is, not what somebody called it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Oddity:
    """A transform, and whether each alert must stay as it was (and not only none be added)."""

    name: str
    apply: Transform
    changes_nothing: bool = False


def rows_taken(recording: Recording, rows: npt.NDArray[np.int64]) -> Recording:
    """These rows alone, in this order; a step that does not go up begins an attempt."""
    steps = recording.steps[rows]
    again = np.concatenate([[0], np.cumsum(np.diff(steps) <= 0)])
    return replace(
        recording,
        steps=steps,
        attempts=np.maximum(recording.attempts[rows], again),
        flags=recording.flags[rows],
        scalars={name: values[rows] for name, values in recording.scalars.items()},
        logged={name: values[rows] for name, values in recording.logged.items()},
        stats=recording.stats[rows],
    )


def scaled(
    recording: Recording, which: npt.NDArray[np.bool_], factor: float, first: int = 0
) -> npt.NDArray[np.float32]:
    """The statistics with the sizes of the series `which` [N] multiplied from a row on."""
    stats = recording.stats.copy()
    part = stats[first:, which]
    with np.errstate(over="ignore"):
        part[:, :, _COLUMNS] *= np.float32(factor)
    stats[first:, which] = part
    return stats


def of_kind(recording: Recording, *kinds: str) -> npt.NDArray[np.bool_]:
    """Which series are of these kinds [N]."""
    return np.array([s.kind in kinds for s in recording.schema.series], np.bool_)


def with_scalars(
    recording: Recording, starts: str, change: Callable[[Any], Any]
) -> dict[str, npt.NDArray[np.float64]]:
    """The scalars, those whose name begins so changed."""
    return {
        name: np.asarray(change(values), np.float64) if name.startswith(starts) else values
        for name, values in recording.scalars.items()
    }


def _every(number: int) -> Transform:
    return lambda run: rows_taken(run, np.arange(0, run.num_rows, number))


def _restarted(run: Recording) -> Recording:
    """At two thirds the run goes back by a tenth, to its last checkpoint."""
    end, back = 2 * run.num_rows // 3, max(5, run.num_rows // 10)
    return rows_taken(run, np.concatenate([np.arange(end), np.arange(end - back, run.num_rows)]))


def _gaps(run: Recording) -> Recording:
    draw = np.random.default_rng(7)
    return rows_taken(run, np.flatnonzero(draw.random(run.num_rows) >= 0.07))


def _loss_missing(run: Recording) -> Recording:
    draw = np.random.default_rng(3)
    there = draw.random(run.num_rows) >= 0.3
    logged = {n: on & there if n.startswith("loss") else on for n, on in run.logged.items()}
    return replace(run, logged=logged)


def _joined(run: Recording) -> Recording:
    return rows_taken(run, np.arange(run.num_rows // 3, run.num_rows))


def _renamed(run: Recording) -> Recording:
    series = tuple(replace(s, name=other_name(s.name)) for s in run.schema.series)
    return replace(run, schema=SeriesSchema(series, run.schema.statistics))


def other_name(name: str) -> str:
    """The same place in the tree under other words."""
    rank, slash, rest = name.rpartition("/")
    parts = [
        p if p in _KEPT or p.isdigit() or any(word in p.lower() for word in _TELLING) else p[::-1]
        for p in rest.split(".")
    ]
    return f"{rank}{slash}{'.'.join(parts)}"


def _gradients_scaled(run: Recording) -> Recording:
    stats = scaled(run, of_kind(run, "gradient", "activation_grad"), 1024.0)
    return replace(run, stats=stats, scalars=with_scalars(run, "grad_norm", lambda x: 1024.0 * x))


def _loss_changed(change: Callable[[Any], Any]) -> Transform:
    return lambda run: replace(run, scalars=with_scalars(run, "loss", change))


ODDITIES: Final = (
    Oddity(name="every 2nd row", apply=_every(2)),
    Oddity(name="every 5th row", apply=_every(5)),
    Oddity(name="restarted", apply=_restarted),
    Oddity(name="7 % of rows missing", apply=_gaps),
    Oddity(name="loss x 100", apply=_loss_changed(lambda x: 100.0 * x)),
    Oddity(name="loss - 5", apply=_loss_changed(lambda x: x - 5.0)),
    Oddity(name="30 % of losses missing", apply=_loss_missing),
    Oddity(name="joined mid-run", apply=_joined),
    Oddity(name="series renamed", apply=_renamed, changes_nothing=True),
    Oddity(
        name="1000 steps later",
        apply=lambda run: replace(run, steps=run.steps + 1000),
    ),
    Oddity(name="loss x 1024", apply=_loss_changed(lambda x: 1024.0 * x), changes_nothing=True),
    Oddity(name="gradients x 1024", apply=_gradients_scaled, changes_nothing=True),
)
